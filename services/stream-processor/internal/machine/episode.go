package machine

import (
	"math"
	"strconv"
	"time"

	"github.com/tocsin-io/tocsin/pkg/frame"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/calibrate"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/cohort"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/coverage"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/detect"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/window"
)

// cause is why an episode is open. A machine has at most one episode of each cause at a time.
type cause uint8

const (
	behaviour cause = iota
	limit
	flatline
	badQuality
	silence
	clock
	blind
	model
	causes
)

func (c cause) String() string {
	return [causes]string{"behaviour", "limit", "flatline", "bad_quality", "silence", "clock", "blind", "model"}[c]
}

// episode is one fault as told to others: started once, reported while it lasts, ended once.
type episode struct {
	open bool
	any  bool // there ever was one
	*told
}

// told is of the episode that is open, or was last; nil while there never was any, as for most causes in most machines.
type told struct {
	startedUS  int64
	reportedUS int64 // event time of the last report
	severity   eventv1.Severity
	flagged    uint32 // windows that carried it
	clear      uint32 // windows in a row that did not
	peak       float32
	confidence float32
	evidence   []evidence // of the worst window
}

// finding is what one window says about one cause.
type finding struct {
	anomalous bool
	clear     bool
	severity  eventv1.Severity // if anomalous
	score     float64
	weight    float64 // orders the windows of an episode: the heaviest is remembered
	doubt     float32 // 1 less the confidence of an episode that begins with it
	evidence  []evidence
}

// tells is whether the evidence speaks for itself. A running mean may still be far off in a window that is itself as usual.
func (f *finding) tells() bool {
	if len(f.evidence) == 0 {
		return false
	}
	e := &f.evidence[0]
	return !(e.observed >= float64(e.low) && e.observed <= float64(e.high))
}

// assess lets a judged pane move the episodes. A pane that was flushed and has changed since is assessed again, but counts once.
func (m *Machine) assess(p *window.Pane, op *opinion, out *Output) {
	fresh := !m.assessed || p.StartUS > m.assessedUS
	if fresh {
		m.assessed, m.assessedUS = true, p.StartUS
	}
	sc := &out.scratch
	m.noteExcursion(p, op, fresh)
	m.step(limit, p, fresh, m.limitFinding(op, sc), out)
	m.step(behaviour, p, fresh, m.behaviourFinding(op, fresh, sc), out)
	m.step(flatline, p, fresh, m.flatlineFinding(p, op, sc), out)
	m.step(badQuality, p, fresh, m.qualityFinding(p, fresh, sc), out)
	if fresh {
		m.coverPane(p, sc)
	}
	m.step(blind, p, fresh, m.blindFinding(p, sc), out)
}

func (m *Machine) behaviourFinding(op *opinion, fresh bool, sc *scratch) finding {
	f := finding{clear: op.own < clearSurprise || m.aftermath(op.own), score: calibrate.Score(op.final), weight: op.own} // false for NaN: nothing to see is no all-clear
	f.anomalous = !m.learning() && op.own >= unusualSurprise && op.final >= op.demand && !m.aftermath(op.own)
	if !f.anomalous {
		return f
	}
	f.severity, f.evidence = eventv1.Severity_SEVERITY_WARNING, m.behaviourEvidence(sc)
	e := &m.episodes[behaviour]
	if !e.open {
		n := float64(m.learned)
		if m.sisters > 0 {
			n += cohort.Worth
		}
		f.doubt = 1 - float32(n/(n+float64(m.cfg.Calibrate.WarmUp))*float64(op.usable)/float64(max(1, len(m.sensors))))
	}
	windows := int64(1)
	if e.open {
		if windows = int64(e.flagged); fresh {
			windows++
		}
	}
	if windows >= int64(m.cfg.Episodes.CriticalWindows) {
		f.severity = eventv1.Severity_SEVERITY_CRITICAL
	}
	return f
}

func (m *Machine) limitFinding(op *opinion, sc *scratch) finding {
	switch op.worst {
	case detect.Critical:
		return finding{anomalous: true, severity: eventv1.Severity_SEVERITY_CRITICAL, score: scoreCritical, weight: 1, evidence: m.limitEvidence(sc)}
	case detect.Warning:
		return finding{anomalous: true, severity: eventv1.Severity_SEVERITY_WARNING, score: scoreWarning, evidence: m.limitEvidence(sc)}
	}
	return finding{clear: op.usable > 0}
}

func (m *Machine) flatlineFinding(p *window.Pane, op *opinion, sc *scratch) finding {
	if op.stuck == 0 {
		return finding{clear: op.usable > 0}
	}
	return finding{
		anomalous: true, severity: eventv1.Severity_SEVERITY_WARNING, score: scoreWarning,
		evidence: m.sensorEvidence(sc, func(i int) (float64, bool) {
			return m.sensors[i].quality.StuckAt(), p.Stuck(i) && !m.shelf.holds(i, p.StartUS)
		}),
	}
}

