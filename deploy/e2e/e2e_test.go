//go:build cgo

package e2e

import (
	"bytes"
	"context"
	"encoding/csv"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait. What is waited for usually comes within seconds.
const patience = 3 * time.Minute

func repo(t testing.TB) string {
	t.Helper()
	dir, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// binary is the path of a built binary.
func binary(t testing.TB, name string) string {
	t.Helper()
	p := filepath.Join(repo(t), "bin", name)
	if _, err := os.Stat(p); err != nil {
		t.Fatalf("%s is not built; run make build: %v", name, err)
	}
	return p
}

// tocsin runs the command to its end and returns what it wrote to stdout.
func tocsin(t testing.TB, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, binary(t, "tocsin"), args...)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		t.Fatalf("tocsin %s: %v\n%s%s", strings.Join(args, " "), err, &out, &errs)
	}
	return out.String()
}

// until waits for the condition; it says what it waited for when it gives up.
func until(t testing.TB, what string, done func() bool) {
	t.Helper()
	deadline := time.Now().Add(patience)
	for !done() {
		if time.Now().After(deadline) {
			t.Fatalf("after %s still not: %s", patience, what)
		}
		select {
		case <-t.Context().Done():
			t.Fatalf("cancelled while waiting: %s", what)
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// recording is a made recording of one machine: rows one second apart, eight sensors, and a fault that a person would see.
type recording struct {
	machine   string
	rows      int
	faultFrom int // first row of the fault
	faultTo   int
}

// recordingStart is recent: VictoriaMetrics drops what is older than its retention.
var recordingStart = time.Now().UTC().Truncate(24 * time.Hour).Add(-18 * time.Hour)

var recordingSensors = []string{"vibration_x", "vibration_y", "current", "pressure", "temperature", "thermocouple", "voltage", "flow"}

func (r recording) value(row, sensor int) float32 {
	// Two incommensurable waves and a hash stand in for noise: no seed, no library, the same on every machine.
	h := uint64(row+1)*0x9E3779B97F4A7C15 ^ uint64(sensor+1)*0xC2B2AE3D27D4EB4F ^ uint64(len(r.machine))<<40
	h ^= h >> 31
	h *= 0xD6E8FEB86659FD93
	h ^= h >> 29
	noise := float64(h%2000)/1000 - 1
	level := 10 * float64(sensor+1)
	v := level + 0.3*math.Sin(float64(row)/97) + 0.2*noise
	if row >= r.faultFrom && row < r.faultTo && (sensor == 0 || sensor == 7) {
		v += 6
	}
	return float32(v)
}

// write makes the recording's CSV in the style of a plant historian: semicolons, and two columns that are labels.
func (r recording) write(t testing.TB, dir string) string {
	t.Helper()
	path := filepath.Join(dir, r.machine+".csv")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	w := csv.NewWriter(f)
	w.Comma = ';'
	_ = w.Write(append(append([]string{"datetime"}, recordingSensors...), "anomaly", "changepoint")) // Error is asked below
	for row := range r.rows {
		cells := []string{recordingStart.Add(time.Duration(row) * time.Second).Format("2006-01-02 15:04:05")}
		for s := range recordingSensors {
			cells = append(cells, strconv.FormatFloat(float64(r.value(row, s)), 'g', -1, 32))
		}
		label := "0.0"
		if row >= r.faultFrom && row < r.faultTo {
			label = "1.0"
		}
		_ = w.Write(append(cells, label, "0.0"))
	}
	w.Flush()
	if err := w.Error(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// plant is some machines whose faults come one after the other.
func plant(machines, rows int) []recording {
	out := make([]recording, machines)
	for i := range out {
		from := rows*2/3 + i*rows/100
		out[i] = recording{machine: fmt.Sprintf("press-%02d", i+1), rows: rows, faultFrom: from, faultTo: from + rows/10}
	}
	return out
}
