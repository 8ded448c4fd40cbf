package machine

import (
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/tocsin-io/tocsin/services/stream-processor/internal/cohort"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/detect"
)

// fleet is sisters that are held against each other, as a partition does it.
type fleet struct {
	list []*sister
	last int64
	read func(*cohort.Round)
}

func newFleet(t *testing.T, n int, edit func(*Config)) *fleet {
	f := &fleet{}
	for seed := range uint64(n) {
		f.list = append(f.list, newSister(t, seed, func(c *Config) {
			c.Detect.Detectors = append(c.Detect.Detectors, detect.CohortName)
			c.Detect.Cohort.Memory = 300
			if edit != nil {
				edit(c)
			}
		}))
	}
	return f
}

// window has all go through one window; fault changes what member k shows.
func (f *fleet) window(fault func(k int, v []float32)) {
	for k, s := range f.list {
		s.run(1, func(v []float32) {
			if fault != nil {
				fault(k, v)
			}
		})
	}
	first := f.list[0].rig
	due := first.cfg.RoundDue(first.logMS)
	if due <= f.last {
		return
	}
	f.last = due
	list := make([]Member, len(f.list))
	for k, s := range f.list {
		list[k] = Member{Machine: s.rig.m, Class: s.rig.m.Class()}
	}
	r := Gather(first.cfg, list, due)
	if f.read != nil {
		f.read(r)
	}
	for k := range list {
		list[k].Compare(r, list[k].Class, &f.list[k].rig.out)
	}
}

func (f *fleet) said(k int) string {
	var b strings.Builder
	for _, a := range f.list[k].rig.anomalies {
		b.WriteString(a.Summary + "\n")
	}
	return b.String()
}

// What all sensors of all sisters do together is large, and slow: a shift, the weather. The temperature of one goes three degrees off in an hour. Alone it takes that for its course; beside its sisters it
// stands out, and what is common to all does not.
func TestOneThatDriftsAwayFromItsSistersIsReported(t *testing.T) {
	f := newFleet(t, 6, nil)
	r := rand.New(rand.NewPCG(3, 3))
	var course [6]float64
	at := func(drift float64) {
		for i := range course {
			course[i] = 0.995*course[i] + 0.3*r.NormFloat64()
		}
		f.window(func(k int, v []float32) {
			for i := range v {
				v[i] = float32(f.list[k].level[i] + course[i] + 0.3*f.list[k].r.NormFloat64())
			}
			if k == 2 {
				v[5] += float32(drift)
			}
		})
	}
	for range 1000 {
		at(0)
	}
	for i := range 700 {
		at(3 * float64(i) / 700)
	}
	if said := f.said(2); !strings.Contains(said, "unlike its 5 sister machines: s5 ") || !strings.Contains(said, " beside them, who would have it at ") {
		t.Errorf("it is told:\n%s", said)
	}
	for k := range f.list {
		if said := f.said(k); k != 2 && strings.Contains(said, "unlike its") {
			t.Errorf("of sister %d is told:\n%s", k, said)
		}
	}
	m := f.list[2].rig.m
	back, err := Restore(f.list[2].rig.cfg, m.id, m.AppendSnapshot(nil))
	if err != nil || string(back.AppendSnapshot(nil)) != string(m.AppendSnapshot(nil)) {
		t.Errorf("not the same after a restore: %v", err)
	}
	if d, _ := back.peered().Distance(5); math.Abs(d) > 100 || d == 0 {
		t.Errorf("its distance is %v", d)
	}
}

// Cohorts that are too small, sisters that are silent, in alert, of other sensors or late: nobody is held against them.
func TestWhoCountsAsASister(t *testing.T) {
	f := newFleet(t, 5, nil)
	var last *cohort.Round
	f.read = func(r *cohort.Round) { last = r }
	for range 100 {
		f.window(nil)
	}
	members := func() int {
		if len(last.Classes) == 0 {
			return 0
		}
		return last.Classes[0].Members
	}
	if members() != 5 || last.Classes[0].Anew {
		t.Fatalf("%+v", last)
	}
	m := f.list[1].rig.m
	m.episodes[behaviour].open = true
	f.list[1].rig.m.episodes[behaviour].told = new(told)
	gathered := func() *cohort.Round {
		var list []Member
		for _, s := range f.list {
			list = append(list, Member{Machine: s.rig.m, Class: s.rig.m.Class()})
		}
		return Gather(f.list[0].rig.cfg, list, f.last)
	}
	if last = gathered(); members() != 4 {
		t.Errorf("%d members with one in alert", members())
	}
	f.list = append(f.list[:2], f.list[3:]...) // one is silent, one in alert: three are left
	if last = gathered(); members() != 0 {
		t.Errorf("%d members of a cohort that is too small", members())
	}
	m.episodes[behaviour].open = false
	if last = gathered(); members() != 4 {
		t.Errorf("%d members", members())
	}
	other := newSister(t, 9, nil)
	other.rig.m.slotsOf(nil, names(7))
	if other.rig.m.Compare(last, other.rig.m.Class(), &other.rig.out) {
		t.Error("a machine of other sensors was held against them")
	}
	state := string(m.AppendSnapshot(nil))
	if m.Compare(gathered(), m.Class()+1, &f.list[0].rig.out) || string(m.AppendSnapshot(nil)) != state {
		t.Error("held against another class")
	}
	old := *last
	old.StartUS -= 3600 * second
	if m.Compare(&old, m.Class(), &f.list[0].rig.out) {
		t.Error("held against a round of which it holds nothing any more")
	}
}

func TestADetectorThatFailsInARoundIsSetAside(t *testing.T) {
	f := newFleet(t, 5, func(c *Config) {
		c.faulty = func(s detect.Spec) detect.Spec {
			if s.Name == detect.CohortName {
				whole := s.New
				s.New = func(c *detect.Config) detect.Detector { return brokenPeer{whole(c).(detect.Peered)} }
			}
			return s
		}
	})
	for range 30 {
		f.window(nil)
	}
	if h := f.list[0].rig.m.ailing(); len(h) != 1 || h[0].Detector != detect.CohortName {
		t.Errorf("%v", h)
	}
}

type brokenPeer struct{ detect.Peered }

func (brokenPeer) Compare(*detect.Window, *detect.Peers, bool) { panic("round") }