// qualityFinding counts, per sensor, the windows in a row in which most values were not usable for other reasons than being stuck.
func (m *Machine) qualityFinding(p *window.Pane, fresh bool, sc *scratch) finding {
	worst, arrived := uint16(0), false
	for i := range m.sensors {
		a, s := &p.Accums[i], &m.sensors[i]
		if m.shelf.holds(i, p.StartUS) {
			s.badStreak = 0
			continue
		}
		if a.Count == 0 && a.Unusable == 0 || p.Stuck(i) {
			continue
		}
		arrived = true
		switch bad := a.Unusable > a.Count; {
		case !bad:
			s.badStreak = 0
		case fresh && s.badStreak < math.MaxUint16:
			s.badStreak++
		}
		worst = max(worst, s.badStreak)
	}
	most := uint16(m.cfg.Episodes.QualityWindows)
	if worst < most {
		return finding{clear: arrived && worst == 0}
	}
	return finding{
		anomalous: true, severity: eventv1.Severity_SEVERITY_WARNING, score: scoreWarning,
		evidence: m.sensorEvidence(sc, func(i int) (float64, bool) { return math.NaN(), m.sensors[i].badStreak >= most }),
	}
}

// step moves one episode by one window.
func (m *Machine) step(c cause, p *window.Pane, fresh bool, f finding, out *Output) {
	e := &m.episodes[c]
	endUS := p.StartUS + m.cfg.WindowLength.Microseconds()
	switch {
	case f.anomalous && !e.open:
		m.start(c, p.StartUS, f)
		m.report(c, eventv1.Phase_PHASE_STARTED, p.StartUS, endUS, f.score, f.evidence, out)
		return
	case !e.open:
		return
	}
	risen := false
	if f.anomalous {
		e.clear = 0
		if fresh {
			e.flagged++
		}
		if risen = f.severity > e.severity; risen {
			e.severity = f.severity
		}
		if float32(f.weight) >= e.peak && f.tells() {
			e.peak = float32(f.weight)
			e.evidence = append(e.evidence[:0], f.evidence...)
		}
	} else if f.clear {
		if fresh {
			e.clear++
		}
		if int64(e.clear) >= int64(m.cfg.Episodes.ClearWindows) {
			m.report(c, eventv1.Phase_PHASE_ENDED, p.StartUS, endUS, f.score, e.evidence, out)
			e.open = false
			m.remember(c, endUS)
			if c == behaviour {
				m.scan.Reset()
				m.debt.Paged(max(float64(m.odd.peak), m.pageSurprise()), m.pageSurprise())
			}
			return
		}
	} else {
		e.clear = 0
	}
	if risen || f.anomalous && fresh && endUS-e.reportedUS >= m.cfg.Episodes.OngoingEvery.Microseconds() {
		m.report(c, eventv1.Phase_PHASE_ONGOING, p.StartUS, endUS, f.score, f.evidence, out)
	}
}

// start opens an episode. Two of one cause never start at the same time: the id is made of it.
func (m *Machine) start(c cause, startedUS int64, f finding) {
	e := &m.episodes[c]
	if e.any && startedUS <= e.startedUS {
		startedUS = e.startedUS + 1
	}
	if c == behaviour || c == limit {
		m.bar()
	}
	if e.told == nil {
		e.told = new(told)
	}
	e.open, e.any = true, true
	*e.told = told{
		startedUS: startedUS, severity: f.severity, flagged: 1, peak: float32(f.weight), confidence: 1 - f.doubt,
		evidence: append(e.evidence[:0], f.evidence...),
	}
}

// report appends an Anomaly. aboutUS is the start of the window it is about.
func (m *Machine) report(c cause, phase eventv1.Phase, aboutUS, observedUS int64, score float64, evid []evidence, out *Output) {
	e := &m.episodes[c]
	e.reportedUS = observedUS
	id := m.id + "/" + c.String() + "/" + strconv.FormatInt(e.startedUS, 10)
	a := &eventv1.Anomaly{
		AnomalyId:   id + "/" + strconv.FormatInt(aboutUS, 10) + "/" + phaseName(phase),
		EpisodeId:   id,
		EquipmentId: m.id,
		Cause:       c.String(),
		Phase:       phase,
		Severity:    e.severity,
		Score:       score,
		Confidence:  float64(e.confidence),
		StartedUs:   e.startedUS,
		ObservedUs:  observedUS,
		JudgedAtMs:  m.logMS,
		GatewayId:   m.gateway,
		Origin:      m.origin(c),
		Regime:      m.currentRegime(),
	}
	for i := range evid {
		k := m.contribution(&evid[i])
		a.Contributions = append(a.Contributions, &eventv1.Contribution{
			Sensor: k.Sensor, Share: k.Share, Observed: k.Observed,
			ExpectedLow: k.ExpectedLow, ExpectedHigh: k.ExpectedHigh, Detector: k.Detector, Statistic: k.Statistic,
		})
	}
	if c == behaviour || c == limit {
		a.Detectors, a.Earlier = spoke(a.Contributions), m.nearest(c, evid)
	}
	a.Summary = m.summary(c, phase, observedUS, evid)
	if c == behaviour && a.Regime != "" && phase != eventv1.Phase_PHASE_ENDED {
		a.Summary += "; in regime " + strconv.Quote(a.Regime)
	}
	if c == behaviour && phase != eventv1.Phase_PHASE_ENDED {
		a.Cohort = uint32(m.sisters)
		a.Summary += m.cohortText()
	}
	out.Anomalies = append(out.Anomalies, a)
}

