// Package machine judges one machine: which of its frames are new, which rows are in time, what each value is worth, what its windows
// hold, how unusual they are, and whether somebody should be told.
//
// It is a pure function of the records it is given, in their order: no clock, no randomness, no I/O. The same records give
// the same outputs and the same snapshot, byte for byte, however they are spread over partitions and however often the machine is
// written away and restored between them (with one build of the program: other processors may fuse multiplications).
//
// Two times run here. Event time is what the samples carry; a machine's watermark follows its own newest sample, so years-old data
// is judged as it was. Log time is the broker's timestamp of records; it tells silence and moves on with ticks.
//
// A Machine belongs to one goroutine at a time. Its memory is bounded by its number of sensors: about 1 KiB each with the default
// detectors, and some kilobytes of its own.
package machine

import (
	"math"

	"github.com/tocsin-io/tocsin/pkg/frame"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/breaker"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/calibrate"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/coverage"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/detect"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/onset"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/quality"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/regime"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/window"
)

const (
	hardMaxSensors  = 1 << 17
	hardMaxGateways = 64
	maxIDBytes      = 1 << 10

	// maxKeptBytes bounds what closed windows cost a wide machine; at least one is always kept.
	maxKeptBytes = 4 << 20
	// maxTimeUS keeps sums of times far from overflow: 36,000 years to either side of 1970.
	maxTimeUS = 1 << 60
	maxLogMS  = maxTimeUS / 2000
)

// Machine is the whole state of one machine.
type Machine struct {
	cfg *Config
	id  string

	sequences sequences
	arrivals  arrivals
	logMS     int64 // newest log time
	newestUS  int64 // newest event time that was believed
	gateway   string

	sensors   []sensor
	ranges    []physical // of sensors that have one
	panes     window.Panes
	detectors []detector
	// wide is the last of the detectors of a wide machine; nil for others.
	wide *detect.Wide

	scan      calibrate.Scan
	peaks     calibrate.Peaks
	debt      calibrate.Debt
	regimes   *regime.Tracker   // nil: none is given, and none was looked for yet
	habits    *calibrate.Habits // nil until there was an excursion
	odd       excursion
	sisters   uint16 // machines whose baseline it is judged by; 0: by its own
	onset     *onset.Watch
	learned   uint32  // windows learned from
	held      uint32  // windows in a row that are suspicious
	lastUS    int64   // start of the newest window learned or passed over
	learnedUS int64   // start of the newest window learned from
	behind    float64 // windows that what is usual lagged behind then
	periodUS  float64 // usual distance of two windows; 0: unknown
	heededUS  int64   // newest correction that was heeded, by the time from which it has learning begin anew

	episodes   [causes]episode
	earlier    []earlier // episodes that ended, oldest first
	assessedUS int64     // start of the newest window that moved the episodes
	started    bool      // newestUS holds
	heeded     bool      // heededUS holds
	assessed   bool      // assessedUS holds
	calibrated int32     // detectors that are not fixed
	room       int32     // sensors that it may have
	standIn    int32     // the detector that counts only while others do not, the last one; beyond all: there is none
	fresh      int32     // detectors that the snapshot it was restored from had no state for
	clockAhead uint32    // frames in a row from the future
	clockFine  uint32
	inTimeMS   int64 // log time of the newest frame with a sample that was not too late; 0: none yet
	current    verdict

	corrections []correction // of the configuration; nil mostly

	breakers breakers
	spoke    uint32 // detectors that had an opinion, as bits

	cover cover
	shelf *shelf // sensors that the configuration takes out of judgement; nil mostly

	byName []int32 // slots in the order of names; empty while there are few sensors
	layout layout
	view   *Verdict // lent to callers; nil while nobody asked
}

// detector is one detector with its calibration.
type detector struct {
	detect.Detector
	spec  *detect.Spec
	tails []calibrate.Tail // by slot
	joint calibrate.Tail
}

// New makes a machine of which nothing is known. cfg must be valid and is shared.
func New(cfg *Config, equipmentID string) *Machine {
	m := &Machine{cfg: cfg, id: equipmentID, onset: new(onset.Watch), logMS: -maxLogMS - 1, corrections: cfg.corrections(equipmentID), cover: newCover(), shelf: newShelf(cfg.Coverage.ShelvesOf(equipmentID))}
	m.regimes = regime.New(&cfg.Regimes, equipmentID, cfg.WindowLength)
	specs := cfg.specs()
	m.detectors = make([]detector, 0, len(specs))
	for _, spec := range specs {
		m.detectors = append(m.detectors, detector{Detector: nobody{}, spec: spec})
		if !spec.Fixed {
			m.calibrated++
		}
	}
	for d := range m.detectors {
		if why, detail := m.tryNew(d); why != breaker.None {
			m.trip(d, why, detail, 0, nil)
		}
	}
	m.standIn, m.room = int32(len(m.detectors)), int32(cfg.sensorCap())
	if cfg.needsStandIn() {
		m.standIn--
	}
	return m
}

