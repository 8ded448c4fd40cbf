package topology

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/tocsin-io/tocsin/pkg/frame"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/detection"
)

// minute is a frame of a machine's next minute, one sample a second.
func (l *life) minute(id string, r *rand.Rand) *frame.Frame {
	l.seq[id]++
	f := &frame.Frame{
		EquipmentID: []byte(id), GatewayID: []byte("gw"), Sequence: l.seq[id], BaseTimeUS: epochMS*1000 + int64(l.seq[id])*60_000_000,
		Sensors: [][]byte{[]byte("s0"), []byte("s1")},
	}
	for i := range 60 {
		f.OffsetsUS = append(f.OffsetsUS, uint64(i)*1_000_000)
	}
	for range 120 {
		f.Values = append(f.Values, float32(20+r.NormFloat64()))
	}
	return f
}

// A loan hangs on what the sisters know at its offset. Whoever restores the partition, from snapshots of any age, has the same loan, and judges on alike.
func TestALoanSurvivesARestore(t *testing.T) {
	for name, c := range map[string]SnapshotConfig{
		"nothing else saved": {MaxAgeMS: 1 << 40, MaxRecords: 1 << 40, MaxBytes: 1 << 20},
		"all saved":          {MaxAgeMS: 0, MaxRecords: 1, MaxBytes: 1 << 20},
		"some saved":         {MaxAgeMS: 100_000, MaxRecords: 1 << 40, MaxBytes: 1},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := judgeConfig()
			cfg.Cohort.Known = 60
			l := newLife()
			l.cfg = detection.New(cfg, 1)
			l.p = l.empty()
			r := rand.New(rand.NewPCG(1, 2))
			lent := 0
			for round := range 14 {
				for k := range 4 {
					if k == 3 && round < 9 {
						continue // the fourth is new, and there are three sisters
					}
					l.apply(t, l.p, l.write(frameRecord(l.minute(fmt.Sprintf("m%d", k), r))))
				}
				lent += len(l.p.lent)
				l.logMS += 60_000
				l.commit(t, c)
				next := l.restored(t)
				same(t, next, l.p)
				if round%3 == 2 {
					l.p = next
				}
			}
			if lent != 1 {
				t.Fatalf("%d loans, want 1", lent)
			}
			// What the new machine says rests on the loan, on both.
			other := l.restored(t)
			f := l.minute("m3", r)
			for i := range 60 {
				f.Values[i] += 40
			}
			rec := l.write(frameRecord(f))
			want, got := l.apply(t, l.p, rec), l.apply(t, other, rec)
			if !slices.Equal(got, want) {
				t.Fatalf("after a restore\n%s\nwithout\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
		})
	}
}
