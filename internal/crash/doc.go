// Package crash holds tests only: they run the real meterd, end it in every way a machine can end a process, make
// its disk fail, and then hold it to what it had acknowledged.
//
// Whatever happened, after a restart every acknowledged record is there once, with the id and the quantity of its
// answer; of a call that got no answer either everything is there or nothing; nothing else is there; a replay
// changes nothing; and meterd verify agrees. A service whose disk has failed acknowledges nothing more.
//
// What ends a process leaves the page cache alone, so these tests cannot show that a sync is missing: only that no
// answer is given before those that are made, nor after one that failed. TestPowerCut of package store shows it, and
// TestDiskCut, which has the build tag soak, with a real file system over a block device that logs writes and flushes.
//
// METERD_TEST_CRASH_ROUNDS sets the number of kills under load, METERD_TEST_DISK_CUTS that of power cuts below a file
// system, METERD_TEST_CRASH_SEED repeats a run.
package crash
