package store

import "golang.org/x/sys/unix"

const waitForOwnLock = unix.F_OFD_SETLKW
