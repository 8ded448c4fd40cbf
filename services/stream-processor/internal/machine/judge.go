package machine

import (
	"math"
	"time"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/breaker"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/calibrate"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/detect"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/regime"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/window"
)

const (
	// settled is the number of windows learned before the machine's own tail learns: younger baselines exaggerate.
	settled = 30
	// A window whose own surprise is below clearSurprise (p > 0.01) says that an episode is over; one below unusualSurprise (p > 0.05) does not
	// carry an episode by itself, whatever the windows before it were.
	clearSurprise   = 4.6
	unusualSurprise = 3.0
)

// scratch is memory for judging one window, lent by the caller's Output.
type scratch struct {
	window    detect.Window
	even      detect.Window        // the same as it would be in the machine's base regime
	leveled   bool                 // even is in use
	known     bool                 // it is known what is usual there
	where     regime.Where         // after the window
	place     regime.Place         // that it is judged at
	refs      []regime.Reference   // by sensor
	scores    []detect.Scores      // by detector, nominal, of those that count
	aside     []detect.Scores      // of those that do not
	counts    []bool               // whether a detector does
	faults    []fault              // by detector
	failures  []Failure            // since the output was reset
	models    []Compared           // likewise
	inputs    []Input              // likewise
	inputRows []float32            // backs inputs[i].Row
	clock     func() time.Duration // nil: nothing is measured
	asked     uint32               // how often a detector was
	took      []Took               // since the output was reset
	surprise  []float32            // by sensor, calibrated; NaN: no opinion
	loudest   []uint8              // by sensor: detector that is most surprised
	level     []detect.Level       // by sensor: worst fixed limit
	marks     []window.Mark        // of the pane judged last
	opinions  []uint8              // of the detectors of the pane followed last, coarse
	joint     joint                // the loudest opinion of all sensors together
	evidence  [maxEvidence]evidence
	middles   []detect.Middle // of the sisters, by slot
	order     []int32         // slots by name
}

func (sc *scratch) mean(i int) float64 { return sc.window.Values[i].Mean }

// joint is what one detector thinks of the vector of all sensors.
type joint struct {
	surprise float64 // calibrated; below 0: no detector has an opinion
	detector int
}

// opinion is what is thought of one window.
type opinion struct {
	own     float64 // the window's surprise by itself; NaN: nobody has an opinion
	nominal float64 // with the windows before it
	final   float64 // calibrated by the machine's history
	demand  float64 // what final must reach to page
	onset   float64 // surprise that something begins; NaN: not watched
	usable  int     // sensors with usable values
	stuck   int     // sensors that are stuck
	worst   detect.Level
}

// judge forms an opinion of a pane that follows those in scan. It changes nothing but sc.
func (m *Machine) judge(p *window.Pane, scan *calibrate.Scan, sc *scratch) opinion {
	op := opinion{demand: math.Inf(1), stuck: p.StuckCount() - m.shelf.stuck(p), onset: math.NaN()}
	m.observe(p, sc, &op)
	m.locate(sc)
	nan := float32(math.NaN())
	var all calibrate.Cauchy
	sc.joint = joint{surprise: -1}
	together := false
	for d := range m.detectors {
		m.ask(d, sc)
		if j := float64(sc.scores[d].Joint); j == j {
			t := m.detectors[d].joint.Correct(&calibrate.SensorPrior, j)
			all.Add(t)
			together = together || !m.detectors[d].spec.Narrow
			if t > sc.joint.surprise {
				sc.joint = joint{surprise: t, detector: d}
			}
		}
	}
	alone := m.sensors
	if m.wide != nil {
		m.hearWide(sc, &op)
		alone = nil
	}
	together = together && len(m.sensors) > 1
	for i := range alone {
		var c calibrate.Cauchy
		most := float32(-1)
		sc.surprise[i], sc.loudest[i], sc.level[i] = nan, 0, detect.Within
		for d := range m.detectors {
			s := &sc.scores[d]
			sc.level[i] = max(sc.level[i], s.Level[i])
			if s.Surprise[i] == s.Surprise[i] && !(together && m.detectors[d].spec.Yields) {
				t := m.detectors[d].tails[i].Correct(&calibrate.SensorPrior, float64(s.Surprise[i]))
				if float32(t) > most {
					most, sc.loudest[i] = float32(t), uint8(d)
				}
				c.Add(t)
			}
		}
		op.worst = max(op.worst, sc.level[i])
		if c.Count() > 0 {
			t := c.Surprise()
			sc.surprise[i] = float32(t)
			all.Add(t)
		}
	}
	op.own = all.Surprise()
	if op.own == op.own {
		op.nominal = scan.Surprise(op.own)
		op.final = m.peaks.Correct(op.nominal)
		op.demand = max(m.debt.Demand(m.pageSurprise()), m.peaks.Correct(m.habit(p.StartUS)))
	}
	if m.wide == nil {
		op.onset = m.onset.Surprise(sc.mean)
	}
	return op
}

