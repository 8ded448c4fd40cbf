package topology

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"

	"github.com/tocsin-io/tocsin/pkg/frame"
	"github.com/tocsin-io/tocsin/pkg/topic"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/detect"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/detect/detecttest"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/detection"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine"
)

// compared runs a log of a machine that is judged by a champion and a shadow, handed to another owner after each `every` records (0: never), and returns what was written of the two.
func compared(t *testing.T, every int) []*eventv1.ModelComparison {
	t.Helper()
	l := newLife()
	c := machine.DefaultConfig()
	usual := func(r *rand.Rand, _ int) float64 { return 3 * r.Float64() }
	champion, _ := detecttest.Model(t, "pump", 1, usual, "s0", "s1")
	shadow, _ := detecttest.Model(t, "pump", 2, usual, "s0", "s1")
	c.Detect.Models.Champions, c.Detect.Models.Shadows = []detect.Model{champion}, []detect.Model{shadow}
	c.Detect.Detectors = []string{"ewma", detect.Champion, detect.Shadow}
	l.cfg = detection.New(&c, 1)
	l.p = l.empty()
	var out []*eventv1.ModelComparison
	r := rand.New(rand.NewPCG(1, 2))
	step := func(rec *kgo.Record) {
		rec = l.write(rec)
		if err := l.p.apply(t.Context(), rec, func(r *kgo.Record) {
			if r.Topic != topic.Comparisons {
				return
			}
			m := new(eventv1.ModelComparison)
			if err := proto.Unmarshal(r.Value, m); err != nil || r.Partition != l.p.id {
				t.Fatal(r.Partition, err)
			}
			out = append(out, m)
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

// Each window is counted once, whoever owned the partition when.
func TestModelsAreComparedExactlyOnce(t *testing.T) {
	want := compared(t, 0)
	var windows uint64
	pages := 0
	for _, m := range want {
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
	if len(want) < 10 || windows < 150 || pages == 0 {
		t.Fatalf("%d records of %d windows and %d pages show little", len(want), windows, pages)
	}
	for _, every := range []int{7, 100} {
		if got := compared(t, every); !slices.EqualFunc(got, want, func(a, b *eventv1.ModelComparison) bool { return proto.Equal(a, b) }) {
			t.Errorf("handed over every %d records: %v, without: %v", every, got, want)
		}
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
