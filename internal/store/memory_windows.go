package store

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/windows"
)

// allocate returns memory that is not Go's, all zeros.
func allocate(size int) []byte {
	address, err := windows.VirtualAlloc(0, uintptr(size), windows.MEM_COMMIT|windows.MEM_RESERVE, windows.PAGE_READWRITE)
	if err != nil {
		panic(fmt.Sprintf("out of memory for the index: %v", err))
	}
	return unsafe.Slice(*(**byte)(unsafe.Pointer(&address)), size) // a pointer that is not the collector's
}

// free gives memory back that allocate has returned.
func free(b []byte) {
	if b != nil {
		_ = windows.VirtualFree(uintptr(unsafe.Pointer(unsafe.SliceData(b))), 0, windows.MEM_RELEASE) // it was allocated
	}
}
