package machine

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/breaker"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/calibrate"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/coverage"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine/codec"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/quality"
)

// SnapshotFormat is the version of the encoding, the format of an eventv1.MachineSnapshot.
const SnapshotFormat = 3

const (
	snapshotMagic   = "tocsinM"
	snapshotTrailer = 4 // CRC-32C
)

// castagnoli is a constant table; crc32 computes it once.
func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// AppendSnapshot appends the whole state of m: everything that later results depend on beside the configuration. It ends with a CRC-32C.
// Equal states have equal bytes.
func (m *Machine) AppendSnapshot(dst []byte) []byte {
	from := len(dst)
	dst = append(dst, snapshotMagic...)
	dst = append(dst, SnapshotFormat)
	dst = codec.AppendString(dst, m.id)
	dst = m.sequences.appendState(dst)
	dst = m.arrivals.appendState(dst)
	dst = codec.AppendI64(dst, m.logMS)
	dst = codec.AppendI64(dst, m.newestUS)
	dst = codec.AppendBool(dst, m.started)
	dst = codec.AppendString(dst, m.gateway)

	dst = codec.AppendU32(dst, uint32(len(m.sensors)))
	for i := range m.sensors {
		s := &m.sensors[i]
		dst = codec.AppendString(dst, s.name.Value())
		dst = s.quality.AppendState(dst)
		dst = codec.AppendU32(dst, uint32(s.badStreak))
		dst = s.course.appendState(dst)
		dst = s.cover.AppendState(dst)
	}
	dst = m.appendRegimes(dst)
	dst = m.panes.AppendState(dst)
	dst = m.appendDetectors(dst)
	dst = m.appendBreakers(dst)
	dst = m.scan.AppendState(dst)
	dst = m.peaks.AppendState(dst)
	dst = m.debt.AppendState(dst)
	dst = codec.AppendBool(dst, m.habits != nil)
	if m.habits != nil {
		dst = m.habits.AppendState(dst)
	}
	dst = m.odd.appendState(dst)
	dst = codec.AppendU32(dst, uint32(m.sisters))
	dst = m.onset.AppendState(dst)
	dst = codec.AppendU32(dst, m.learned)
	dst = codec.AppendU32(dst, m.held)
	dst = codec.AppendI64(dst, m.lastUS)
	dst = codec.AppendI64(dst, m.learnedUS)
	dst = codec.AppendF64(dst, m.periodUS)
	dst = codec.AppendF64(dst, m.behind)
	dst = codec.AppendI64(dst, m.heededUS)
	dst = codec.AppendBool(dst, m.heeded)

	for i := range m.episodes {
		dst = m.episodes[i].appendState(dst)
	}
	dst = codec.AppendI64(dst, m.assessedUS)
	dst = codec.AppendBool(dst, m.assessed)
	dst = codec.AppendU32(dst, m.clockAhead)
	dst = codec.AppendU32(dst, m.clockFine)
	dst = codec.AppendI64(dst, m.inTimeMS)
	dst = m.cover.appendState(dst)
	dst = m.appendEarlier(dst)
	dst = m.current.appendState(dst)
	return binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[from:], castagnoli()))
}

// appendDetectors appends each detector's state under its name, so that a configuration with other detectors can take what it knows.
func (m *Machine) appendDetectors(dst []byte) []byte {
	dst = codec.AppendU32(dst, uint32(len(m.detectors)))
	for i := range m.detectors {
		d := &m.detectors[i]
		dst = codec.AppendString(dst, d.spec.Name)
		length := len(dst)
		dst = codec.AppendU32(dst, 0)
		dst = d.joint.AppendState(dst)
		dst = codec.AppendU32(dst, uint32(len(d.tails)))
		for j := range d.tails {
			dst = d.tails[j].AppendState(dst)
		}
		var why breaker.Cause
		var detail string
		if dst, why, detail = m.tryAppend(i, dst); why != breaker.None { // what cannot be saved is lost at once, so that memory and snapshot agree
			m.trip(i, why, detail, m.newestUS, nil)
			dst = appendLost(dst[:length+4], len(d.tails))
		}
		binary.LittleEndian.PutUint32(dst[length:], uint32(len(dst)-length-4))
	}
	return dst
}

// appendLost appends what is left of a detector whose state is lost.
func appendLost(dst []byte, sensors int) []byte {
	var none calibrate.Tail
	dst = none.AppendState(dst)
	dst = codec.AppendU32(dst, uint32(sensors))
	for range sensors {
		dst = none.AppendState(dst)
	}
	return dst
}

