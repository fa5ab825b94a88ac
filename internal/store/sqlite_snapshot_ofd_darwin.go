package store

// F_OFD_SETLKW of <sys/fcntl.h>, which the system's public interface does not name.
const waitForOwnLock = 91
