package machine

import (
	"math"
	"strconv"
	"time"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/coverage"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/detect"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine/codec"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/window"
)

// maxNamed bounds the sensors that a coverage record names: all of any machine that is not wide.
const maxNamed = 512

// cover is what is known of a machine's coverage beside its sensors'.
type cover struct {
	lag        coverage.Lag
	refused    uint32          // frames that became dead letters since the last one that was taken
	unslotted  uint32          // sensors of the newest frame that have no place
	reportedMS int64           // log time of the newest record
	dirty      bool            // some sensor's reason changed since
	shown      coverage.Reason // of the whole machine, in the newest record
}

func newCover() cover {
	return cover{reportedMS: -maxLogMS}
}

// shelf is which sensors of a machine are out of judgement.
type shelf struct {
	rules   coverage.Shelves
	untilUS []int64 // event time before which a sensor is not judged, by slot
}

func newShelf(rules coverage.Shelves) *shelf {
	if len(rules) == 0 {
		return nil
	}
	return &shelf{rules: rules}
}

// add takes the next sensor.
func (s *shelf) add(name string) {
	if s == nil {
		return
	}
	until, ever, ok := s.rules.Until(name)
	switch {
	case ever:
		until = math.MaxInt64
	case !ok:
		until = math.MinInt64
	}
	s.untilUS = append(s.untilUS, until)
}

// holds tells whether a sensor is out of judgement in the window that starts there.
func (s *shelf) holds(slot int, startUS int64) bool { return s != nil && startUS < s.untilUS[slot] }

// stuck is the number of stuck sensors that are shelved.
func (s *shelf) stuck(p *window.Pane) int {
	if s == nil {
		return 0
	}
	n := 0
	for i := range s.untilUS {
		if s.holds(i, p.StartUS) && p.Stuck(i) {
			n++
		}
	}
	return n
}

// coverArrival takes an accepted frame, before anything else does. The age of the newest sample is that of all frames of the log time before, so that it does not matter how
// samples were packed.
func (m *Machine) coverArrival() {
	m.cover.refused = 0
	if m.started && m.arrivals.count > 0 && m.logMS > m.arrivals.lastMS {
		m.cover.lag.Note(&m.cfg.Coverage, m.arrivals.lastMS, m.arrivals.lastMS-m.newestUS/1000)
	}
}

// Refusing tells whether frames of the machine arrived since the last that was taken, and became dead letters.
func (m *Machine) Refusing() bool { return m.cover.refused > 0 }

// coverOverflow takes how many sensors of the newest frame have no place.
func (m *Machine) coverOverflow() {
	if n := uint32(len(m.layout.overflow)); n != m.cover.unslotted {
		m.cover.unslotted, m.cover.dirty = n, true
	}
}

// Refused takes note of a frame of this machine that became a dead letter. It moves no time.
func (m *Machine) Refused() {
	if m.cover.refused < math.MaxUint32 {
		m.cover.refused++
	}
}

// coverPane follows every sensor's coverage through a window that was judged for the first time.
func (m *Machine) coverPane(p *window.Pane, sc *scratch) {
	if sc.place.Held() {
		return // in transition: for seconds, and on purpose
	}
	w := coverage.Window{
		StartUS: p.StartUS, EndUS: p.StartUS + m.cfg.WindowLength.Microseconds(), Learning: m.learning() || !sc.known, Degraded: m.degraded(), Alone: !m.speaking(sc),
	}
	joint := false
	for d := range m.detectors {
		joint = joint || sc.scores[d].Joint == sc.scores[d].Joint && m.speaks(d, sc)
	}
	for i := range m.sensors {
		s, a := &m.sensors[i], &p.Accums[i]
		w.Count, w.Unusable, w.Stuck, w.Shelved = a.Count, a.Unusable, p.Stuck(i), m.shelf.holds(i, p.StartUS)
		w.Opinion = joint && !w.Alone || m.opinion(i, w.Alone, sc)
		if s.cover.Step(&m.cfg.Coverage, &w) {
			m.cover.dirty = true
		}
	}
}

