package stream

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/tocsin-io/tocsin/pkg/auth"
	"github.com/tocsin-io/tocsin/pkg/frame"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"

	"github.com/tocsin-io/tocsin/services/realtime-api/internal/gate"
	"github.com/tocsin-io/tocsin/services/realtime-api/internal/live"
)

// values sends a frame of sensors s0, s1, ... of a machine, at so many us.
func (f *fixture) values(id string, us int64, values ...float32) {
	f.Helper()
	names := make([]string, len(values))
	for i := range names {
		names[i] = fmt.Sprint("s", i)
	}
	fr := frame.New(id, "g", 1, time.UnixMicro(us), names, values)
	if err := frame.Validate(fr, frame.Limits{MaxValues: 1000}); err != nil {
		f.Fatal(err)
	}
	f.srv.cfg.Live.Take(fr, nil, us/1000)
}

// watched waits until so many machines are.
func (f *fixture) watched(n int) {
	f.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for f.srv.cfg.Live.Count() != n {
		select {
		case <-deadline:
			f.Fatalf("%d machines are watched, want %d", f.srv.cfg.Live.Count(), n)
		case <-tick.C:
		}
	}
}

// sample is what the latest live message says of a sensor, as "value quality".
func (r *reader) sample(id, sensor string) string {
	m := r.last["live"]
	if m == nil || m["id"] != id {
		return ""
	}
	for _, s := range m["samples"].([]any) {
		if s := s.(map[string]any); s["sensor"] == sensor {
			return fmt.Sprint(s["value"], " ", s["quality"])
		}
	}
	return ""
}

func withLive(c *Config) { c.Live = live.NewBoard() }

func TestLiveValues(t *testing.T) {
	f := setup(t, withLive)
	r := f.dial(nil)
	r.subscribe("fleet", "machine:m1", "live:m1")
	f.watched(1)
	nan := float32(math.NaN())
	f.values("m1", 1_000_000, 1.5, nan)
	f.values("m2", 1_000_000, 7) // nobody asked
	r.until("values before any window", func() bool { return r.sample("m1", "s0") == "1.5 QUALITY_GOOD" })
	if r.sample("m1", "s1") != "<nil> QUALITY_MISSING" {
		t.Errorf("%v", r.last["live"])
	}
	if v := r.last["live"]["version"]; v != nil {
		t.Errorf("a live message has version %v", v)
	}
	// What lies in a window that has come is not sent any more.
	f.window("m1", 2_000_000, 0) // ends at 2,000,005
	r.until("the window", func() bool { return len(r.windows["m1"]) == 1 })
	f.values("m1", 2_000_004, 3)
	f.values("m1", 2_000_005, 4)
	r.until("the value after it", func() bool { return r.sample("m1", "s0") == "4 QUALITY_GOOD" })
	// Whoever comes later is told what is known.
	again := f.dial(nil)
	again.subscribe("live:m1")
	again.until("what is known", func() bool { return again.sample("m1", "s0") == "4 QUALITY_GOOD" })
	f.watched(1)
	// Not asked for any more: nothing comes, and nobody watches.
	_ = again.conn.CloseNow()
	r.subscribe("fleet", "machine:m1", "live:m2")
	us := int64(3_000_000)
	r.until("the other machine", func() bool {
		us++
		f.values("m1", us, 5)
		f.values("m2", us, 6)
		return r.sample("m2", "s0") == "6 QUALITY_GOOD"
	})
	r.subscribe("fleet")
	f.watched(0)
	last := r.last["live"]
	summaries := r.summaries
	r.until("two summaries", func() bool { return r.summaries >= summaries+2 })
	if fmt.Sprint(r.last["live"]) != fmt.Sprint(last) {
		t.Errorf("still live: %v", r.last["live"])
	}
}

// A burst is told as its newest value: in a tick there is one message of a machine at most.
func TestLiveValuesAreConflated(t *testing.T) {
	f := setup(t, func(c *Config) { withLive(c); c.Interval = 50 * time.Millisecond })
	r := f.dial(nil)
	r.subscribe("live:m1")
	f.watched(1)
	from, sent := f.srv.current().number, f.srv.sent.Get()
	for i := range 5000 {
		f.values("m1", int64(i), float32(i))
	}
	r.until("the newest", func() bool { return r.sample("m1", "s0") == "4999 QUALITY_GOOD" })
	n := f.srv.sent.Get() - sent
	if ticks := f.srv.current().number - from + 1; n > 2*ticks+2 { // a live message, and a summary, in each; and hello
		t.Errorf("%d messages in %d ticks", n, ticks)
	}
}

// When the client goes, or the server ends, nobody watches any more.
func TestLiveWatchesEnd(t *testing.T) {
	f := setup(t, withLive)
	r, other := f.dial(nil), f.dial(nil)
	r.subscribe("live:m1")
	other.subscribe("live:m2", "live:m3", "live:m2")
	f.watched(3)
	_ = r.conn.CloseNow()
	f.watched(2)
	f.stop()
	f.watched(0)
}

// Of a wide machine the same sensors come live as in its windows.
func TestLiveValuesOfAWideMachine(t *testing.T) {
	f := setup(t, withLive)
	w := &eventv1.Window{EquipmentId: "m1", StartUs: 1, EndUs: 6}
	values := make([]float32, 300)
	for i := range values {
		w.Sensors = append(w.Sensors, &eventv1.SensorWindow{Sensor: fmt.Sprint("s", i), Count: 1, Score: float64(i) / 1000})
		values[i] = float32(i)
	}
	if err := f.hub.ApplyWindow(w); err != nil {
		t.Fatal(err)
	}
	for _, channels := range [][]string{{"machine:m1", "live:m1"}, {"live:m1", "machine:m1"}, {"live:m1"}} {
		r := f.dial(nil)
		r.subscribe(channels...)
		f.watched(1)
		us := int64(10)
		r.until("values", func() bool {
			us++
			f.values("m1", us, values...)
			samples, _ := r.last["live"]["samples"].([]any)
			if len(samples) > maxSensors {
				t.Fatalf("%d sensors", len(samples))
			}
			return len(samples) == maxSensors && r.sample("m1", "s299") == "299 QUALITY_GOOD" && r.sample("m1", "s236") != "" && r.sample("m1", "s235") == ""
		})
		_ = r.conn.CloseNow()
		f.watched(0)
	}
}

// A machine that somebody may not see is not watched for them.
func TestLiveValuesOfOthers(t *testing.T) {
	f := setupFor(t, &gate.Identity{Name: "ada", Machines: auth.NewEquipment([]string{"a-*"})})
	r := f.dial(nil)
	r.subscribe("live:hidden-1", "live:a-1")
	f.watched(1)
	f.values("hidden-1", 1, 5)
	f.values("a-1", 1, 6)
	r.until("one's own", func() bool { return r.sample("a-1", "s0") == "6 QUALITY_GOOD" })
	f.values("hidden-1", 2, 5)
	summaries := r.summaries
	r.until("two summaries", func() bool { return r.summaries >= summaries+2 })
	if strings.Contains(fmt.Sprint(r.last), "hidden") {
		t.Errorf("%v", r.last)
	}
}