// origin is what an episode of the cause is about. Of silence the machine cannot tell: it knows nothing of others.
func (m *Machine) origin(c cause) eventv1.Origin {
	switch c {
	case flatline, badQuality, blind:
		return eventv1.Origin_ORIGIN_SENSOR
	case clock:
		if r, _, ok := m.cover.lag.Late(); ok && r == coverage.FallingBehind {
			return eventv1.Origin_ORIGIN_GATEWAY
		}
		return eventv1.Origin_ORIGIN_CLOCK
	case model:
		return eventv1.Origin_ORIGIN_MODEL
	}
	return eventv1.Origin_ORIGIN_MACHINE
}

func phaseName(p eventv1.Phase) string {
	switch p {
	case eventv1.Phase_PHASE_STARTED:
		return "started"
	case eventv1.Phase_PHASE_ONGOING:
		return "ongoing"
	}
	return "ended"
}

// silenceDeadlineMS is the log time at which the silence has something to say next.
func (m *Machine) silenceDeadlineMS() int64 {
	e, c := &m.episodes[silence], &m.cfg.Silence
	switch {
	case !e.open:
		return m.arrivals.silentAtMS(c)
	case c.CriticalAfter > 0 && e.severity < eventv1.Severity_SEVERITY_CRITICAL:
		return max(m.arrivals.silentAtMS(c), m.arrivals.lastMS+c.CriticalAfter.Milliseconds())
	}
	return math.MaxInt64
}

// judgeSilence opens or escalates the silence. Other episodes stay as they are meanwhile: no data is no all-clear.
func (m *Machine) judgeSilence(out *Output) {
	e := &m.episodes[silence]
	for m.logMS >= m.silenceDeadlineMS() {
		phase := eventv1.Phase_PHASE_ONGOING
		if e.open {
			e.severity = eventv1.Severity_SEVERITY_CRITICAL
			m.cover.dirty = true // by now it shows whether others behind its gateway are heard again
		} else {
			phase = eventv1.Phase_PHASE_STARTED
			since := m.newestUS
			if !m.started {
				since = m.arrivals.lastMS * 1000
			}
			m.start(silence, since, finding{severity: eventv1.Severity_SEVERITY_WARNING, score: scoreWarning})
		}
		score := scoreWarning
		if e.severity == eventv1.Severity_SEVERITY_CRITICAL {
			score = scoreCritical
		}
		m.report(silence, phase, e.startedUS, e.startedUS, score, nil, out)
	}
}

func (m *Machine) endSilence(atUS int64, out *Output) {
	if e := &m.episodes[silence]; e.open {
		at := max(atUS, e.startedUS)
		m.report(silence, eventv1.Phase_PHASE_ENDED, at, at, 0, nil, out)
		e.open = false
	}
}

// judgeClock counts frames with samples from the future, and notices a machine of which, for as long as would count as silence, only samples arrive that
// are too old to be judged. A gateway that sends what it had to keep is not at fault: its samples are in order, or come beside those of now.
func (m *Machine) judgeClock(f *frame.Frame, ahead, inTime bool, out *Output) {
	if inTime || m.inTimeMS == 0 {
		m.inTimeMS = m.logMS
	}
	behind := float64(m.logMS-m.inTimeMS) >= m.arrivals.patienceMS(&m.cfg.Silence) || m.cover.lag.Wrong()
	if ahead || behind {
		m.clockAhead, m.clockFine = min(m.clockAhead+1, math.MaxUint32-1), 0
	} else {
		m.clockAhead, m.clockFine = 0, min(m.clockFine+1, math.MaxUint32-1)
	}
	e, need := &m.episodes[clock], int64(m.cfg.Episodes.ClockFrames)
	at := sampleUS(f, f.Samples()-1)
	switch {
	case !e.open && int64(m.clockAhead) >= need:
		m.start(clock, at, finding{severity: eventv1.Severity_SEVERITY_WARNING, score: scoreWarning})
		m.report(clock, eventv1.Phase_PHASE_STARTED, e.startedUS, e.startedUS, scoreWarning, nil, out)
	case e.open && int64(m.clockFine) >= need:
		m.report(clock, eventv1.Phase_PHASE_ENDED, at, at, 0, nil, out)
		e.open = false
	case e.open && (ahead || behind) && at-e.reportedUS >= m.cfg.Episodes.OngoingEvery.Microseconds():
		m.report(clock, eventv1.Phase_PHASE_ONGOING, at, at, scoreWarning, nil, out)
	}
}

// since is the time between the start of an episode and a moment, for humans.
func (e *episode) since(atUS int64) string {
	d := time.Duration(max(0, min(atUS-e.startedUS, math.MaxInt64/1000))) * time.Microsecond
	if d >= time.Minute {
		return d.Round(time.Second).String()
	}
	return d.Round(time.Millisecond).String()
}