// observe fills the observation vector.
func (m *Machine) observe(p *window.Pane, sc *scratch, op *opinion) {
	n := len(m.sensors)
	sc.surprise, sc.loudest, sc.level = resize(sc.surprise, n), resize(sc.loudest, n), resize(sc.level, n)
	w := &sc.window
	w.StartUS, w.EndUS = p.StartUS, p.StartUS+m.cfg.WindowLength.Microseconds()
	w.Values = resize(w.Values, n)
	stale, stats := m.stale(p.StartUS), p.Statistics()
	for i := range w.Values {
		st := stats.Of(i)
		w.Values[i] = detect.Value{
			Mean: st.Mean, Stddev: st.Stddev, Min: st.Min, Max: st.Max, Count: st.Count,
			Resolution: m.sensors[i].quality.Resolution(), Drift: m.sensors[i].course.variance(stale),
		}
		if m.shelf.holds(i, p.StartUS) {
			absent(&w.Values[i])
			continue
		}
		if st.Count > 0 {
			op.usable++
		}
	}
}

// ask has one detector score the observation.
func (m *Machine) ask(d int, sc *scratch) {
	for len(sc.scores) <= d {
		sc.scores = append(sc.scores, detect.Scores{})
	}
	preset(&sc.scores[d], len(m.sensors))
	m.consult(d, m.sees(d, sc), sc)
	m.raise(d, sc)
}

func resize[T any](s []T, n int) []T {
	if n <= cap(s) {
		return s[:n]
	}
	return make([]T, n)
}

// learning tells whether there is too little history to judge behaviour.
func (m *Machine) learning() bool {
	return int64(m.learned) < int64(m.cfg.Calibrate.WarmUp) && m.sisters == 0
}

// frozen tells whether what happens now must not become usual: while an episode of behaviour or of a limit is open. (Sensors that are stuck or of bad
// quality have no usable values, so nothing is learned from them anyway.)
//
// A genuine change of regime is let in by a Correction, never by time alone, or every persisting fault would become normal.
func (m *Machine) frozen() bool { return m.episodes[behaviour].open || m.episodes[limit].open }

// windowUS is the usual distance of two windows in microseconds.
func (m *Machine) windowUS() float64 {
	return max(m.periodUS, float64(m.cfg.WindowLength.Microseconds()))
}

const monthUS = 30 * 24 * 3600 * 1e6

// pageSurprise is what a window must reach to page at the budget, as far as this machine's history tells. Pages given and habits may ask for more.
func (m *Machine) pageSurprise() float64 {
	return calibrate.PageSurprise(m.cfg.Calibrate.Budget, m.windowUS())
}

// flush judges a pane that the watermark has not passed: the machine is idle. Rows in time may still come; it is learned from when it closes.
func (m *Machine) flush(p *window.Pane, out *Output) {
	if p.State == window.Flushed {
		p.Revision++
	}
	op := m.judge(p, &m.scan, &out.scratch)
	m.conclude(p, &op, out)
	p.Marks = append(p.Marks[:0], out.scratch.marks...)
	p.State = window.Flushed
}