// EquipmentID is the machine's id.
func (m *Machine) EquipmentID() string { return m.id }

// SensorCount is the number of sensors known.
func (m *Machine) SensorCount() int { return len(m.sensors) }

// Apply judges one frame. sensors are its S names, resolved if the frame names a schema; f and sensors are not kept. Log times should not
// fall; if they do, the newest one before holds.
//
// The result is the same as that of its samples sent one by one: a frame is only a way to pack them.
func (m *Machine) Apply(f *frame.Frame, sensors [][]byte, at Meta, out *Output) {
	m.advance(at.LogTimeMS, out)
	samples := f.Samples()
	if n := len(sensors) * samples; len(f.Values) != n || n == 0 || len(f.Qualities) != 0 && len(f.Qualities) != n {
		out.Malformed = true
		return
	}
	limitUS := m.limitUS()
	switch m.sequences.accept(f.GatewayID, f.Sequence, f.BaseTimeUS, limitUS, m.cfg.MaxGateways, at.Returned) {
	case repeated:
		out.Duplicate = true
		return
	case counterReset:
		out.CounterReset = true
	}
	if m.gateway != string(f.GatewayID) {
		m.gateway = string(f.GatewayID)
	}
	m.coverArrival()
	m.arrivals.note(m.logMS)
	m.endSilence(min(f.BaseTimeUS, limitUS), out)

	slots := m.slotsOf(f.SchemaID, sensors)
	m.coverOverflow()
	ahead, inTime := false, false
	for t := 0; t < samples; {
		next, disposition := m.takeRun(f, slots, t, limitUS, out)
		for ; t < next; t++ {
			out.Dispositions = append(out.Dispositions, disposition)
		}
		ahead = ahead || disposition == eventv1.Disposition_DISPOSITION_QUARANTINED
		inTime = inTime || disposition != eventv1.Disposition_DISPOSITION_TOO_LATE
	}
	out.Dispositions = collapse(out.Dispositions)
	m.emitCorrections(out)
	m.judgeClock(f, ahead, inTime, out)
	m.reportCoverage(out)
}

// limitUS is the latest event time that is believed now.
func (m *Machine) limitUS() int64 {
	return m.logMS*1000 + m.cfg.MaxFuture.Microseconds()
}

// watermarkUS is the time before which rows are late.
func (m *Machine) watermarkUS() int64 {
	if !m.started {
		return math.MinInt64
	}
	return m.newestUS - m.cfg.Lateness.Microseconds()
}

func sampleUS(f *frame.Frame, t int) int64 {
	at := f.BaseTimeUS
	if len(f.OffsetsUS) > 0 {
		at = max(-maxTimeUS, min(at, maxTimeUS)) + int64(min(f.OffsetsUS[t], maxTimeUS/2))
	}
	return max(-maxTimeUS, min(at, maxTimeUS))
}

// takeRun takes the samples from t on that have one fate: those of one pane, up to and with the first that moves the watermark past
// a pane's end, so that a pane is judged at the same sample however frames are cut.
func (m *Machine) takeRun(f *frame.Frame, slots []int32, t int, limitUS int64, out *Output) (next int, d eventv1.Disposition) {
	at := sampleUS(f, t)
	if at > limitUS {
		m.passOver(f, slots, t, t+1, out)
		return t + 1, eventv1.Disposition_DISPOSITION_QUARANTINED
	}
	length := m.cfg.WindowLength.Microseconds()
	start := window.Start(at, length)
	pane, d := m.paneFor(start, out)
	closing := int64(math.MaxInt64)
	if p := m.panes.FirstNotClosed(); p != nil {
		closing = p.StartUS + length + m.cfg.Lateness.Microseconds()
	}
	next = t + 1
	for last := at; next < f.Samples() && last < closing; next++ {
		u := sampleUS(f, next)
		if u < start || u-start >= length || u > limitUS {
			break
		}
		last = u
	}
	if pane == nil {
		m.passOver(f, slots, t, next, out)
		m.noteLate(slots)
		return next, d
	}
	m.addRun(f, slots, pane, t, next, d == eventv1.Disposition_DISPOSITION_ON_TIME, out)
	if newest := sampleUS(f, next-1); !m.started || newest > m.newestUS {
		m.newestUS, m.started = newest, true
		m.closePanes(out)
	}
	return next, d
}

// paneFor finds or makes the pane that starts there, unless it is too late for it.
func (m *Machine) paneFor(start int64, out *Output) (*window.Pane, eventv1.Disposition) {
	pane := m.panes.Find(start)
	if !m.started || m.watermarkUS()-start < m.cfg.WindowLength.Microseconds() {
		if pane == nil {
			pane = m.panes.Insert(&out.pool, start, len(m.sensors))
		}
		return pane, eventv1.Disposition_DISPOSITION_ON_TIME
	}
	if pane == nil {
		// A stretch without rows until now. It can be corrected as long as an older one could.
		if m.panes.ClosedCount() == 0 || start < m.panes.All()[0].StartUS {
			return nil, eventv1.Disposition_DISPOSITION_TOO_LATE
		}
		pane = m.panes.Insert(&out.pool, start, len(m.sensors))
		pane.State, pane.Learning = window.Closed, true
	}
	pane.Unpack(&out.pool, len(m.sensors))
	return pane, eventv1.Disposition_DISPOSITION_LATE
}

