package load

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"text/tabwriter"
	"time"
)

// Report is the outcome of one scenario.
type Report struct {
	Scenario string `json:"scenario"`
	// Promise in one sentence.
	Promise string    `json:"promise"`
	OK      bool      `json:"ok"`
	Broken  []string  `json:"broken,omitempty"` // each broken promise
	Began   time.Time `json:"began"`
	Seconds float64   `json:"seconds"`
	Machine Machine   `json:"machine"`
	// Sizes are what the run was asked for, Measured what came out, by name; names end in their unit.
	Sizes    any `json:"sizes"`
	Measured any `json:"measured"`

	table [][]string
}

// Machine is where it was measured.
type Machine struct {
	Cores       int     `json:"cores"`
	CPU         string  `json:"cpu"`
	MemoryMB    int64   `json:"memory_mb"`
	OthersCPU   float64 `json:"others_cpu_percent"` // of all cores, taken by programs that are no part of the run
	Kernel      string  `json:"kernel"`
	Go          string  `json:"go"`
	KafkaHeapMB int     `json:"kafka_heap_mb"`
}

func newReport(scenario, promise string, sizes any) *Report {
	return &Report{Scenario: scenario, Promise: promise, Sizes: sizes, Began: time.Now().UTC(), Machine: thisMachine()}
}

// brokenIf notes a broken promise.
func (r *Report) brokenIf(cond bool, format string, args ...any) {
	if cond {
		r.Broken = append(r.Broken, fmt.Sprintf(format, args...))
	}
}

func (r *Report) row(cells ...any) {
	line := make([]string, len(cells))
	for i, c := range cells {
		switch v := c.(type) {
		case float64:
			line[i] = fmt.Sprintf("%.4g", v)
		case time.Duration:
			line[i] = v.Round(time.Millisecond).String()
		default:
			line[i] = fmt.Sprint(v)
		}
	}
	r.table = append(r.table, line)
}

func (r *Report) end(measured any) {
	r.Measured, r.Seconds, r.OK = measured, time.Since(r.Began).Seconds(), len(r.Broken) == 0
}

// Print writes the table.
func (r *Report) Print(w io.Writer) {
	var b bytes.Buffer
	verdict := "held"
	if !r.OK {
		verdict = "BROKEN"
	}
	fmt.Fprintf(&b, "\nload %s: %s: %s\n", r.Scenario, r.Promise, verdict)
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, line := range r.table {
		fmt.Fprintln(t, "  "+strings.Join(line, "\t"))
	}
	_ = t.Flush() // into memory
	for _, s := range r.Broken {
		fmt.Fprintf(&b, "  BROKEN: %s\n", s)
	}
	fmt.Fprintf(&b, "  %d cores, %s; %.0f %% of them taken by other programs meanwhile; the run took %.0f s\n", r.Machine.Cores, r.Machine.CPU, r.Machine.OthersCPU, r.Seconds)
	_, _ = w.Write(b.Bytes()) // for people; the file is what counts
}

// Write puts the report into dir as load-<scenario>.json.
func (r *Report) Write(dir string) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("report of %s: %w", r.Scenario, err)
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "load-"+r.Scenario+".json"), append(b, '\n'), 0o600)
}

func thisMachine() Machine {
	m := Machine{Cores: runtime.NumCPU(), Go: runtime.Version(), KafkaHeapMB: 512}
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for _, line := range strings.Split(string(b), "\n") {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				m.CPU = strings.TrimSpace(value)
				break
			}
		}
	}
	if b, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.Kernel = strings.TrimSpace(string(b))
	}
	m.MemoryMB = procField("/proc/meminfo", "MemTotal:") >> 10
	return m
}

// procField reads the number behind a name in a file such as /proc/meminfo; 0 when it is not there.
func procField(path, name string) int64 {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0
	}
	for _, line := range strings.Split(string(b), "\n") {
		if rest, ok := strings.CutPrefix(line, name); ok {
			var v int64
			_, _ = fmt.Sscan(rest, &v)
			return v
		}
	}
	return 0
}
