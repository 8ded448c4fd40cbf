package regime

import (
	"math"
	"slices"

	"github.com/tocsin-io/tocsin/services/stream-processor/internal/detect"
)

const (
	nearEnough = 4.0   // tolerances within which a level is recognised
	farOff     = 6.0   // tolerances beyond which a single value says that the machine is on its way elsewhere
	tolerance  = 0.025 // share of the range of a sensor's levels
	jumped     = 5.0   // deviations from the base
	settledOff = 0.05  // share of a jump by which a sensor that tells may still move
	stickiness = 0.7   // share of the distance to the present regime's level within which another's must be
	dwell      = 20    // windows in a row that make a visit
	mostAway   = 60_000
	// A regime shows in several sensors at once. What one or two do tells no regime from a fault.
	fewestFound = 3
	atZero      = 0.01 // share of the farthest of a sensor's levels below which it is at rest

	firstFrom, firstTo   = 4, 8 // windows of a visit whose mean is held against that
	secondFrom, secondTo = 12, dwell
)

// visit is a stay at a level that is not known yet.
type visit struct {
	n             uint16 // windows
	first, second []float32
}

// seek looks for regimes in what the machine does: sequential clustering with a cap, of levels only that the machine jumps to and then stays at.
//
// A level begins as a visit: many sensors are far off the base, and like no level that is known. After dwell windows the sensors that tell are those that jumped
// and then kept still; those on their way, such as temperatures, do not. The level becomes a candidate. It is believed (accepted) when
// the machine has been there often enough and in a regime that is believed for as long in between, so a fault, which comes once and stays, never is. Until then
// nothing changes: each visit is an anomaly, nothing of it is learned but aside. A level is recognised when three in four of the sensors that tell are near to it, so a
// fault of one does not hide it.
//
// DP-means (Kulis and Jordan 2012, "Revisiting k-means: new algorithms via Bayesian nonparametrics") likewise opens a cluster for what is too far from all; the rest
// are the reservations of a watchman. It returns true when a regime comes to be believed.
func (t *Tracker) seek(v []detect.Value, ref []Reference) bool {
	m := &t.modes[t.at.Regime]
	if m.accepted && t.at.moving == 0 {
		for i := range t.modes {
			if i != int(t.at.Regime) {
				t.modes[i].away = min(t.modes[i].away+1, mostAway)
			}
		}
	}
	if len(t.modes) > 1 && t.at.moving == 0 {
		t.visit, t.strayed = nil, 0
		if t.at.age == dwell && m.away >= dwell {
			m.visits = min(m.visits+1, 60_000)
		}
		if t.at.age >= dwell {
			m.away = 0
		}
		m.stay = min(m.stay+1, 1<<30)
		return t.believe(false)
	}
	if t.at.next != nowhere || !t.cfg.Find {
		t.visit = nil
		return false
	}
	return t.stay(v, ref)
}

// believe accepts the regime that the machine is in, if it is a candidate and was visited often enough, or people say so.
func (t *Tracker) believe(anyway bool) bool {
	m := &t.modes[t.at.Regime]
	if m.accepted || !anyway && int(m.visits) < t.cfg.Visits {
		return false
	}
	m.accepted = true
	if t.resting() && m.stay >= t.longest() {
		t.rebase()
	}
	return true
}

// resting says that in the base next to all that tells regimes apart is 0: the machine was switched off when it was first seen.
func (t *Tracker) resting() bool {
	drivers, still := 0, 0
	for i, tells := range t.driver {
		if !tells {
			continue
		}
		drivers++
		low, high := t.levels(i)
		if math.Abs(float64(t.level[i])) <= atZero*max(math.Abs(low), math.Abs(high)) {
			still++
		}
	}
	return 4*still >= 3*drivers
}

// longest is the longest of all stays away from the base, in windows.
func (t *Tracker) longest() (n uint32) {
	for i := range t.modes[1:] {
		n = max(n, t.modes[i+1].stay)
	}
	return n
}

// rebase makes the regime that the machine is in its base, for what moves tells more than what rests. All ways between regimes have to be learned anew.
func (t *Tracker) rebase() {
	at := t.at.Regime
	base, here := &t.modes[0], &t.modes[at]
	base.level = t.level
	t.level = make([]float32, t.n)
	for i, x := range here.level {
		if x == x {
			t.level[i] = x
		}
	}
	here.level = nil
	*base, *here = *here, *base
	clear(t.noise)
	clear(t.spread)
	for i := range t.segs {
		t.segs[i] = segment{from: -1, to: -1, turn: t.segs[i].turn}
	}
	t.at = Where{Seg: noSegment, next: nowhere, age: t.at.age}
	t.rebased = true
}

// Declare takes people's word that what the machine does now is how it is meant to be. It is true when that made a regime of it: nothing else needs to be
// learned anew then.
func (t *Tracker) Declare() bool {
	return len(t.modes) > 0 && len(t.rules) == 0 && t.believe(true)
}

