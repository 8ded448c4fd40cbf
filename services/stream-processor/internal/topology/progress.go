package topology

import (
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

// phase is how far the restore of a partition is: the value of tocsin_processor_restore_phase.
type phase int32

const (
	live phase = iota // or not ours
	assigned
	waiting
	listing
	reading
	loading
	replaying
	missingSchema
	phases
)

// step names a phase in metrics and logs.
func (p phase) step() string {
	return [phases]string{"live", "assigned", "waiting", "list", "read", "load", "replay", "await_schema"}[p]
}

// progress is what a restore tells of itself. Safe for concurrent use; the zero value is live.
type progress struct {
	phase          atomic.Int32
	from, at, to   atomic.Int64 // offsets of what the phase works on; loading: machines
	records, bytes atomic.Int64 // read of the state topic

	mu    sync.Mutex
	began time.Time
	took  [phases]time.Duration
}

func newProgress(p phase) *progress {
	g := &progress{began: time.Now()}
	g.phase.Store(int32(p))
	return g
}

// enter ends the phase before and says what the next works on.
func (g *progress) enter(p phase, from, to int64) {
	g.mu.Lock()
	now := time.Now()
	g.took[g.phase.Load()] += now.Sub(g.began)
	g.began = now
	g.mu.Unlock()
	g.from.Store(from)
	g.at.Store(from)
	g.to.Store(to)
	g.phase.Store(int32(p))
}

// seconds is how long the phase took, so far.
func (g *progress) seconds(p phase) float64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	d := g.took[p]
	if phase(g.phase.Load()) == p && p != live {
		d += time.Since(g.began)
	}
	return d.Seconds()
}

// left is the number of input records still to be replayed.
func (g *progress) left() int64 {
	if p := phase(g.phase.Load()); p != replaying && p != missingSchema {
		return 0
	}
	return max(0, g.to.Load()-g.at.Load())
}

func (g *progress) String() string {
	from, at, to := g.from.Load(), g.at.Load(), g.to.Load()
	switch p := phase(g.phase.Load()); p {
	case waiting:
		return "waiting for others"
	case listing:
		return "listing offsets"
	case reading:
		return fmt.Sprintf("reading state %d%%", 100*(at-from)/max(1, to-from))
	case loading:
		return fmt.Sprintf("loading %d machines", to)
	case replaying:
		return fmt.Sprintf("replaying %d of %d records", at-from, to-from)
	case missingSchema:
		return fmt.Sprintf("replaying %d of %d records, waiting for a schema that the registry no longer holds", at-from, to-from)
	default:
		return p.step()
	}
}

// restoreGauges makes the metrics of a partition's restore, read from whatever progress is the present one. Once per partition: their number is
// bounded by that of partitions.
func restoreGauges(s *metrics.Set, id int32, now func() *progress) {
	label := `{partition="` + strconv.Itoa(int(id)) + `"}`
	gauge := func(name string, f func(*progress) float64) {
		s.GetOrCreateGauge(name, func() float64 {
			if g := now(); g != nil {
				return f(g)
			}
			return 0
		})
	}
	gauge("tocsin_processor_restore_phase"+label, func(g *progress) float64 { return float64(g.phase.Load()) })
	gauge("tocsin_processor_restore_state_records"+label, func(g *progress) float64 { return float64(g.records.Load()) })
	gauge("tocsin_processor_restore_state_bytes"+label, func(g *progress) float64 { return float64(g.bytes.Load()) })
	gauge("tocsin_processor_restore_replay_left"+label, func(g *progress) float64 { return float64(g.left()) })
	for _, p := range []phase{waiting, listing, reading, loading, replaying, missingSchema} {
		gauge(`tocsin_processor_restore_step_seconds{partition="`+strconv.Itoa(int(id))+`",step="`+p.step()+`"}`, func(g *progress) float64 { return g.seconds(p) })
	}
}
