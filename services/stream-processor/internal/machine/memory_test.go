package machine

import (
	"fmt"
	"runtime"
	"testing"
)

// heapPerSensor feeds machines until they hold all that they keep.
func heapPerSensor(machines, sensors int) float64 {
	var before, after runtime.MemStats
	all := make([]*Machine, 0, machines)
	cfg := DefaultConfig()
	var out Output
	f := benchFrame(sensors, 1)
	f.SchemaID = []byte("sha256-00112233445566778899aabbccddeeff")
	runtime.GC()
	runtime.GC() // the second one frees what finalizers held
	runtime.ReadMemStats(&before)
	for i := range machines {
		m := New(&cfg, fmt.Sprintf("pump-%04d", i))
		f.BaseTimeUS = epoch0 + int64(i%5)*second // machines are anywhere in their window
		for range 60 {                            // twelve windows: closed ones are kept, one is open
			f.Sequence++
			f.BaseTimeUS += second
			out.Reset()
			m.Apply(f, f.Sensors, Meta{LogTimeMS: f.BaseTimeUS / 1000}, &out)
		}
		all = append(all, m)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	per := float64(after.HeapAlloc-before.HeapAlloc) / float64(machines*sensors)
	runtime.KeepAlive(all)
	return per
}

// A sensor costs less than a KiB, a tenth of its machine included. `make bench-memory` says what for.
func TestMemoryPerSensor(t *testing.T) {
	for _, c := range []struct{ machines, sensors int }{{2000, 10}, {200, 100}} {
		per := heapPerSensor(c.machines, c.sensors)
		t.Logf("%d sensors: %.0f bytes each", c.sensors, per)
		if per > 1024 {
			t.Errorf("%d sensors: %.0f bytes each, want at most 1024", c.sensors, per)
		}
	}
}
