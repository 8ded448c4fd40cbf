package machine

import (
	"math"
	"strconv"
	"time"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/window"
	"google.golang.org/protobuf/encoding/protowire"
)

// Meta says where a frame stands in the log.
type Meta struct {
	Partition int32
	Offset    int64
	LogTimeMS int64 // the broker's timestamp of the record, ms since 1970 UTC
	// Returned: the record is a dead letter given back. It was refused, so it was never counted, however old its sequence is.
	Returned bool
}

// Output receives what one call of Apply or Tick produced. It is reset by the caller, appended to by calls, and its memory is
// used again: nothing in it may be kept past the next Reset, except the Anomalies. It also lends scratch memory to the machine, so
// one Output per goroutine serves any number of machines.
type Output struct {
	// Duplicate: the frame was seen before; it changed nothing and there is no Reading to write.
	Duplicate bool
	// CounterReset: the gateway's sequence numbers began anew (it lost its counter).
	CounterReset bool
	// Malformed: the frame's shape is wrong (values do not fit sensors and samples); it changed nothing.
	Malformed bool
	// Unjudged is the number of values of sensors beyond the limit of sensors per machine.
	Unjudged int
	// Dispositions is one for each sample, or a single one that holds for all.
	Dispositions []eventv1.Disposition
	// Validities is one for each value in the frame's order, or empty: all good.
	Validities []eventv1.Validity
	// Windows that closed or were corrected, in order.
	Windows []Window
	// Anomalies reported, in order.
	Anomalies []*eventv1.Anomaly
	// Explain asks for Explanations: one for each window that was judged, in order. It costs, and changes nothing.
	Explain      bool
	Explanations []Explanation
	// Coverage of the machine, when there is something new to say; at most one for each call. Like Anomalies, it may be kept.
	Coverage []*eventv1.MachineCoverage

	sensors []SensorWindow // backs Windows[i].Sensors
	scratch scratch
	pool    window.Pool // of the panes of all machines that it serves
}

// Reset empties o and keeps its memory.
func (o *Output) Reset() {
	o.Duplicate, o.CounterReset, o.Malformed, o.Unjudged = false, false, false, 0
	o.Dispositions = o.Dispositions[:0]
	o.Validities = o.Validities[:0]
	o.Windows = o.Windows[:0]
	o.sensors = o.sensors[:0]
	clear(o.Anomalies)
	o.Anomalies = o.Anomalies[:0]
	o.Explanations = nil
	clear(o.scratch.failures)
	o.scratch.failures = o.scratch.failures[:0]
	o.scratch.took = o.scratch.took[:0]
	o.scratch.models = o.scratch.models[:0]
	o.scratch.inputs, o.scratch.inputRows = o.scratch.inputs[:0], o.scratch.inputRows[:0]
	clear(o.Coverage)
	o.Coverage = o.Coverage[:0]
}

// Failures are those of detectors, the first 64. They are valid until the next Reset.
func (o *Output) Failures() []Failure { return o.scratch.failures }

// Watch measures from now on, by the given clock, how long detectors take to score: one in 61. It is for metrics; nothing that is judged depends on it.
func (o *Output) Watch(clock func() time.Duration) { o.scratch.clock = clock }

// Took is what was measured since the last Reset, and valid until the next.
func (o *Output) Took() []Took { return o.scratch.took }

// Took is how long one detector took to score one window.
type Took struct {
	Detector string
	For      time.Duration
}

// Models is how the shadow model compared with who judges, in windows that closed since the last Reset. They are valid until the next.
func (o *Output) Models() []Compared { return o.scratch.models }

// Inputs is what released models were given of windows that closed since the last Reset. They are valid until the next.
func (o *Output) Inputs() []Input { return o.scratch.inputs }

// Window is eventv1.Window, flat.
type Window struct {
	EquipmentID string
	StartUS     int64
	EndUS       int64
	Revision    uint32
	Sensors     []SensorWindow
	Score       float64
	Learning    bool
	ClosedAtMS  int64
	Regime      string
}

// SensorWindow is eventv1.SensorWindow, flat.
type SensorWindow struct {
	Sensor                       string
	Count, Unusable              uint32
	Mean, Stddev, Min, Max, Last float64
	Score                        float64
	ExpectedLow, ExpectedHigh    float64
}

// AppendID appends the window_id "<equipment_id>/<start_us>/<revision>".
func (w *Window) AppendID(dst []byte) []byte {
	dst = append(append(dst, w.EquipmentID...), '/')
	dst = append(strconv.AppendInt(dst, w.StartUS, 10), '/')
	return strconv.AppendUint(dst, uint64(w.Revision), 10)
}