// Restore makes the machine that wrote src. src is not trusted: whatever it holds, the result is a machine or an error that wraps
// codec.ErrCorrupt, and memory stays in proportion to len(src). Under another configuration than it was written with, detectors that
// are new or do not fit start with nothing.
func Restore(cfg *Config, equipmentID string, src []byte) (*Machine, error) {
	head := len(snapshotMagic) + 1
	if len(src) < head+snapshotTrailer || string(src[:len(snapshotMagic)]) != snapshotMagic {
		return nil, fmt.Errorf("%w: no snapshot of a machine", codec.ErrCorrupt)
	}
	if v := src[len(snapshotMagic)]; v != SnapshotFormat {
		return nil, fmt.Errorf("%w: format %d, this version reads %d", codec.ErrCorrupt, v, SnapshotFormat)
	}
	body := src[:len(src)-snapshotTrailer]
	if crc32.Checksum(body, castagnoli()) != binary.LittleEndian.Uint32(src[len(body):]) {
		return nil, fmt.Errorf("%w: checksum does not match", codec.ErrCorrupt)
	}
	r := codec.NewReader(body[head:])
	m := New(cfg, equipmentID)
	m.restore(r)
	if r.Err() == nil && r.Remaining() > 0 {
		r.Fail("%d bytes too many", r.Remaining())
	}
	if err := r.Err(); err != nil {
		return nil, fmt.Errorf("machine %q: %w", equipmentID, err)
	}
	return m, nil
}

// Under is m judged by cfg from now on: what a restart with that configuration would make of its snapshot. kept says that the snapshot is the
// same as before, byte for byte. fresh is the number of cfg's detectors that m knew nothing for, which start with nothing. m is not changed and
// must not be used again; scratch is overwritten and returned. Cost: that of two snapshots and a restore.
func (m *Machine) Under(cfg *Config, scratch []byte) (next *Machine, kept bool, fresh int, _ []byte, err error) {
	scratch = m.AppendSnapshot(scratch[:0])
	n := len(scratch)
	if next, err = Restore(cfg, m.id, scratch); err != nil {
		return nil, false, 0, scratch, err
	}
	scratch = next.AppendSnapshot(scratch)
	return next, bytes.Equal(scratch[:n], scratch[n:]), int(next.fresh), scratch, nil
}

func (m *Machine) restore(r *codec.Reader) {
	if id := r.String(maxIDBytes); id != m.id && r.Err() == nil {
		r.Fail("it is of machine %q", id)
	}
	m.sequences.restoreState(r)
	m.arrivals.restoreState(r)
	m.logMS, m.newestUS, m.started = r.I64(), r.I64(), r.Bool()
	m.gateway = r.String(maxIDBytes)

	n := r.Len(hardMaxSensors, 4+quality.SensorSize+4+coverage.SensorSize)
	m.sensors = make([]sensor, 0, n)
	for range n {
		name := r.String(maxIDBytes)
		m.addSensor(name)
		s := &m.sensors[len(m.sensors)-1]
		s.quality.RestoreState(r)
		s.badStreak = uint16(r.U32())
		s.course.restoreState(r)
		s.cover.RestoreState(r)
		if r.Err() != nil {
			return
		}
	}
	m.sortNames()
	m.grow()
	m.restoreRegimes(r)
	m.panes.RestoreState(r, n)
	for _, p := range m.panes.All() {
		p.Grow(n)
	}
	m.restoreDetectors(r)
	m.restoreBreakers(r)
	m.scan.RestoreState(r)
	m.peaks.RestoreState(r)
	m.debt.RestoreState(r)
	if r.Bool() {
		m.habits = new(calibrate.Habits)
		m.habits.RestoreState(r)
	}
	m.odd.restoreState(r)
	m.sisters = uint16(r.U32())
	m.onset.RestoreState(r)
	m.learned, m.held, m.lastUS, m.learnedUS, m.periodUS = r.U32(), r.U32(), r.I64(), r.I64(), r.F64()
	m.behind, m.heededUS, m.heeded = r.F64(), r.I64(), r.Bool()
	if !(m.behind >= 0 && m.behind <= maxTimeUS) {
		r.Fail("lag out of range")
	}
	if !(m.periodUS >= 0 && m.periodUS <= maxTimeUS*2) {
		r.Fail("period out of range")
	}
	for i := range m.episodes {
		m.episodes[i].restoreState(r, m)
	}
	m.assessedUS, m.assessed = r.I64(), r.Bool()
	m.clockAhead, m.clockFine = r.U32(), r.U32()
	m.inTimeMS = r.I64()
	m.cover.restoreState(r)
	m.restoreEarlier(r)
	m.current.restoreState(r, m)
	m.checkTimes(r)
}

// checkTimes refuses times that arithmetic would overflow on.
func (m *Machine) checkTimes(r *codec.Reader) {
	far := func(v, limit int64) bool { return v > 2*limit || v < -2*limit }
	bad := far(m.logMS, maxLogMS+1) || far(m.inTimeMS, maxLogMS+1) || far(m.newestUS, maxTimeUS) || far(m.lastUS, maxTimeUS) || far(m.learnedUS, maxTimeUS) || far(m.odd.startUS, maxTimeUS) || far(m.assessedUS, maxTimeUS) ||
		far(m.cover.reportedMS, maxLogMS) ||
		far(m.arrivals.lastMS, maxLogMS) || far(m.arrivals.burstMS, maxLogMS)
	for _, p := range m.panes.All() {
		bad = bad || far(p.StartUS, maxTimeUS)
	}
	for i := range m.episodes {
		e := &m.episodes[i]
		bad = bad || e.any && (far(e.startedUS, maxTimeUS) || far(e.reportedUS, maxTimeUS))
	}
	if bad {
		r.Fail("time out of range")
	}
}