// stay takes a window at a level that is not known.
func (t *Tracker) stay(v []detect.Value, ref []Reference) bool {
	far, off, usable := 0, 0, 0
	for i := range t.n {
		if v[i].Count == 0 {
			continue
		}
		usable++
		level, sd, ok := t.base(i, v, ref)
		if z := math.Abs(v[i].Mean - level); ok && z > jumped*sd {
			far++
		} else if ok && z > jumped/2*sd {
			off++
		}
	}
	if t.strayed = min(t.strayed+1, mostAway); far+off < 2 {
		t.strayed = 0
	}
	if t.n < fewestFound || far < 2 || 4*far < usable {
		t.visit = nil
		return false
	}
	if t.visit == nil {
		if t.strayed > t.windows(t.cfg.Settle)+2 {
			return false // it did not jump there, it crept
		}
		t.visit = &visit{first: make([]float32, t.n), second: make([]float32, t.n)}
	}
	s := t.visit
	s.n++
	for i := range t.n {
		x := float32(math.NaN()) // a sensor that is silent once does not tell
		if v[i].Count > 0 {
			x = float32(v[i].Mean)
		}
		if s.n > firstFrom && s.n <= firstTo {
			s.first[i] += x / (firstTo - firstFrom)
		}
		if s.n > secondFrom {
			s.second[i] += x / (secondTo - secondFrom)
		}
	}
	if s.n < secondTo {
		return false
	}
	t.visit = nil
	return t.found(s, v, ref)
}

// base is the level of a sensor in the base and its deviation.
func (t *Tracker) base(i int, v []detect.Value, ref []Reference) (level, sd float64, ok bool) {
	switch {
	case t.level != nil:
		level, sd = float64(t.level[i]), math.Sqrt(float64(t.noise[i]))
	case i < len(ref):
		level, sd = float64(ref[i].Level), float64(ref[i].SD)
	default:
		return 0, 0, false
	}
	return level, max(sd, v[i].Resolution/2, 1e-6*math.Abs(level)), true
}

// found makes a candidate of a visit.
func (t *Tracker) found(s *visit, v []detect.Value, ref []Reference) bool {
	level := make([]float32, t.n)
	tells := make([]bool, t.n)
	found := false
	for i := range level {
		level[i] = float32(math.NaN())
		base, sd, ok := t.base(i, v, ref)
		jump, moved := math.Abs(float64(s.first[i])-base), math.Abs(float64(s.second[i]-s.first[i]))
		if !ok || !(moved <= settledOff*jump+2*sd) {
			continue
		}
		level[i] = s.second[i]
		if jump > jumped*sd {
			tells[i], found = true, true
		}
	}
	if !found {
		return false
	}
	t.begin(ref)
	at := t.room()
	if at < 0 {
		return false
	}
	t.modes[at] = mode{rule: foundBy, visits: 1, level: level}
	for i := range tells {
		t.driver[i] = t.driver[i] || tells[i]
	}
	t.at = Where{Regime: int8(at), Seg: t.makeSegment(t.at.Regime, int8(at)), next: nowhere, age: dwell}
	t.segs[t.at.Seg].visits = 1
	return false
}

// room is the place for one more regime; below 0 when all are taken by better ones.
func (t *Tracker) room() int {
	if len(t.modes) < mostFound {
		t.modes = append(t.modes, mode{})
		return len(t.modes) - 1
	}
	at := -1
	for i := 1; i < len(t.modes); i++ {
		m := &t.modes[i]
		if m.accepted || i == int(t.at.Regime) {
			continue
		}
		if at < 0 || m.visits < t.modes[at].visits || m.visits == t.modes[at].visits && m.away > t.modes[at].away {
			at = i
		}
	}
	if at < 0 {
		return at
	}
	for i := range t.segs {
		if g := &t.segs[i]; int(g.from) == at || int(g.to) == at {
			*g = segment{from: -1, to: -1, turn: g.turn}
		}
	}
	return at
}

// nearest is the regime whose level is the nearest, or nowhere. The one that the machine is in stays it until another is much nearer.
func (t *Tracker) nearest(v []detect.Value, current int) int {
	best, at := nearEnough, nowhere
	if d := t.off(v, current, false); d < nearEnough {
		best, at = stickiness*d, current
	}
	for i := range t.modes {
		if d := t.off(v, i, false); i != current && d < best {
			best, at = d, i
		}
	}
	return at
}

// off is how far a window is from a regime's level, in tolerances: that of the sensor that three in four of those that tell are nearer than. extremes: of each sensor's value that is the farthest.
func (t *Tracker) off(v []detect.Value, regime int, extremes bool) float64 {
	var list [MaxSensors]float64
	n := 0
	for i, tells := range t.driver {
		if !tells || v[i].Count == 0 {
			continue
		}
		level, tol, ok := t.levelOf(regime, i, v[i].Resolution)
		if !ok {
			continue
		}
		x := math.Abs(v[i].Mean - level)
		if extremes {
			x = max(math.Abs(v[i].Min-level), math.Abs(v[i].Max-level))
		}
		list[n] = x / tol
		n++
	}
	if n == 0 {
		return math.Inf(1)
	}
	slices.Sort(list[:n])
	return list[min(3*n/4, n-1)]
}

// levels are the lowest and the highest level that a sensor has in any regime.
func (t *Tracker) levels(sensor int) (low, high float64) {
	low = float64(t.level[sensor])
	high = low
	for i := range t.modes[1:] {
		if x := float64(t.modes[i+1].level[sensor]); x == x {
			low, high = min(low, x), max(high, x)
		}
	}
	return low, high
}

// levelOf is a sensor's level in a regime and what deviates no more than the range of its levels allows.
func (t *Tracker) levelOf(regime, sensor int, resolution float64) (level, tol float64, ok bool) {
	low, high := t.levels(sensor)
	level, ok = float64(t.level[sensor]), true
	if regime > 0 {
		level = float64(t.modes[regime].level[sensor])
		ok = level == level
	}
	return level, max(tolerance*(high-low), math.Sqrt(float64(t.noise[sensor])), resolution, 1e-6*math.Abs(level)), ok
}
