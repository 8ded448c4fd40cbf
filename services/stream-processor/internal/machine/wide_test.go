package machine

import (
	"bytes"
	"math/rand/v2"
	"strings"
	"testing"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
)

// A machine of 600 sensors is judged by the SVMs: no false alarm while nothing is wrong, one episode when seven sensors move, which names them and nobody
// else, and an end. Written away and restored at any time, it goes on byte for byte.
func TestWideMachine(t *testing.T) {
	const sensors, faulty, fault, healthy, windows = 600, 7, 300, 330, 360
	cfg := DefaultConfig()
	m := New(&cfg, "press-1")
	f := benchFrame(sensors, 1)
	r := rand.New(rand.NewPCG(5, 6))
	var out Output
	var told []*eventv1.Anomaly
	for i := range windows * 5 {
		w := i / 5
		f.Sequence++
		f.BaseTimeUS += second
		for s := range f.Values {
			f.Values[s] = float32(50 + r.NormFloat64())
			if s < faulty && w >= fault && w < healthy {
				f.Values[s] += 5
			}
		}
		if i%333 == 0 {
			state := m.AppendSnapshot(nil)
			back, err := Restore(&cfg, "press-1", state)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(state, back.AppendSnapshot(nil)) {
				t.Fatalf("window %d: the restored machine is another", w)
			}
			m = back
		}
		out.Reset()
		m.Apply(f, f.Sensors, Meta{LogTimeMS: f.BaseTimeUS / 1000}, &out)
		told = append(told, out.Anomalies...)
		if len(out.Anomalies) > 0 && w < fault {
			t.Fatalf("window %d: %s", w, out.Anomalies[0].Summary)
		}
	}
	if len(told) < 2 || told[0].Phase != eventv1.Phase_PHASE_STARTED || told[len(told)-1].Phase != eventv1.Phase_PHASE_ENDED {
		t.Fatalf("reports: %v", told)
	}
	if c := told[0].Contributions; len(c) == 0 {
		t.Fatal("no evidence")
	}
	worst := told[0]
	for _, a := range told {
		if a.EpisodeId != told[0].EpisodeId {
			t.Fatalf("a second episode: %v", a)
		}
		if len(a.Contributions) > len(worst.Contributions) {
			worst = a
		}
	}
	if len(worst.Contributions) != faulty {
		t.Fatalf("%d sensors named: %s", len(worst.Contributions), worst.Summary)
	}
	usual := map[string]bool{}
	for _, name := range f.Sensors[:faulty] {
		usual[string(name)] = true
	}
	for _, c := range worst.Contributions {
		if !usual[c.Sensor] || c.Detector != "wide" || !(c.Observed > c.ExpectedHigh) {
			t.Errorf("evidence: %v", c)
		}
	}
	if !strings.Contains(worst.Summary, "above the expected") {
		t.Errorf("summary: %s", worst.Summary)
	}
}

// A machine that grows wide hands over: it learns anew, and its snapshots fit from then on.
func TestMachineGrowsWide(t *testing.T) {
	cfg := DefaultConfig()
	cfg.Detect.Wide.From = 20
	m := New(&cfg, "press-1")
	var out Output
	feed := func(sensors, frames int, from int64) {
		f := benchFrame(sensors, 1)
		f.Sequence, f.BaseTimeUS = uint64(from), epoch0+from*second
		r := rand.New(rand.NewPCG(uint64(from), 6))
		for range frames {
			f.Sequence++
			f.BaseTimeUS += second
			for s := range f.Values {
				f.Values[s] = float32(50 + r.NormFloat64())
			}
			out.Reset()
			m.Apply(f, f.Sensors, Meta{LogTimeMS: f.BaseTimeUS / 1000}, &out)
		}
	}
	feed(10, 600, 0)
	if m.wide != nil || m.learning() {
		t.Fatal("a narrow machine is not judged as one")
	}
	feed(30, 40, 600)
	if m.wide == nil || !m.learning() {
		t.Fatal("a machine that has grown wide is not judged as one")
	}
	feed(30, 600, 640)
	state := m.AppendSnapshot(nil)
	back, err := Restore(&cfg, "press-1", state)
	if err != nil || !bytes.Equal(state, back.AppendSnapshot(nil)) {
		t.Fatalf("the restored machine is another: %v", err)
	}
	narrow := DefaultConfig()
	if next, _, _, _, err := m.Under(&narrow, nil); err != nil || next.wide != nil {
		t.Fatalf("the same under another configuration: %v", err)
	}
}
