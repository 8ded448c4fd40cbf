//go:build unix

package objstore

import (
	"errors"
	"os"
	"syscall"
)

// lockFile takes the advisory lock that all processes of this directory share; the kernel drops it when a holder dies.
// It is held for milliseconds.
func lockFile(f *os.File) error {
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
		if !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

func unlockFile(f *os.File) error { return syscall.Flock(int(f.Fd()), syscall.LOCK_UN) }

func isNotDir(err error) bool { return errors.Is(err, syscall.ENOTDIR) }
func isNoSpace(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}
