package stack

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// stat is what /proc says about a process: its state's letter and its start time in clock ticks since the boot.
// ok is false when there is no such process.
func stat(pid int) (state byte, start string, ok bool, err error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		return 0, "", false, nil
	}
	if err != nil {
		return 0, "", false, err
	}
	// proc(5): pid (comm) state ppid ... starttime is field 22. comm may hold anything, so count from its last ')'.
	f := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(f) < 20 {
		return 0, "", false, fmt.Errorf("/proc/%d/stat: unexpected form", pid)
	}
	return f[0][0], string(f[19]), true, nil
}

// frozen says whether SIGSTOP has taken effect, which it does a little after it is sent.
func frozen(pid int) bool {
	state, _, ok, err := stat(pid)
	return err == nil && ok && state == 'T'
}

// birth tells a process from a later one with the same pid: the boot and the start time in clock ticks since it.
// ok is false when the process is gone or a zombie.
func birth(pid int) (id string, ok bool, err error) {
	state, start, ok, err := stat(pid)
	if err != nil || !ok || state == 'X' {
		return "", false, err
	}
	if state == 'Z' {
		// The first thread has ended; the process, and with it its ports, is gone when the others have too.
		threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		if err != nil || len(threads) <= 1 {
			return "", false, nil //nolint:nilerr // reaped between the two looks
		}
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", false, err
	}
	return strings.TrimSpace(string(boot)) + "/" + start, true, nil
}

// residentBytes is the process's resident set size, 0 when unknown.
func residentBytes(pid int) int64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0
	}
	f := bytes.Fields(b)
	if len(f) < 2 {
		return 0
	}
	pages, err := strconv.ParseInt(string(f[1]), 10, 64)
	if err != nil {
		return 0
	}
	return pages * int64(os.Getpagesize())
}

func dieWithParent(attr *syscall.SysProcAttr) { attr.Pdeathsig = syscall.SIGKILL }