// addRun adds samples [from, to) to their pane, sensor by sensor.
func (m *Machine) addRun(f *frame.Frame, slots []int32, pane *window.Pane, from, to int, onTime bool, out *Output) {
	samples := f.Samples()
	pane.Changed = true
	if !onTime {
		m.noteLate(slots)
	}
	for s, slot := range slots {
		if slot == unslotted {
			m.passOverSensor(f, s, from, to, unslotted, out)
			out.Unjudged += to - from
			continue
		}
		sn, acc, can := &m.sensors[slot], &pane.Accums[slot], m.rangeOf(slot)
		for t := from; t < to; t++ {
			i := s*samples + t
			v, at := f.Values[i], sampleUS(f, t)
			validity := quality.Code(f.Quality(i), v, can.low, can.high)
			if usable(validity) {
				if !onTime || !sn.quality.Judge(&m.cfg.Quality.Flatline, v, at) {
					acc.Add(v, uint32(at-pane.StartUS))
				} else {
					validity = eventv1.Validity_VALIDITY_FLATLINE
					pane.SetStuck(int(slot))
					acc.Reject()
				}
			} else {
				acc.Reject()
			}
			if validity != eventv1.Validity_VALIDITY_GOOD {
				sn.cover.NoteValidity(validity)
				out.setValidity(i, len(f.Values), validity)
			}
		}
	}
}

// noteLate remembers that the sensors sent something for a window that was closed.
func (m *Machine) noteLate(slots []int32) {
	for _, slot := range slots {
		if slot != unslotted {
			m.sensors[slot].cover.Note(coverage.SawLate)
		}
	}
}

func usable(v eventv1.Validity) bool {
	return v == eventv1.Validity_VALIDITY_GOOD || v == eventv1.Validity_VALIDITY_UNCERTAIN
}

// passOver writes the validities of samples that are stored but not judged.
func (m *Machine) passOver(f *frame.Frame, slots []int32, from, to int, out *Output) {
	for s, slot := range slots {
		m.passOverSensor(f, s, from, to, slot, out)
	}
}

func (m *Machine) passOverSensor(f *frame.Frame, s, from, to int, slot int32, out *Output) {
	can := everything
	if slot != unslotted {
		can = m.rangeOf(slot)
	}
	for t := from; t < to; t++ {
		i := s*f.Samples() + t
		if v := quality.Code(f.Quality(i), f.Values[i], can.low, can.high); v != eventv1.Validity_VALIDITY_GOOD {
			out.setValidity(i, len(f.Values), v)
		}
	}
}

func (o *Output) setValidity(i, n int, v eventv1.Validity) {
	for len(o.Validities) < n {
		o.Validities = append(o.Validities, eventv1.Validity_VALIDITY_GOOD)
	}
	o.Validities[i] = v
}

// collapse leaves one disposition where all are the same.
func collapse(d []eventv1.Disposition) []eventv1.Disposition {
	for _, x := range d {
		if x != d[0] {
			return d
		}
	}
	return d[:1]
}

// Tick moves log time: what a machine that sends nothing owes is done, which is to judge windows that wait for more rows, and to notice the silence.
// Apply does the same with its own log time first, so ticks in between change when things are said, never what.
func (m *Machine) Tick(logTimeMS int64, out *Output) {
	m.advance(logTimeMS, out)
	m.reportCoverage(out)
}

func (m *Machine) advance(logTimeMS int64, out *Output) {
	logTimeMS = max(-maxLogMS, min(logTimeMS, maxLogMS))
	if logTimeMS <= m.logMS {
		return
	}
	m.logMS = logTimeMS
	if m.logMS >= m.flushAtMS() {
		for _, p := range m.panes.All() {
			if p.State != window.Closed && p.Changed {
				m.flush(p, out)
			}
		}
	}
	m.judgeSilence(out)
}

// flushAtMS is the log time at which windows that are still open get judged without waiting on; math.MaxInt64 if there are none.
func (m *Machine) flushAtMS() int64 {
	for _, p := range m.panes.All() {
		if p.State != window.Closed && p.Changed {
			return m.arrivals.lastMS + m.cfg.IdleFlush.Milliseconds()
		}
	}
	return math.MaxInt64
}

// NextDeadline is the log time in ms before which Tick says nothing, unless there is an Apply in between; math.MaxInt64: however long it takes.
// It never falls but by Apply.
func (m *Machine) NextDeadline() int64 {
	return min(m.flushAtMS(), m.silenceDeadlineMS(), m.coverDueMS())
}
