package benchwide

import (
	"time"

	"golang.org/x/sys/unix"
)

// elapsed is the processor time of this thread: what others take of the machine meanwhile does not count, waiting for memory does.
func elapsed() time.Duration {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t) != nil {
		return time.Duration(time.Now().UnixNano())
	}
	return time.Duration(t.Nano())
}