func (m *Machine) restoreDetectors(r *codec.Reader) {
	n := r.Len(255, 8)
	same := n == len(m.detectors)
	m.fresh = int32(len(m.detectors))
	for i := range n {
		name, state := r.String(maxIDBytes), r.Bytes(r.Remaining())
		same = same && m.detectors[i].spec.Name == name // n is len(m.detectors) then
		for i := range m.detectors {
			d := &m.detectors[i]
			if d.spec.Name != name {
				continue
			}
			in := codec.NewReader(state)
			d.joint.RestoreState(in)
			tails := make([]calibrate.Tail, len(d.tails))
			for j := range in.Len(len(tails), calibrate.TailSize) {
				tails[j].RestoreState(in)
			}
			m.tryRestore(i, in)
			if in.Err() == nil && in.Remaining() == 0 {
				d.tails = tails
				m.fresh--
				continue
			}
			// Another configuration's: it starts with nothing.
			*d = detector{Detector: nobody{}, spec: d.spec, tails: make([]calibrate.Tail, len(d.tails))}
			m.rearm(i, m.newestUS, nil)
		}
	}
	if !same { // whose opinions they were is not known
		for _, p := range m.panes.All() {
			p.ForgetOpinions()
		}
	}
}

func (e *episode) appendState(dst []byte) []byte {
	dst = codec.AppendBool(dst, e.open)
	if dst = codec.AppendBool(dst, e.any); !e.any {
		return dst
	}
	dst = codec.AppendI64(dst, e.startedUS)
	dst = codec.AppendI64(dst, e.reportedUS)
	dst = codec.AppendU32(dst, uint32(e.severity))
	dst = codec.AppendU32(dst, e.flagged)
	dst = codec.AppendU32(dst, e.clear)
	dst = codec.AppendF32(dst, e.peak)
	dst = codec.AppendF32(dst, e.confidence)
	return appendEvidence(dst, e.evidence)
}

func (e *episode) restoreState(r *codec.Reader, m *Machine) {
	*e = episode{open: r.Bool(), any: r.Bool()}
	if !e.any {
		if e.open {
			r.Fail("open episode that never began")
		}
		return
	}
	e.told = &told{startedUS: r.I64(), reportedUS: r.I64(), severity: eventv1.Severity(r.U32())}
	e.flagged, e.clear, e.peak, e.confidence = r.U32(), r.U32(), r.F32(), r.F32()
	e.evidence = readEvidence(r, m)
}

func appendEvidence(dst []byte, list []evidence) []byte {
	dst = codec.AppendU32(dst, uint32(len(list)))
	for i := range list {
		e := &list[i]
		dst = codec.AppendU32(dst, uint32(e.slot))
		dst = codec.AppendU32(dst, uint32(e.detector))
		dst = codec.AppendF64(dst, e.observed)
		dst = codec.AppendF32(codec.AppendF32(codec.AppendF32(dst, e.share), e.low), e.high)
	}
	return dst
}

func readEvidence(r *codec.Reader, m *Machine) []evidence {
	list := make([]evidence, r.Len(maxEvidence, 28))
	for i := range list {
		e := &list[i]
		e.slot, e.detector = int32(r.U32()), int16(r.U32())
		e.observed, e.share, e.low, e.high = r.F64(), r.F32(), r.F32(), r.F32()
		if e.slot < 0 || int(e.slot) >= len(m.sensors) {
			r.Fail("evidence of an unknown sensor")
		}
		if e.detector < noDetector || int(e.detector) >= len(m.detectors) {
			e.detector = noDetector // the configuration has fewer detectors now
		}
	}
	if r.Err() != nil {
		return nil
	}
	return list
}

func (v *verdict) appendState(dst []byte) []byte {
	dst = codec.AppendI64(dst, v.startUS)
	dst = codec.AppendF32(dst, v.surprise)
	dst = codec.AppendF32(dst, v.atLeast)
	dst = codec.AppendBool(dst, v.learning)
	dst = codec.AppendBool(dst, v.flag)
	dst = codec.AppendU32(dst, uint32(v.severity))
	return appendEvidence(dst, v.evidence)
}

func (v *verdict) restoreState(r *codec.Reader, m *Machine) {
	*v = verdict{startUS: r.I64(), surprise: r.F32(), atLeast: r.F32(), learning: r.Bool(), flag: r.Bool(), severity: eventv1.Severity(r.U32())}
	v.evidence = readEvidence(r, m)
}
