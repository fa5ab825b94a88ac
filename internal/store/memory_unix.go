//go:build unix

package store

import (
	"fmt"
	"syscall"
)

// allocate returns memory that is not Go's, all zeros.
func allocate(size int) []byte {
	b, err := syscall.Mmap(-1, 0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		panic(fmt.Sprintf("out of memory for the index: %v", err))
	}
	return b
}

// free gives memory back that allocate has returned.
func free(b []byte) {
	if b != nil {
		_ = syscall.Munmap(b) // it was mapped
	}
}