// opinion tells whether a detector that counts has one of the sensor: fixed limits only where there is no other.
func (m *Machine) opinion(slot int, alone bool, sc *scratch) bool {
	for d := range m.detectors {
		s := &sc.scores[d]
		if m.learns(d) == alone || !alone && !m.speaks(d, sc) {
			continue
		}
		if s.Surprise[slot] == s.Surprise[slot] || s.Low[slot] == s.Low[slot] || s.High[slot] == s.High[slot] {
			return true
		}
	}
	return false
}

// learns tells whether a detector learns what is usual, unlike fixed limits.
func (m *Machine) learns(d int) bool {
	return !m.detectors[d].spec.Fixed || m.wide != nil && d == len(m.detectors)-1
}

// speaking tells whether any detector that learns counts in this window.
func (m *Machine) speaking(sc *scratch) bool {
	for d := range m.detectors {
		if m.learns(d) && m.speaks(d, sc) {
			return true
		}
	}
	return false
}

// blindFinding is whether sensors that should be judged are not, for reasons that nothing else tells of.
func (m *Machine) blindFinding(p *window.Pane, sc *scratch) finding {
	after := m.cfg.Coverage.BlindAfter.Microseconds()
	endUS := p.StartUS + m.cfg.WindowLength.Microseconds()
	long := func(i int) bool {
		c := &m.sensors[i].cover
		return c.Reason().Blind() && after > 0 && c.BlindFor(endUS) >= after
	}
	blind, worst := 0, 0
	for i := range m.sensors {
		if m.sensors[i].cover.Reason().Blind() {
			blind++
		}
		if long(i) {
			worst++
		}
	}
	if worst == 0 {
		return finding{clear: blind == 0}
	}
	return finding{
		anomalous: true, severity: eventv1.Severity_SEVERITY_WARNING, score: scoreWarning, weight: float64(worst),
		evidence: m.sensorEvidence(sc, func(i int) (float64, bool) { return math.NaN(), long(i) }),
	}
}

// blindness is why nothing of the machine is judged in time, whatever its sensors' own reasons are; false when there is no such reason.
func (m *Machine) blindness() (coverage.Reason, bool) {
	late, _, isLate := m.cover.lag.Late()
	switch {
	case m.episodes[silence].open && m.cover.refused > 0:
		return coverage.FramesRefused, true
	case m.episodes[silence].open:
		return coverage.MachineSilent, true
	case m.episodes[clock].open && isLate && m.cover.lag.Wrong():
		return late, true
	case m.episodes[clock].open && m.logMS > m.inTimeMS:
		return coverage.ClockBehind, true
	case m.episodes[clock].open:
		return coverage.ClockAhead, true
	case isLate:
		return late, true
	}
	return coverage.Unheard, false
}

// reasonOf is a sensor's reason under that of its machine.
func (m *Machine) reasonOf(slot int, of coverage.Reason, all bool) coverage.Reason {
	if r := m.sensors[slot].cover.Reason(); !all || r == coverage.Shelved || r == coverage.NoDetector {
		return r
	}
	return of
}

// coverDueMS is the log time from which a coverage record may be written; math.MaxInt64: there is nothing to say.
func (m *Machine) coverDueMS() int64 {
	c := &m.cover
	if len(m.sensors) == 0 {
		return math.MaxInt64
	}
	if of, _ := m.blindness(); !c.dirty && of == c.shown {
		return math.MaxInt64
	}
	return c.reportedMS + m.cfg.Coverage.ReportEvery.Milliseconds()
}

// reportCoverage writes what is judged of the machine, when there is something new to say and it is time.
func (m *Machine) reportCoverage(out *Output) {
	if m.logMS < m.coverDueMS() {
		return
	}
	of, _ := m.blindness()
	m.cover.reportedMS, m.cover.dirty, m.cover.shown = m.logMS, false, of
	out.Coverage = append(out.Coverage, m.Coverage())
}

