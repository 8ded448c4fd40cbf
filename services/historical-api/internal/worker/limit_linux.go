package worker

import (
	"os"
	"syscall"
)

// overhead is what a process needs beside its query: the program itself, stacks, what the engine does not count.
const overhead = 512 << 20

// LimitMemory makes the kernel refuse this process more memory of its own than memory and some overhead, files of any size and dumps. It holds for what the engine's own limit does not
// count, such as the texts that repeat() makes.
func LimitMemory(memory int64) error {
	for what, limit := range map[int]uint64{syscall.RLIMIT_DATA: uint64(memory + overhead), syscall.RLIMIT_FSIZE: 0, syscall.RLIMIT_CORE: 0} {
		if err := syscall.Setrlimit(what, &syscall.Rlimit{Cur: limit, Max: limit}); err != nil {
			return err
		}
	}
	return nil
}

func peakBytes(s *os.ProcessState) int64 {
	if u, ok := s.SysUsage().(*syscall.Rusage); ok {
		return u.Maxrss << 10
	}
	return 0
}
