// Package regime tells in which regime a machine runs (off, warm-up, steady, load), and what each of its sensors usually does there.
//
// What is usual in a regime is held as a difference to the regime that the machine was first known in, its base: how far each sensor's level lies from there, as a
// function of the time since the regime was entered, and how much less that is known than the level of the base. Subtracting it leaves values that
// detectors judge as if the machine had never left its base, so all that is learned in one regime serves in all: the regime-normalised features of condition
// monitoring, and the mean trajectory of multiway process monitoring (Nomikos and MacGregor 1994, "Monitoring batch processes using multiway principal component
// analysis") for the time after a change, when temperatures are on their way. A machine of one regime is left alone, bit for bit.
//
// Regimes are given by rules over one sensor, or found: see Tracker.seek. In transition nothing is judged.
//
// Everything is a function of the windows in their order. Owned by one machine, used by one goroutine at a time.
package regime

import (
	"math"
	"path"
	"strconv"
	"time"

	"github.com/tocsin-io/tocsin/services/stream-processor/internal/detect"
)

// MaxSensors is the most sensors of a machine whose regimes are told: memory is in proportion to sensors and regimes.
const MaxSensors = 128

// Tracker follows one machine. Memory: none to speak of while it has one regime; from the second on 12 bytes per sensor, 4 per sensor and regime that was found, and
// 68 per sensor and way from one regime into another, of which there are at most maxSegments.
type Tracker struct {
	cfg    *Config
	period time.Duration // of windows
	rules  []rule
	at     Where
	modes  []mode // by regime; the first is the base
	segs   []segment

	// By sensor, from the first change of regime on.
	level   []float32 // of the base, as of now
	noise   []float32 // mean square about it
	spread  []float32 // usual standard deviation inside windows of the base
	driver  []bool    // sensors that jump from regime to regime
	visit   *visit    // at a level that is not known yet
	strayed uint16    // windows since the machine was where it is known to be
	n       int       // sensors

	rebased bool // just now: what was learned of the base is void
	young   bool // level is not that of a machine that was got to know yet
}

// rule is a Rule that is about the machine.
type rule struct {
	index     int32
	slot      int32 // -1: there is no such sensor yet
	low, high float64
}

// mode is one regime.
type mode struct {
	rule     int32 // that gives it, or one of those below
	accepted bool
	visits   uint16
	away     uint16    // windows in regimes that are believed since it was left, saturated
	stay     uint32    // windows in it, while it was not the base
	level    []float32 // of a found one, by sensor; NaN: it does not tell
}

const (
	noRule  = -1 // given: no rule holds
	foundBy = -2
)

// Where is where in its regimes a machine is after a window. The zero value is the base.
type Where struct {
	Regime int8
	Seg    int8 // of the way it came; noSegment: it was there from the start
	held   bool
	next   int8   // what it has looked like lately, if not like Regime
	rule   int32  // of a regime that is not known yet
	streak uint16 // windows in a row that look like next
	moving uint16 // windows in a row that do not look like Regime
	age    uint32 // windows since it entered
}

const (
	noSegment  = -1
	newSegment = -2
	nowhere    = -1
)

// Place is what is kept of a Where with a window, to judge and learn by.
type Place uint32

const (
	placeHeld = 1 << iota
	placeAside
)

// Held: the machine is in transition; nothing is judged and nothing learned.
func (p Place) Held() bool { return p&placeHeld != 0 }

// Aside: what is learned is kept apart, because the regime is not believed yet; the window is judged as if it was of the base.
func (p Place) Aside() bool { return p&placeAside != 0 }

// Away: the window is not simply one of the base.
func (p Place) Away() bool { return p&(placeHeld|placeAside) != 0 || p.seg() != noSegment }

// From the lowest bit: held, aside, 3 bits of regime, 4 of one more than the segment, 8 of its turn, 15 of age.
func (p Place) regime() int { return int(p >> 2 & 7) }
func (p Place) turn() uint8 { return uint8(p >> 9) }
func (p Place) age() uint32 { return uint32(p >> 17) }

func (p Place) seg() int {
	if s := int(p >> 5 & 15); s != 15 {
		return s - 1
	}
	return newSegment
}

// oldest is the age from which on it counts no more.
const oldest = 1<<15 - 1

// New makes a tracker of a machine that regimes are given for; nil for others. period is the length of windows.
func New(cfg *Config, equipmentID string, period time.Duration) *Tracker {
	var rules []rule
	for i := range cfg.Given {
		r := &cfg.Given[i]
		if ok, err := path.Match(r.Machine, equipmentID); err != nil || !ok {
			continue
		}
		low, high := r.bounds()
		rules = append(rules, rule{index: int32(i), slot: -1, low: low, high: high})
	}
	if rules == nil {
		return nil
	}
	return &Tracker{cfg: cfg, period: period, at: Where{Seg: noSegment, next: nowhere}, rules: rules}
}

