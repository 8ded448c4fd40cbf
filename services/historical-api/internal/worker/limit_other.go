//go:build !linux

package worker

import "os"

// LimitMemory is the kernel's business on Linux; elsewhere only the engine's own limit holds.
func LimitMemory(int64) error { return nil }

func peakBytes(*os.ProcessState) int64 { return 0 }