// closePanes closes all panes that the watermark has passed, oldest first.
func (m *Machine) closePanes(out *Output) {
	for {
		p := m.panes.FirstNotClosed()
		if p == nil || m.watermarkUS()-p.StartUS < m.cfg.WindowLength.Microseconds() {
			return
		}
		m.heed(p.StartUS, out)
		if p.State == window.Flushed && p.Changed {
			p.Revision++
		}
		op := m.judge(p, &m.scan, &out.scratch)
		marks := p.Marks // of its flush
		if p.Changed {
			m.conclude(p, &op, out)
			marks = out.scratch.marks
		}
		m.follow(p, &op, &out.scratch)
		m.judgeModels(p, out)
		m.passRegime(p, out)
		p.State = window.Closed
		m.trim(out)
		p.Pack(&out.pool, marks, out.scratch.opinions)
	}
}

// conclude marks a judged pane, writes it, and lets it move the episodes.
func (m *Machine) conclude(p *window.Pane, op *opinion, out *Output) {
	sc := &out.scratch
	p.Changed, p.Regime = false, uint32(sc.place)
	p.Learning = m.learning()
	p.Surprise = 0
	if !p.Learning {
		p.Surprise = float32(op.news())
	}
	sc.marks = resize(sc.marks, len(m.sensors))
	for i := range sc.marks {
		sc.marks[i] = m.mark(i, p.Learning, sc)
	}
	m.emit(p, sc.marks, out)
	if out.Explain {
		out.Explanations = append(out.Explanations, m.explain(p, op, &out.scratch))
	}
	m.assess(p, op, out)
	m.current.take(m, p.StartUS, op, sc, true)
}

func (m *Machine) mark(i int, learning bool, sc *scratch) window.Mark {
	nan := float32(math.NaN())
	k := window.Mark{Low: nan, High: nan}
	if t := sc.surprise[i]; t == t && !learning {
		k.Surprise = t
	}
	for d := range m.detectors {
		s := &sc.scores[d]
		if m.detectors[d].spec.Feature == detect.Mean && (s.Low[i] == s.Low[i] || s.High[i] == s.High[i]) {
			k.Low, k.High = s.Low[i], s.High[i]
			if !m.detectors[d].spec.Fixed {
				break // a learned band says more than a fixed one
			}
		}
	}
	k.Round()
	return k
}

// follow moves everything past a pane that closes, and notes what may be learned from it later.
func (m *Machine) follow(p *window.Pane, op *opinion, sc *scratch) {
	for d := range m.detectors {
		if f := &sc.faults[d]; f.why == breaker.None {
			f.why, f.detail = m.tryFollow(d, m.sees(d, sc))
		}
	}
	if m.wide == nil {
		m.onset.Push(sc.mean)
	}
	p.Teaches, p.Nominal = !m.frozen() && !m.odd.open && op.usable > 0 && m.mayTeach(p.StartUS), float32(math.NaN())
	sc.opinions = sc.opinions[:0]
	if op.own == op.own {
		p.Nominal = float32(op.nominal)
		m.scan.Push(op.own)
	}
	if p.Teaches {
		for d := range m.detectors {
			if m.detectors[d].spec.Fixed {
				continue
			}
			said := m.said(d, sc)
			sc.opinions = append(sc.opinions, coarse(said.Joint))
			if m.detectors[d].spec.Together {
				continue
			}
			for _, t := range said.Surprise {
				sc.opinions = append(sc.opinions, coarse(t))
			}
		}
	}
	if p.Teaches && !m.learning() && op.final >= m.pageSurprise()/2 {
		m.held++
	} else {
		m.held = 0
	}
	m.notePeriod(p.StartUS)
	m.debt.Passed(m.windowUS()/monthUS, m.cfg.Calibrate.Budget)
	m.compare(p.StartUS, op, sc)
	m.passBreakers(p, op, sc)
}

// coarse packs a nominal surprise for the tails, which tell no more than 3 from 13.
func coarse(t float32) uint8 {
	if t != t {
		return noOpinion
	}
	return uint8(max(0, min(t*coarseSteps, noOpinion-1)))
}

const (
	coarseSteps = 19
	noOpinion   = 255
)

// mostHeld is the number of windows for which suspicion alone, without an episode, holds the learning back.
const mostHeld = 60

