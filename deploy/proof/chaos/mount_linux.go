package chaos

import (
	"fmt"
	"syscall"
)

func mountMemory(dir string, bytes int) error {
	return syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", bytes))
}

func unmountMemory(dir string) error { return syscall.Unmount(dir, syscall.MNT_DETACH) }
