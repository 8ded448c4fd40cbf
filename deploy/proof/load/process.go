package load

import (
	"context"
	"fmt"
	"maps"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"
)

// pids are the processes of the named components, all that run when none is named.
func (w *World) pids(ctx context.Context, names ...string) (map[string]int, error) {
	list, err := w.Stack.Status(ctx)
	if err != nil {
		return nil, err
	}
	out := map[string]int{}
	for _, st := range list {
		if st.PID > 0 {
			out[st.Name] = st.PID
		}
	}
	for _, n := range names {
		if out[n] == 0 {
			return nil, fmt.Errorf("%s does not run", n)
		}
	}
	return out, nil
}

// peakMB is the most memory that the process ever had resident, as the kernel counts it.
func peakMB(pid int) int64 { return procField(fmt.Sprintf("/proc/%d/status", pid), "VmHWM:") >> 10 }

// residentMB is what it has resident now.
func residentMB(pid int) int64 { return procField(fmt.Sprintf("/proc/%d/status", pid), "VmRSS:") >> 10 }

// cpuTicks is the processor time of a process and of its children that have ended, in the kernel's ticks.
func cpuTicks(pid int) int64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	at := strings.LastIndexByte(string(b), ')') // the name before it may hold anything
	fields := strings.Fields(string(b[at+1:]))
	var sum int64
	for _, i := range []int{11, 12, 13, 14} { // utime stime cutime cstime
		if i < len(fields) {
			v, _ := strconv.ParseInt(fields[i], 10, 64)
			sum += v
		}
	}
	return sum
}

// machineTicks is what all cores spent at work, and in all.
func machineTicks() (busy, all int64) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0
	}
	line, _, _ := strings.Cut(string(b), "\n")
	for i, f := range strings.Fields(line) {
		v, err := strconv.ParseInt(f, 10, 64)
		if err != nil || i > 8 { // guest time is in user time already
			continue
		}
		all += v
		if i != 4 && i != 5 { // idle and waiting for disks
			busy += v
		}
	}
	return busy, all
}

// share notes how much of the machine each process of the run took, and how much other programs.
type share struct {
	busy, all int64
	mine      map[string]int64
	pids      map[string]int
}

// startShare begins to count. A process that starts or dies later is counted among the others.
func startShare(pids map[string]int) *share {
	s := &share{pids: maps.Clone(pids), mine: map[string]int64{}}
	s.pids["harness"] = os.Getpid()
	s.busy, s.all = machineTicks()
	for n, p := range s.pids {
		s.mine[n] = cpuTicks(p)
	}
	return s
}

// ticksPerSecond is the kernel's USER_HZ, 100 on every Linux that Go runs on.
const ticksPerSecond = 100

// add counts a process that began after the start as the run's.
func (s *share) add(name string, pid int) { s.pids[name], s.mine[name] = pid, 0 }

// end is the percentage of all cores since the start, by component, "others" included.
func (s *share) end() map[string]float64 {
	busy, all := machineTicks()
	out := map[string]float64{}
	if all <= s.all {
		return out
	}
	percent := func(ticks int64) float64 { return float64(ticks*1000/(all-s.all)) / 10 }
	rest := busy - s.busy
	for n, p := range s.pids {
		used := cpuTicks(p) - s.mine[n]
		if used < 0 { // it died
			continue
		}
		rest -= used
		if v := percent(used); v > 0 {
			out[n] = v
		}
	}
	out["others"] = max(0, percent(rest))
	return out
}

// memory samples the resident memory of processes until stopped; it keeps the largest of each.
type memory struct {
	mu   sync.Mutex
	peak map[string]int64
	stop func()
}

func (w *World) watchMemory(pids map[string]int) *memory {
	m := &memory{peak: map[string]int64{}}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(250 * time.Millisecond)
		defer tick.Stop()
		for {
			for n, p := range pids {
				mb := residentMB(p)
				m.mu.Lock()
				m.peak[n] = max(m.peak[n], mb)
				m.mu.Unlock()
			}
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
		}
	}()
	m.stop = sync.OnceFunc(func() { cancel(); <-done })
	return m
}

// take is the largest of each since the last take, in MB.
func (m *memory) take() map[string]int64 {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := m.peak
	m.peak = map[string]int64{}
	return out
}
