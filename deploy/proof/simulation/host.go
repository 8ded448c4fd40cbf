package simulation

import (
	"syscall"
	"time"
)

// hostTime is the processor time that this process has used: the bubble's clock is not the host's.
func hostTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