// Coverage is what is judged of the machine now. It changes nothing.
func (m *Machine) Coverage() *eventv1.MachineCoverage {
	out := &eventv1.MachineCoverage{
		EquipmentId: m.id, GatewayId: m.gateway, AtMs: m.logMS, Health: m.Health(), Detectors: m.ailing(), RefusedFrames: m.cover.refused,
		LearningLeftUs: m.learningLeftUS(),
	}
	if m.started {
		out.NewestUs = m.newestUS
	}
	if _, behind, ok := m.cover.lag.Late(); ok {
		out.BehindUs = behind * 1000
	}
	of, all := m.blindness()
	var groups [256]*eventv1.CoverageGroup
	named := 0
	for i := range m.sensors {
		r := m.reasonOf(i, of, all)
		g := groups[r]
		if g == nil {
			g = &eventv1.CoverageGroup{State: r.State(), Reason: r.String()}
			groups[r] = g
		}
		g.Count++
		if named < maxNamed {
			named++
			g.Sensors = append(g.Sensors, m.sensors[i].name.Value())
			g.JudgedUntilUs = append(g.JudgedUntilUs, m.sensors[i].cover.UntilUS())
		}
	}
	if n := m.cover.unslotted; n > 0 {
		g := &eventv1.CoverageGroup{State: coverage.TooMany.State(), Reason: "sensors", Count: n}
		if int(m.room) < m.cfg.MaxSensors {
			g.Reason = "memory"
		}
		groups[coverage.TooMany] = g
	}
	for _, g := range groups {
		if g != nil {
			out.Groups = append(out.Groups, g)
		}
	}
	return out
}

// Census adds the machine's sensors to counts by state (eventv1.CoverageState).
func (m *Machine) Census(counts []int) {
	of, all := m.blindness()
	for i := range m.sensors {
		counts[m.reasonOf(i, of, all).State()]++
	}
	counts[eventv1.CoverageState_COVERAGE_STATE_REFUSED] += int(m.cover.unslotted)
}

// Gateway is the one that brought the newest frame.
func (m *Machine) Gateway() string { return m.gateway }

// Heard is when the machine was last heard of, and how often it usually is.
func (m *Machine) Heard() coverage.Heard {
	return coverage.Heard{LastMS: m.arrivals.lastMS, IntervalMS: m.arrivals.intervalMS(), Known: int64(m.arrivals.count) >= int64(m.cfg.Silence.MinArrivals)}
}

// learningLeftUS is how long the machine has still to be learned if it goes on as it does.
func (m *Machine) learningLeftUS() int64 {
	if !m.learning() {
		return 0
	}
	return int64(float64(m.cfg.Calibrate.WarmUp-int(m.learned)) * m.windowUS())
}

// absent makes a value of a sensor that is not to be judged.
func absent(v *detect.Value) {
	nan := math.NaN()
	*v = detect.Value{Mean: nan, Stddev: nan, Min: nan, Max: nan, Resolution: v.Resolution, Drift: v.Drift}
}

// lateText says by how much the machine's samples are behind, where that is what is wrong with its clock; else it is empty.
func (m *Machine) lateText() string {
	r, behind, ok := m.cover.lag.Late()
	if !ok || !m.cover.lag.Wrong() {
		return ""
	}
	age := (time.Duration(min(behind, math.MaxInt64/1_000_000)) * time.Millisecond).Round(time.Second).String()
	if r == coverage.FallingBehind {
		return "samples of this machine come " + age + " after they were taken, and later all the time: gateway " + strconv.Quote(m.gateway) + " cannot send them as fast as they are made"
	}
	return "samples of this machine are always " + age + " behind the broker's clock: the clock of gateway " + strconv.Quote(m.gateway) + " is behind"
}

// blindReason says of one sensor why it is not judged.
func (m *Machine) blindReason(slot int32) string {
	s := &m.sensors[slot]
	switch s.cover.Reason() {
	case coverage.SensorSilent:
		return s.name.Value() + " sends nothing, while others of the machine do"
	case coverage.AfterClose:
		return s.name.Value() + " comes too late to be judged: its windows are closed by the others' samples"
	}
	return s.name.Value() + " was not judged"
}

func (c *cover) appendState(dst []byte) []byte {
	dst = c.lag.AppendState(dst)
	dst = codec.AppendU32(dst, c.refused)
	dst = codec.AppendU32(dst, c.unslotted)
	dst = codec.AppendI64(dst, c.reportedMS)
	dst = codec.AppendBool(dst, c.dirty)
	return append(dst, byte(c.shown))
}

func (c *cover) restoreState(r *codec.Reader) {
	c.lag.RestoreState(r)
	c.refused, c.unslotted, c.reportedMS, c.dirty = r.U32(), r.U32(), r.I64(), r.Bool()
	if c.shown = coverage.Reason(r.U8()); !c.shown.Valid() {
		r.Fail("coverage out of range")
	}
}