// AppendTo appends the canonical bytes of the eventv1.Window: those that the generated code writes. It does not allocate beyond dst.
func (w *Window) AppendTo(dst []byte) []byte {
	var scratch [192]byte
	id := w.AppendID(scratch[:0])
	dst = protowire.AppendTag(dst, 1, protowire.BytesType)
	dst = protowire.AppendBytes(dst, id)
	dst = appendString(dst, 2, w.EquipmentID)
	dst = appendSint(dst, 3, w.StartUS)
	dst = appendSint(dst, 4, w.EndUS)
	dst = appendUint(dst, 5, uint64(w.Revision))
	for i := range w.Sensors {
		s := &w.Sensors[i]
		dst = protowire.AppendTag(dst, 6, protowire.BytesType)
		dst = protowire.AppendVarint(dst, uint64(s.size()))
		dst = s.appendTo(dst)
	}
	dst = appendDouble(dst, 7, w.Score)
	if w.Learning {
		dst = appendUint(dst, 8, 1)
	}
	dst = appendUint(dst, 9, uint64(w.ClosedAtMS))
	return appendString(dst, 10, w.Regime)
}

func (s *SensorWindow) doubles() [8]float64 {
	return [8]float64{s.Mean, s.Stddev, s.Min, s.Max, s.Last, s.Score, s.ExpectedLow, s.ExpectedHigh}
}

func (s *SensorWindow) size() int {
	n := 0
	if s.Sensor != "" {
		n += 1 + protowire.SizeBytes(len(s.Sensor))
	}
	if s.Count != 0 {
		n += 1 + protowire.SizeVarint(uint64(s.Count))
	}
	if s.Unusable != 0 {
		n += 1 + protowire.SizeVarint(uint64(s.Unusable))
	}
	for _, v := range s.doubles() {
		if math.Float64bits(v) != 0 {
			n += 9
		}
	}
	return n
}

func (s *SensorWindow) appendTo(dst []byte) []byte {
	dst = appendString(dst, 1, s.Sensor)
	dst = appendUint(dst, 2, uint64(s.Count))
	dst = appendDouble(dst, 3, s.Mean)
	dst = appendDouble(dst, 4, s.Stddev)
	dst = appendDouble(dst, 5, s.Min)
	dst = appendDouble(dst, 6, s.Max)
	dst = appendDouble(dst, 7, s.Last)
	dst = appendUint(dst, 8, uint64(s.Unusable))
	dst = appendDouble(dst, 9, s.Score)
	dst = appendDouble(dst, 10, s.ExpectedLow)
	return appendDouble(dst, 11, s.ExpectedHigh)
}

func appendString(dst []byte, field protowire.Number, s string) []byte {
	if s == "" {
		return dst
	}
	return protowire.AppendString(protowire.AppendTag(dst, field, protowire.BytesType), s)
}

func appendUint(dst []byte, field protowire.Number, v uint64) []byte {
	if v == 0 {
		return dst
	}
	return protowire.AppendVarint(protowire.AppendTag(dst, field, protowire.VarintType), v)
}

func appendSint(dst []byte, field protowire.Number, v int64) []byte {
	return appendUint(dst, field, protowire.EncodeZigZag(v))
}

func appendDouble(dst []byte, field protowire.Number, v float64) []byte {
	if math.Float64bits(v) == 0 {
		return dst
	}
	return protowire.AppendFixed64(protowire.AppendTag(dst, field, protowire.Fixed64Type), math.Float64bits(v))
}

// Proto is the same as a generated message, copied.
func (w *Window) Proto() *eventv1.Window {
	out := &eventv1.Window{
		WindowId: string(w.AppendID(nil)), EquipmentId: w.EquipmentID, StartUs: w.StartUS, EndUs: w.EndUS,
		Revision: w.Revision, Score: w.Score, Learning: w.Learning, ClosedAtMs: w.ClosedAtMS, Regime: w.Regime,
	}
	for i := range w.Sensors {
		s := &w.Sensors[i]
		out.Sensors = append(out.Sensors, &eventv1.SensorWindow{
			Sensor: s.Sensor, Count: s.Count, Mean: s.Mean, Stddev: s.Stddev, Min: s.Min, Max: s.Max, Last: s.Last,
			Unusable: s.Unusable, Score: s.Score, ExpectedLow: s.ExpectedLow, ExpectedHigh: s.ExpectedHigh,
		})
	}
	return out
}

// Verdict is what is known of a machine at one moment.
type Verdict struct {
	// WindowStartUS is the start of the newest window that it rests on.
	WindowStartUS int64
	// Score is calibrated: 1 - p-value, in [0, 1).
	Score float64
	// PValue is the chance of a window at least this unusual while nothing is wrong. It keeps its precision where Score rounds to 1.
	PValue float64
	// Learning: there is too little history to judge behaviour; Score is 0.
	Learning bool
	// Flag: anomalous at the configured budget, or beyond a limit, or the sensor is stuck.
	Flag     bool
	Severity eventv1.Severity
	// Contributions are sorted by share, at most ten; shares sum to 1. Empty when no sensor stands out.
	Contributions []Contribution
}

// Contribution is eventv1.Contribution, flat.
type Contribution struct {
	Sensor                    string
	Share                     float64
	Observed                  float64
	ExpectedLow, ExpectedHigh float64 // NaN: no expectation
	Detector                  string
	Statistic                 string // of the window, that the numbers are of: "mean" or "stddev"
}