// learn takes a pane that is dropped into what is usual. By now it is as old as corrections go (30 s by default): what led up to an episode was barred when it
// opened, and while the newest windows are half way to a page, nothing is learned, so that a slow fault does not teach its own beginning. A
// single odd window is learned from like any other: it is part of what is usual.
func (m *Machine) learn(p *window.Pane, sc *scratch) {
	if m.learnAside(p, sc) || !p.Teaches || m.frozen() || m.held > 0 && m.held < mostHeld {
		return
	}
	var op opinion
	m.observe(p, sc, &op)
	if !m.learnRegime(p, sc) {
		return
	}
	memory := m.cfg.Calibrate.Memory
	opinions := p.Opinions()
	sensors := m.opinionated(len(opinions))
	for d := range m.detectors {
		det := &m.detectors[d]
		if why, detail := m.tryLearn(d, m.sees(d, sc)); why != breaker.None {
			m.trip(d, why, detail, p.StartUS, sc)
		}
		if det.spec.Fixed || sensors < 0 {
			continue
		}
		each := 1 + sensors
		if det.spec.Together {
			each = 1
		}
		if !m.breakers.of(d).Asked() {
			opinions = opinions[each:]
			continue
		}
		for i, t := range opinions[:each] {
			switch {
			case t == noOpinion:
			case i == 0:
				det.joint.Learn(memory, float64(t)/coarseSteps)
			case i <= len(det.tails):
				det.tails[i-1].Learn(memory, float64(t)/coarseSteps)
			}
		}
		opinions = opinions[each:]
	}
	m.followCourse(m.seen(sc))
	m.catchUp(p.StartUS)
	if p.Nominal == p.Nominal && m.learned >= settled {
		m.peaks.Learn(float64(p.Nominal))
	}
	if m.learned < math.MaxUint32 {
		m.learned++
	}
	m.handOver()
}

// opinionated is the number of sensors that a pane's opinions, so many, are of; below 0 if there are none.
func (m *Machine) opinionated(n int) int {
	each := int(m.calibrated)
	for d := range m.detectors {
		if m.detectors[d].spec.Together {
			each--
		}
	}
	if n < int(m.calibrated) || n == 0 {
		return -1
	}
	if each <= 0 {
		return 0
	}
	return (n - int(m.calibrated)) / each
}

// trim forgets the oldest closed panes beyond those that are kept.
func (m *Machine) trim(out *Output) {
	const perSensor = window.AccumSize + 12
	kept := min(m.cfg.KeptWindows, max(1, maxKeptBytes/(perSensor*max(1, len(m.sensors)))))
	for m.panes.ClosedCount() > kept {
		p := m.panes.All()[0]
		if p.Changed {
			m.correct(p, out)
		}
		m.learn(p, &out.scratch)
		m.panes.DropOldest(&out.pool)
	}
}

// emitCorrections writes closed panes again that late rows have changed.
func (m *Machine) emitCorrections(out *Output) {
	for _, p := range m.panes.All() {
		if p.State == window.Closed && p.Changed {
			m.correct(p, out)
			p.Pack(&out.pool, p.Marks, nil)
		}
	}
	m.trim(out)
}

// correct writes a closed pane again. It keeps the score it had: history is corrected, the past is not judged anew.
func (m *Machine) correct(p *window.Pane, out *Output) {
	if len(p.Marks) > 0 { // else it had no rows until now and was never written
		p.Revision++
	}
	nan := float32(math.NaN())
	for len(p.Marks) < len(p.Accums) {
		p.Marks = append(p.Marks, window.Mark{Low: nan, High: nan})
	}
	p.Changed, p.Teaches = false, false // late rows are never learned from
	m.emit(p, p.Marks, out)
}

// emit appends a judged pane to the output. Sensors that sent nothing in it are left out.
func (m *Machine) emit(p *window.Pane, marks []window.Mark, out *Output) {
	first := len(out.sensors)
	for i := range p.Accums {
		st := p.Accums[i].Stats()
		if st.Count == 0 && st.Unusable == 0 {
			continue
		}
		k := &marks[i]
		out.sensors = append(out.sensors, SensorWindow{
			Sensor: m.sensors[i].name.Value(), Count: st.Count, Unusable: st.Unusable,
			Mean: st.Mean, Stddev: st.Stddev, Min: st.Min, Max: st.Max, Last: st.Last,
			Score: calibrate.Score(float64(k.Surprise)), ExpectedLow: wide(k.Low), ExpectedHigh: wide(k.High),
		})
	}
	out.Windows = append(out.Windows, Window{
		EquipmentID: m.id, StartUS: p.StartUS, EndUS: p.StartUS + m.cfg.WindowLength.Microseconds(), Revision: p.Revision,
		Sensors: out.sensors[first:len(out.sensors):len(out.sensors)],
		Score:   calibrate.Score(float64(p.Surprise)), Learning: p.Learning, ClosedAtMS: m.logMS, Regime: m.regimeName(p.Regime),
	})
}

