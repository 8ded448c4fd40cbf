package machine

import (
	"fmt"
	"runtime"
	"testing"
)

// lean are the detectors that every sensor can afford.
func lean(c *Config) { c.Detect.Detectors = []string{"limits", "ewma", "robust_z", "spread"} }

// BenchmarkMemory is the heap that 100,000 sensors take, everything of their machines included, by sensors per machine, with lean and with the shipped
// detectors.
func BenchmarkMemory(b *testing.B) {
	for _, sensors := range []int{10, 100} {
		for name, edit := range map[string]func(*Config){"lean": lean, "shipped": func(*Config) {}} {
			b.Run(fmt.Sprintf("%s/%dx%d", name, 100_000/sensors, sensors), func(b *testing.B) {
				for range b.N {
					b.ReportMetric(heapPerSensor(100_000/sensors, sensors, edit), "bytes/sensor")
				}
			})
		}
	}
}

// heapPerSensor feeds machines until they hold all that they keep.
func heapPerSensor(machines, sensors int, edit func(*Config)) float64 {
	var before, after runtime.MemStats
	all := make([]*Machine, 0, machines)
	cfg := DefaultConfig()
	edit(&cfg)
	var out Output
	f := benchFrame(sensors, 1)
	f.SchemaID = []byte("sha256-00112233445566778899aabbccddeeff")
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range machines {
		m := New(&cfg, fmt.Sprintf("pump-%04d", i))
		for range 60 { // twelve windows: closed ones are kept, one is open
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

// A sensor costs a KiB; a machine of ten pays as much again for itself as four of them.
func TestMemoryPerSensor(t *testing.T) {
	for _, c := range []struct {
		machines, sensors int
		limit             float64
	}{{200, 10, 1400}, {20, 100, 1024}} {
		per := heapPerSensor(c.machines, c.sensors, lean)
		t.Logf("%d sensors: %.0f bytes each, %.0f with the shipped detectors", c.sensors, per, heapPerSensor(c.machines, c.sensors, func(*Config) {}))
		if per > c.limit {
			t.Errorf("%d sensors: %.0f bytes each, want at most %.0f", c.sensors, per, c.limit)
		}
	}
}
