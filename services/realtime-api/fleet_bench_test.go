//go:build demo || bench

package realtimeapi

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tocsin-io/tocsin/pkg/frame"
	"github.com/tocsin-io/tocsin/pkg/topic"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
)

// frame sends a frame of a machine as it is now, without waiting.
func (f *fixture) frame(id string, sequence uint64) {
	names, values := make([]string, len(sensorShapes)), make([]float32, len(sensorShapes))
	for i, s := range sensorShapes {
		names[i], values[i] = s.name, float32(s.base+s.noise*f.rng.NormFloat64())
	}
	f.cl.Produce(context.Background(), &kgo.Record{
		Topic: topic.Frames, Key: []byte(id), Value: frame.New(id, "gw-north-1", sequence, time.Now(), names, values).AppendTo(nil),
		Headers: []kgo.RecordHeader{{Key: topic.HeaderType, Value: []byte(topic.TypeFrame)}},
	}, nil)
}

// madeUpFleet writes the history of n machines, some of them faulty; what it gives goes on at full rate until ctx ends.
func madeUpFleet(f *fixture, n int) func(ctx context.Context) {
	hist := 180
	if n > 1000 {
		hist = 5
	}
	kinds := []string{"press", "pump", "compressor", "fan", "mill", "conveyor", "chiller"}
	ids := make([]string, n)
	for i := range ids {
		ids[i] = fmt.Sprintf("%s-%03d", kinds[i%len(kinds)], i/len(kinds)+1)
	}
	faults := map[string]func(age float64) map[string]float64{
		ids[9]: func(a float64) map[string]float64 {
			return map[string]float64{"bearing_temperature_c": a * 4, "vibration_rms_mm_s": a * 3}
		},
		ids[23]: func(a float64) map[string]float64 {
			return map[string]float64{"discharge_pressure_bar": -a * 3, "flow_m3_h": -a * 2}
		},
		ids[40]: func(a float64) map[string]float64 { return map[string]float64{"motor_current_a": a * 2} },
		ids[61]: func(a float64) map[string]float64 { return map[string]float64{"winding_temperature_c": a * 1.5} },
	}
	now := time.Now().UnixMicro() / windowUS * windowUS
	start := now - int64(hist)*windowUS
	began := now - 70*windowUS
	if hist < 70 {
		began = start
	}
	silentAt := now - 30*windowUS
	emit := func(id string, at int64) *eventv1.Window {
		if id == ids[16] && at > silentAt {
			return nil
		}
		var fault map[string]float64
		if fn := faults[id]; fn != nil && at > began {
			fault = fn(min(1, float64(at-began)/float64(30*windowUS)))
		}
		return f.window(id, at, len(sensorShapes), fault, id == ids[5] || id == ids[77%n])
	}
	for _, id := range ids {
		var ws []*eventv1.Window
		for at := start; at < now; at += windowUS {
			if w := emit(id, at); w != nil {
				ws = append(ws, w)
			}
		}
		if len(ws) > 0 {
			f.windows(ws...)
		}
	}
	for i := range 180 { // a replayed file with a row each five minutes
		w := f.window("nab-machine-temperature", time.Date(2014, 1, 27, 0, 0, 0, 0, time.UTC).UnixMicro()+int64(i)*300e6, 1, map[string]float64{"bearing_temperature_c": -max(0, float64(i-150)) / 8}, i < 40)
		f.windows(w)
	}
	c := func(s string, share, obs, lo, hi float64) *eventv1.Contribution {
		return &eventv1.Contribution{Sensor: s, Share: share, Observed: obs, ExpectedLow: lo, ExpectedHigh: hi, Detector: "ewma"}
	}
	alerts := []*eventv1.AlertEvent{
		alertOf(ids[9], "behaviour", eventv1.Severity_SEVERITY_CRITICAL, began+5*windowUS, "Bearing temperature 66.1 °C, expected 59.8 to 62.3; vibration 3.05 mm/s, expected 1.88 to 2.46.",
			c("bearing_temperature_c", 0.58, 66.1, 59.8, 62.3), c("vibration_rms_mm_s", 0.37, 3.05, 1.88, 2.46), c("motor_current_a", 0.05, 43.2, 39.1, 44.8)),
		alertOf(ids[23], "limit", eventv1.Severity_SEVERITY_CRITICAL, began+9*windowUS, "Discharge pressure 5.61 bar is below its limit of 5.80 bar.",
			c("discharge_pressure_bar", 0.71, 5.61, 6.1, 6.7), c("flow_m3_h", 0.29, 96.4, 112, 124)),
		alertOf(ids[40], "behaviour", eventv1.Severity_SEVERITY_WARNING, began+12*windowUS, "Motor current 49.8 A, expected 38.6 to 46.1.", c("motor_current_a", 0.96, 49.8, 38.6, 46.1)),
		alertOf(ids[61], "behaviour", eventv1.Severity_SEVERITY_WARNING, began+25*windowUS, "Winding temperature 82.9 °C, expected 77.1 to 80.6.", c("winding_temperature_c", 0.93, 82.9, 77.1, 80.6)),
		alertOf(ids[16], "silence", eventv1.Severity_SEVERITY_WARNING, silentAt, "Nothing heard for 30 s; last data came through gateway gw-north-1."),
	}
	for i, a := range alerts {
		a.AtMs -= int64(300-60*i) * 1000
		f.alert(a)
		f.anomaly(reportOf(a, eventv1.Phase_PHASE_STARTED, a.StartedUs))
		f.anomaly(reportOf(a, eventv1.Phase_PHASE_ONGOING, a.StartedUs+6*windowUS))
	}
	for i := range 14 {
		a := alertOf(ids[(i*7+3)%n], []string{"behaviour", "flatline", "limit"}[i%3], eventv1.Severity(2+i%5/4), now-int64(900+i*1800)*1e6, "Flow 97 m³/h, expected 112 to 124.", c("flow_m3_h", 1, 97, 112, 124))
		a.AtMs -= int64(600+i*1800) * 1000
		f.alert(a)
		f.alert(closed(a, a.StartedUs+int64(120+i*31)*1e6))
	}
	return func(ctx context.Context) {
		defer f.cl.Flush(context.Background())
		for at := now; ; at += windowUS {
			wait := time.Until(time.UnixMicro(at + windowUS))
			per := max(wait, time.Millisecond) / time.Duration(n)
			next := time.Now()
			for i, id := range ids {
				if w := emit(id, at); w != nil {
					w.StartUs -= windowUS
					w.EndUs -= windowUS
					f.send(topic.Windows, id, topic.TypeWindow, w)
				}
				f.frame(id, uint64(at))
				next = next.Add(per)
				if i%100 == 0 {
					for hot := range faults { // what is looked at first
						f.frame(hot, uint64(at)+uint64(i))
					}
				}
				if i%8 == 0 {
					select {
					case <-ctx.Done():
						return
					case <-time.After(time.Until(next)):
					}
				}
			}
		}
	}
}