// wide is a float64 with the one NaN that everybody writes.
func wide(x float32) float64 {
	if x != x {
		return math.NaN()
	}
	return float64(x)
}

// Scores that fixed findings have by convention, where no chance is computed.
const (
	scoreWarning  = 0.99
	scoreCritical = 0.999
)

// verdict is Verdict by slots.
type verdict struct {
	startUS  int64
	surprise float32
	atLeast  float32 // score of fixed findings
	learning bool
	flag     bool
	severity eventv1.Severity
	evidence []evidence
}

func (v *verdict) take(m *Machine, startUS int64, op *opinion, sc *scratch, brief bool) {
	*v = verdict{startUS: startUS, learning: m.learning(), evidence: v.evidence[:0]}
	if !v.learning {
		v.surprise = float32(op.news())
	}
	switch {
	case op.worst == detect.Critical:
		v.atLeast = scoreCritical
	case op.worst == detect.Warning || op.stuck > 0:
		v.atLeast = scoreWarning
	}
	v.flag = v.atLeast > 0 || !v.learning && !m.aftermath(op.own) && (op.final >= op.demand || m.episodes[behaviour].open && op.own >= clearSurprise)
	for _, c := range []cause{behaviour, limit, flatline} {
		if e := &m.episodes[c]; e.open {
			v.severity = max(v.severity, e.severity)
		}
	}
	if v.flag {
		v.severity = max(v.severity, eventv1.Severity_SEVERITY_WARNING)
	}
	if op.worst == detect.Critical {
		v.severity = eventv1.Severity_SEVERITY_CRITICAL
	}
	switch {
	case brief && !v.flag: // nobody asks who drove a usual window, and every machine would keep ten sensors for it
		v.evidence = nil
	case op.worst > detect.Within:
		v.evidence = append(v.evidence, m.limitEvidence(sc)...)
	case !v.learning:
		v.evidence = append(v.evidence, m.behaviourEvidence(sc)...)
	}
}

func (v *verdict) show(m *Machine) *Verdict {
	if m.view == nil {
		m.view = new(Verdict)
	}
	to := m.view
	*to = Verdict{
		WindowStartUS: v.startUS, Score: max(calibrate.Score(float64(v.surprise)), float64(v.atLeast)),
		PValue: calibrate.PValue(float64(v.surprise)), Learning: v.learning, Flag: v.flag, Severity: v.severity,
		Contributions: to.Contributions[:0],
	}
	for i := range v.evidence {
		to.Contributions = append(to.Contributions, m.contribution(&v.evidence[i]))
	}
	return to
}

// Current is the verdict of the newest judged window. It is valid until the next call of any method.
func (m *Machine) Current() *Verdict { return m.current.show(m) }

// Provisional judges the windows that are still open as if they ended now, after those before them, without learning: what can be known right
// after the newest row. The most anomalous of them counts. Without any it is Current. It costs as much as closing them does, and is valid until the next
// call of any method.
func (m *Machine) Provisional(out *Output) *Verdict {
	scan, best, found := m.scan, verdict{}, false
	for _, p := range m.panes.All() {
		if p.State == window.Closed {
			continue
		}
		op := m.judge(p, &scan, &out.scratch)
		var v verdict
		v.take(m, p.StartUS, &op, &out.scratch, false)
		if !found || v.rank() >= best.rank() {
			best, found = v, true
		}
		if op.own == op.own {
			scan.Push(op.own)
		}
	}
	if !found {
		return m.Current()
	}
	return best.show(m)
}

func (v *verdict) rank() float64 { return max(float64(v.surprise), -math.Log1p(-float64(v.atLeast))) }
