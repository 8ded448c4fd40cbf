package topology

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"

	"github.com/tocsin-io/tocsin/pkg/frame"
	"github.com/tocsin-io/tocsin/pkg/modelfile"
	"github.com/tocsin-io/tocsin/pkg/topic"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/detect"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/detect/detecttest"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/detection"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine"
)

// written is what was written of the models of a log.
type written struct {
	pairs  []*eventv1.ModelComparison
	inputs []*eventv1.ModelInputs
}

// compared runs a log of a machine that is judged by a champion and a shadow, handed to another owner after each `every` records (0: never), and returns what was written of the two. The champion keeps no reference
// if it is not watched.
func compared(t *testing.T, every int, watched bool) (out written) {
	t.Helper()
	l := newLife()
	c := machine.DefaultConfig()
	usual := func(r *rand.Rand, _ int) float64 { return 3 * r.Float64() }
	train := detecttest.Model
	if !watched {
		train = detecttest.Unwatched
	}
	champion, _ := train(t, "pump", 1, usual, "s0", "s1")
	shadow, _ := detecttest.Model(t, "pump", 2, usual, "s0", "s1")
	c.Detect.Models.Champions, c.Detect.Models.Shadows = []detect.Model{champion}, []detect.Model{shadow}
	c.Detect.Detectors = []string{"ewma", detect.Champion, detect.Shadow}
	l.cfg = detection.New(&c, 1)
	l.p = l.empty()
	r := rand.New(rand.NewPCG(1, 2))
	step := func(rec *kgo.Record) {
		rec = l.write(rec)
		if err := l.p.apply(t.Context(), rec, func(r *kgo.Record) {
			if r.Topic == topic.Comparisons {
				out.take(t, l.p, r)
			}
		}); err != nil {
			t.Fatal(err)
		}
		if every > 0 && len(l.log)%every == 0 {
			l.commit(t, SnapshotConfig{MaxAgeMS: 60_000, MaxRecords: 100, MaxBytes: 1 << 20})
			l.p = l.restored(t)
		}
	}
	for i := range 1500 {
		l.logMS = epochMS + int64(i)*1000
		values := []float32{float32(3 * r.Float64()), float32(3 * r.Float64())}
		if i > 1300 {
			values[0] += 30
		}
		l.seq["m0"]++
		step(frameRecord(frame.New("m0", "gw", l.seq["m0"], time.UnixMilli(l.logMS), []string{"s0", "s1"}, values)))
		if i%10 == 0 {
			step(tickRecord())
		}
	}
	for range 2 {
		l.logMS += comparisonMS
		step(tickRecord())
	}
	return out
}

func (w *written) take(t *testing.T, p *partition, r *kgo.Record) {
	t.Helper()
	var m interface {
		proto.Message
		GetPartition() int32
	}
	switch {
	case topic.Is(r, topic.TypeComparison):
		c := new(eventv1.ModelComparison)
		w.pairs, m = append(w.pairs, c), c
	case topic.Is(r, topic.TypeInputs):
		c := new(eventv1.ModelInputs)
		w.inputs, m = append(w.inputs, c), c
	default:
		t.Fatal(topic.Type(r))
	}
	if err := proto.Unmarshal(r.Value, m); err != nil || r.Partition != p.id || m.GetPartition() != p.id {
		t.Fatal(r.Partition, err)
	}
}

// Each window is counted once, whoever owned the partition when.
func TestModelsAreComparedExactlyOnce(t *testing.T) {
	want := compared(t, 0, true)
	var windows uint64
	pages := 0
	for _, m := range want.pairs {
		windows += m.Neither + m.Both + m.ChampionOnly + m.ShadowOnly
		pages += len(m.Pages)
		if m.Champion == "" || m.Shadow == "" || m.Champion == m.Shadow {
			t.Fatalf("%v", m)
		}
		for _, p := range m.Pages {
			if p.EquipmentId != "m0" || p.ChampionFirstUs > p.ChampionLastUs || p.ShadowFirstUs > p.ShadowLastUs || p.ChampionFirstUs+p.ShadowFirstUs < (epochMS+1_290_000)*1000 {
				t.Fatalf("%v", p)
			}
		}
	}
	if len(want.pairs) < 10 || windows < 150 || pages == 0 {
		t.Fatalf("%d records of %d windows and %d pages show little", len(want.pairs), windows, pages)
	}
	// Both models were given the same windows, each is counted into the bins of its own reference, and what came later is not what they were trained on.
	var given [2]uint64
	for i, m := range want.inputs {
		given[i%2] += m.Windows
		var bins uint64
		for _, n := range m.Bins {
			bins += n
		}
		if m.Model == want.inputs[(i+1)%2].Model || m.Format != modelfile.ReferenceFormat || bins != 3*m.Windows || len(m.Moved) != 3 || len(m.Squares) != 3 {
			t.Fatalf("%v", m)
		}
	}
	if first, last := want.inputs[0], want.inputs[len(want.inputs)-2]; given[0] != given[1] || given[0] < windows || meanShift(first, 1) > 1 || meanShift(last, 1) < 20 || math.Abs(meanShift(last, 2)) > 1 {
		t.Errorf("%v windows, %d were compared; first %v, last %v", given, windows, first, last)
	}
	for _, every := range []int{7, 100} {
		got := compared(t, every, true)
		if !slices.EqualFunc(got.pairs, want.pairs, func(a, b *eventv1.ModelComparison) bool { return proto.Equal(a, b) }) {
			t.Errorf("handed over every %d records: %v, without: %v", every, got.pairs, want.pairs)
		}
		if !slices.EqualFunc(got.inputs, want.inputs, func(a, b *eventv1.ModelInputs) bool { return proto.Equal(a, b) }) {
			t.Errorf("handed over every %d records: %v, without: %v", every, got.inputs, want.inputs)
		}
	}
}

// meanShift is by how many standard deviations a variable has moved, the score being variable 0.
func meanShift(m *eventv1.ModelInputs, variable int) float64 {
	return float64(m.Moved[variable]) / modelfile.Step / float64(m.Windows)
}

// A model that keeps no reference has its windows counted, and nothing else.
func TestAModelWithoutReference(t *testing.T) {
	var windows, bins [2]int
	out := compared(t, 100, false).inputs
	for _, m := range out {
		k := 0
		if m.Format == modelfile.ReferenceFormat {
			k = 1
		}
		windows[k] += int(m.Windows)
		bins[k] += len(m.Bins) + len(m.Moved)
	}
	if windows[0] < 150 || windows[0] != windows[1] || bins[0] != 0 || bins[1] == 0 {
		t.Error(windows, bins)
	}
}

// What one record names is bounded.
func TestAComparisonIsBounded(t *testing.T) {
	var c comparing
	for i := range maxModelPages + 5 {
		c.take(string(rune('a'+i%26))+string(rune('a'+i/26)), &machine.Compared{Shadow: "x@1", StartUS: int64(i + 1), Said: 20, Page: 12})
	}
	m := c.saved()[0]
	if len(m.Pages) != maxModelPages || m.PagesOmitted != 5 || m.Pages[0].ShadowLastUs != 0 {
		t.Error(len(m.Pages), m.PagesOmitted, m.Pages[0])
	}
}
