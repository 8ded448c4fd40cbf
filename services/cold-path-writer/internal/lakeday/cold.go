//go:build linux

package lakeday

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"unsafe"

	"golang.org/x/sys/unix"
)

// forget asks the kernel to drop the pages of all files below dir from its cache (posix_fadvise DONTNEED), and tells how many bytes it kept (mincore).
func forget(dir string) (kept int64, err error) {
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		n, err := forgetFile(path)
		kept += n
		return err
	})
	return kept, err
}

func forgetFile(path string) (kept int64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	st, err := f.Stat()
	if err != nil || st.Size() == 0 {
		return 0, err
	}
	fd := int(f.Fd())
	if err := unix.Fadvise(fd, 0, 0, unix.FADV_DONTNEED); err != nil {
		return 0, fmt.Errorf("fadvise %s: %w", path, err)
	}
	data, err := unix.Mmap(fd, 0, int(st.Size()), unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		return 0, fmt.Errorf("mmap %s: %w", path, err)
	}
	defer func() { err = errors.Join(err, unix.Munmap(data)) }()
	page := int64(os.Getpagesize())
	in := make([]byte, (st.Size()+page-1)/page)
	if _, _, e := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&data[0])), uintptr(len(data)), uintptr(unsafe.Pointer(&in[0]))); e != 0 { //nolint:gosec // both outlive the call; x/sys has no wrapper
		return 0, fmt.Errorf("mincore %s: %w", path, e)
	}
	for _, v := range in {
		kept += int64(v&1) * page
	}
	return kept, nil
}