// Seek makes a tracker that looks for regimes; nil if none shall be found.
func Seek(cfg *Config, period time.Duration) *Tracker {
	if !cfg.Find {
		return nil
	}
	return &Tracker{cfg: cfg, period: period, at: Where{Seg: noSegment, next: nowhere}}
}

// Grow tells the names of all sensors. Beyond MaxSensors the tracker falls silent.
func (t *Tracker) Grow(sensors []string) {
	t.n = len(sensors)
	if t.n > MaxSensors {
		*t = Tracker{cfg: t.cfg, period: t.period, rules: t.rules, at: Where{Seg: noSegment, next: nowhere}, n: t.n}
		return
	}
	for i := range t.rules {
		for slot, name := range sensors {
			if t.rules[i].slot < 0 && name == t.cfg.Given[t.rules[i].index].Sensor {
				t.rules[i].slot = int32(slot)
			}
		}
	}
	if t.level != nil {
		t.allocate()
	}
	t.visit = nil
}

// Several says that more than one regime is known and believed.
func (t *Tracker) Several() bool {
	n := 0
	for i := range t.modes {
		if t.modes[i].accepted {
			n++
		}
	}
	return n > 1
}

// windows is the number of windows that a time takes, at least 1.
func (t *Tracker) windows(d time.Duration) uint16 {
	return uint16(max(1, min((d+t.period-1)/t.period, 10_000)))
}

// Next is where the machine is after a window that follows cur. It changes nothing.
func (t *Tracker) Next(cur Where, v []detect.Value) Where {
	if t.n > MaxSensors || len(v) < t.n {
		return cur
	}
	look, sure := 0, true // like base
	rule := int32(noRule)
	switch {
	case len(t.rules) > 0:
		if rule, sure = t.ruleOf(v); rule == foundBy {
			return cur // the sensor that tells is silent
		}
		look = t.modeOf(rule)
		if len(t.modes) == 0 {
			cur.rule, cur.age = rule, cur.age+1
			return cur
		}
	case len(t.modes) > 1:
		look = t.nearest(v, int(cur.Regime))
		sure = look != int(cur.Regime) || t.off(v, look, true) <= farOff
	}
	w := cur
	if w.age < math.MaxUint32 {
		w.age++
	}
	settle := t.windows(t.cfg.Settle)
	plural := t.Several() || len(t.rules) > 0
	if look == int(cur.Regime) && sure {
		w.moving, w.streak, w.next = 0, 0, nowhere
		w.held = plural && w.Seg != noSegment && w.age <= uint32(settle)
		return w
	}
	w.moving = min(w.moving+1, 60_000)
	w.held = plural && w.moving <= settle+1
	if look == nowhere || look == int(cur.Regime) {
		w.next, w.streak = nowhere, 0
		return w
	}
	if int(w.next) != look || w.rule != rule {
		w.next, w.streak, w.rule = int8(look), 0, rule
	}
	w.streak++
	if w.streak >= (settle+1)/2 {
		return Where{Regime: int8(look), Seg: t.segmentOf(int(cur.Regime), look), next: nowhere, rule: rule, age: uint32(w.streak), held: plural && uint32(w.streak) <= uint32(settle)}
	}
	return w
}

// ruleOf is the rule that holds; foundBy when that cannot be told. sure is false when it did not hold for all of the window.
func (t *Tracker) ruleOf(v []detect.Value) (index int32, sure bool) {
	index = foundBy
	low, high := int32(noRule), int32(noRule)
	seen := [3]bool{}
	for i := range t.rules {
		r := &t.rules[i]
		if r.slot < 0 || v[r.slot].Count == 0 {
			continue
		}
		if index == foundBy {
			index = noRule
		}
		s := &v[r.slot]
		for k, x := range [3]float64{s.Mean, s.Min, s.Max} {
			if !seen[k] && x >= r.low && x < r.high {
				seen[k] = true
				switch k {
				case 0:
					index = r.index
				case 1:
					low = r.index
				case 2:
					high = r.index
				}
			}
		}
	}
	return index, t.sameName(low, high)
}

func (t *Tracker) sameName(a, b int32) bool {
	return a == b || a >= 0 && b >= 0 && t.cfg.Given[a].Name == t.cfg.Given[b].Name
}

// modeOf is the regime that a rule gives, one beyond the last if it is new; the base when there are too many.
func (t *Tracker) modeOf(rule int32) int {
	for i := range t.modes {
		if t.sameName(t.modes[i].rule, rule) {
			return i
		}
	}
	if len(t.modes) == maxRegimes {
		return 0
	}
	return len(t.modes)
}

// At is where the machine is as of the last window that was passed.
func (t *Tracker) At() Where { return t.at }

