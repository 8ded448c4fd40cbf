package streamprocessor

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
)

// plant is a machine with weather: three sensors, one sample and one window each minute, of which a temperature swings by day.
type plant struct {
	t      *testing.T
	judge  *Judge
	cfg    *DetectionConfig
	r      *rand.Rand
	at     time.Time
	open   map[string]bool
	starts int
	ends   int
	last   *eventv1.Anomaly
}

func newPlant(t *testing.T, edit func(*DetectionConfig)) *plant {
	cfg := DefaultDetection()
	cfg.WindowLength = time.Minute
	if edit != nil {
		edit(&cfg)
	}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	return &plant{
		t: t, cfg: &cfg, judge: NewJudge(&cfg, "pump-1", []string{"temperature", "vibration", "flow"}), r: rand.New(rand.NewPCG(7, 7)),
		at: time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC), open: map[string]bool{},
	}
}

// run plays a time in which the vibration is higher by fault.
func (p *plant) run(d time.Duration, fault float64) {
	p.t.Helper()
	for end := p.at.Add(d); p.at.Before(end); p.at = p.at.Add(time.Minute) {
		day := float64(p.at.UnixMilli()%86_400_000) / 86_400_000
		v := []float32{
			float32(55 + 5*math.Sin(2*math.Pi*day) + 0.3*p.r.NormFloat64()),
			float32(1.6 + fault + 0.1*p.r.NormFloat64()),
			float32(900 + 5*p.r.NormFloat64()),
		}
		for _, a := range p.judge.Observe(p.at, p.at, v) {
			p.last = a
			switch a.GetPhase() {
			case eventv1.Phase_PHASE_STARTED:
				p.open[a.GetEpisodeId()] = true
				p.starts++
			case eventv1.Phase_PHASE_ENDED:
				delete(p.open, a.GetEpisodeId())
				p.ends++
			}
		}
	}
}

const week = 7 * 24 * time.Hour

// A week is long enough for weather, and for anything that forgets. What was usual before is usual afterwards, and what was not is not.
func TestFaultOfAWeekStaysDetectedAndTeachesNothing(t *testing.T) {
	p := newPlant(t, func(c *DetectionConfig) { c.Calibrate.Budget = 0.1 }) // none by chance
	p.run(48*time.Hour, 0)
	if p.starts > 0 {
		t.Fatalf("paged before the fault: %s", p.last.GetSummary())
	}
	p.run(week, 1)
	if p.starts != 1 || p.ends != 0 || len(p.open) != 1 {
		t.Fatalf("after a week: %d episodes began, %d ended, last %v", p.starts, p.ends, p.last)
	}
	if a := p.last; a.GetPhase() != eventv1.Phase_PHASE_ONGOING || a.GetSeverity() != eventv1.Severity_SEVERITY_CRITICAL ||
		a.GetContributions()[0].GetSensor() != "vibration" || p.at.UnixMicro()-a.GetObservedUs() > 5*time.Minute.Microseconds() {
		t.Fatalf("not reported any more: %v", a)
	}
	p.run(15*time.Minute, 0)
	if len(p.open) > 0 {
		t.Fatalf("still open a quarter of an hour after the end: %v", p.last)
	}
	p.run(12*time.Hour, 0)
	if p.starts != 1 {
		t.Fatalf("what was usual before the fault pages after it: %v", p.last)
	}
	p.run(10*time.Minute, 1)
	if p.starts != 2 {
		t.Fatal("the same fault is not found again within ten minutes")
	}
}

// A lasting change that is meant is let in by a release of the configuration, and only by it.
func TestNewNormalIsLetInByARelease(t *testing.T) {
	p := newPlant(t, nil)
	p.run(24*time.Hour, 0)
	changed := p.at
	p.run(24*time.Hour, 1)
	if p.starts != 1 || len(p.open) != 1 {
		t.Fatalf("%d episodes, %d open", p.starts, len(p.open))
	}
	next := *p.cfg
	next.Corrections = []Correction{{Machine: "pump-*", Kind: NewNormal, From: changed.Format(time.RFC3339), Why: "new impeller"}}
	if err := next.Validate(); err != nil {
		t.Fatal(err)
	}
	if err := p.judge.Under(&next); err != nil {
		t.Fatal(err)
	}
	p.run(5*time.Minute, 1)
	if len(p.open) != 0 || p.ends != 1 {
		t.Fatalf("%d open, %d ended", len(p.open), p.ends)
	}
	p.run(24*time.Hour, 1)
	if p.starts != 1 {
		t.Fatalf("the new normal pages: %v", p.last)
	}
	if err := p.judge.Under(&next); err != nil { // a restart
		t.Fatal(err)
	}
	p.run(10*time.Minute, 1)
	p.run(10*time.Minute, 0)
	if p.starts != 2 {
		t.Fatal("the old normal is still usual, or a restart began anew once more")
	}
}

// A fault too small to be noticed was learned from; it can be taken back.
func TestUnlearning(t *testing.T) {
	p := newPlant(t, nil)
	p.run(24*time.Hour, 0)
	from := p.at
	for i := range 240 { // 20 hours: it creeps in
		p.run(5*time.Minute, float64(i)/240)
	}
	to := p.at
	p.run(time.Hour, 0)
	next := *p.cfg
	next.Corrections = []Correction{{Machine: "*", Kind: Unlearn, From: from.Format(time.RFC3339), To: to.Format(time.RFC3339), Why: "creeping wear"}}
	if err := p.judge.Under(&next); err != nil {
		t.Fatal(err)
	}
	p.run(12*time.Hour, 0)
	if len(p.open) != 0 {
		t.Fatalf("open: %v", p.last)
	}
	before := p.starts
	p.run(10*time.Minute, 1)
	if p.starts != before+1 {
		t.Fatal("the fault is still usual")
	}
	// With the correction known beforehand nothing of the stretch is learned, and nothing has to be forgotten.
	q := newPlant(t, func(c *DetectionConfig) { c.Corrections = next.Corrections })
	q.run(24*time.Hour, 0)
	q.run(20*time.Hour, 0.02)
	q.run(10*time.Minute, 1)
	if q.starts != 1 {
		t.Fatalf("%d episodes; the stretch was forgotten rather than passed over", q.starts)
	}
}