// Place is what is to be kept of w with its window.
func (t *Tracker) Place(w Where) Place {
	p := Place(min(w.age, oldest))<<17 | Place(w.Seg+1)&15<<5 | Place(w.Regime)<<2
	if w.Seg >= 0 {
		p |= Place(t.segs[w.Seg].turn) << 9
	}
	if w.held {
		p |= placeHeld
	}
	if int(w.Regime) < len(t.modes) && !t.believed(w) {
		p |= placeAside
	}
	return p
}

// believed says that the regimes that the machine is in and came from both are.
func (t *Tracker) believed(w Where) bool {
	from := t.at.Regime // where it comes from if nobody went this way yet
	switch {
	case w.Seg == noSegment:
		return t.modes[w.Regime].accepted
	case w.Seg >= 0:
		from = t.segs[w.Seg].from
	}
	return t.modes[w.Regime].accepted && from >= 0 && t.modes[from].accepted
}

// Name is what people call the regime of a place; empty while the machine has but one.
func (t *Tracker) Name(p Place) string {
	i := p.regime()
	if i >= len(t.modes) || !t.Several() || p.Aside() {
		return ""
	}
	m := &t.modes[i]
	switch {
	case m.rule >= 0:
		return t.cfg.Given[m.rule].Name
	case m.rule == noRule:
		return "other"
	case t.atRest(m):
		return "off"
	}
	return "mode " + strconv.Itoa(i+1)
}

// atRest says that all that tells the regime is 0.
func (t *Tracker) atRest(m *mode) bool {
	told := false
	for i, x := range m.level {
		if x == x && i < len(t.driver) && t.driver[i] {
			if math.Abs(float64(x)) > atZero*math.Abs(float64(t.level[i])) {
				return false
			}
			told = true
		}
	}
	return told
}

// Reference is what a machine holds to be usual of a sensor in its base.
type Reference struct{ Level, SD float32 }

// NeedsReference says whether Pass wants the references.
func (t *Tracker) NeedsReference() bool {
	return t.n <= MaxSensors && (len(t.rules) > 0 || t.cfg.Find)
}

// Pass moves the machine to w, which Next made of At and the window v. ref is what was usual before it; nil while too little is known. It returns true when a
// regime came to be believed that was not, or was entered for the first time: what was odd until now is explained by it.
func (t *Tracker) Pass(w Where, v []detect.Value, ref []Reference) (explained bool) {
	if t.n > MaxSensors || len(v) < t.n {
		return false
	}
	if len(t.modes) == 0 {
		if len(t.rules) > 0 && w.age == 0 {
			return false // nothing was told yet
		}
		rule := int32(foundBy)
		if len(t.rules) > 0 {
			rule = w.rule
		}
		t.modes = []mode{{rule: rule, accepted: true}}
	}
	if w.Regime != t.at.Regime {
		if len(ref) < t.n && t.level == nil { // too young to tell one regime from another: all is base
			t.at = Where{Seg: noSegment, next: nowhere}
			if len(t.rules) > 0 {
				t.modes[0].rule = w.rule
			}
			return false
		}
		t.begin(ref)
		if int(w.Regime) == len(t.modes) {
			t.modes = append(t.modes, mode{rule: w.rule, accepted: true})
			explained = true
		}
		if w.Seg == newSegment {
			w.Seg = t.makeSegment(t.at.Regime, w.Regime)
		}
		t.segs[w.Seg].visits = min(t.segs[w.Seg].visits+1, 1000)
	}
	t.at = w
	if len(t.rules) == 0 {
		explained = t.seek(v, ref) || explained
	}
	return explained
}

// Rebased is true once after what the machine knows of its base became void: it must be learned anew.
func (t *Tracker) Rebased() bool {
	was := t.rebased
	t.rebased, t.young = false, t.young || was
	return was
}

// begin takes note of the base before the machine first leaves it.
func (t *Tracker) begin(ref []Reference) {
	if t.level != nil && !(t.young && len(ref) >= t.n) {
		return
	}
	t.young = false
	t.allocate()
	for i := range t.level {
		t.level[i], t.noise[i] = ref[i].Level, bounded(float64(ref[i].SD)*float64(ref[i].SD))
	}
}

func (t *Tracker) allocate() {
	t.level, t.noise, t.spread = grow(t.level, t.n), grow(t.noise, t.n), grow(t.spread, t.n)
	if len(t.rules) == 0 {
		t.driver = grow(t.driver, t.n)
		for i := range t.modes {
			m := &t.modes[i]
			if m.level != nil {
				from := len(m.level)
				m.level = grow(m.level, t.n)
				for j := from; j < t.n; j++ {
					m.level[j] = float32(math.NaN())
				}
			}
		}
	}
	for i := range t.segs {
		t.segs[i].data = grow(t.segs[i].data, t.n*perSensor)
	}
}

func grow[T any](s []T, n int) []T {
	if n <= len(s) {
		return s
	}
	out := make([]T, n)
	copy(out, s)
	return out
}
