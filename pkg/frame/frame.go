// Package frame is the hot-path codec and validation of tocsin.event.v1.SensorFrame.
//
// It reads and writes the same wire format as the generated code, and accepts and rejects the same
// inputs (proven by property tests and fuzzing), but decodes into flat slices that are used again for the next
// frame: in steady state neither Unmarshal nor AppendTo nor Validate allocates.
package frame

import (
	"fmt"
	"strconv"
	"time"
)

// Quality codes of one value, equal in number to tocsin.event.v1.Quality.
const (
	QualityUnspecified uint8 = 0 // means good
	QualityGood        uint8 = 1
	QualityUncertain   uint8 = 2
	QualityBad         uint8 = 3
	QualityMissing     uint8 = 4

	// QualityUnknown stands for every code that this version does not know and that does not fit a byte.
	// Validate refuses it, like every other code above QualityMissing.
	QualityUnknown uint8 = 255
)

// Frame is T samples of S sensors of one machine, in columns: the value of sensor s at sample t is Values[s*T+t].
//
// After Unmarshal the byte slices alias the decoded input: they are valid for as long as it is. The zero value is
// ready for use. A Frame must not be used by two goroutines at once, nor copied once it has been validated
// (the copy would share scratch memory).
type Frame struct {
	EquipmentID []byte
	GatewayID   []byte
	SchemaID    []byte // a registered FrameSchema, instead of Sensors
	Sequence    uint64
	BaseTimeUS  int64    // microseconds since 1970-01-01 UTC
	OffsetsUS   []uint64 // microseconds after BaseTimeUS, one per sample; empty: one sample at BaseTimeUS
	Sensors     [][]byte
	Values      []float32
	Qualities   []uint8 // one per value, or empty: all good

	names nameSet
}

// New builds a frame of one sample, for senders. It copies the strings and refers to values.
// len(values) must be len(sensors); Validate tells when it is not.
func New(equipmentID, gatewayID string, sequence uint64, at time.Time, sensors []string, values []float32) *Frame {
	f := &Frame{
		EquipmentID: []byte(equipmentID),
		GatewayID:   []byte(gatewayID),
		Sequence:    sequence,
		BaseTimeUS:  at.UnixMicro(),
		Sensors:     make([][]byte, len(sensors)),
		Values:      values,
	}
	for i, s := range sensors {
		f.Sensors[i] = []byte(s)
	}
	return f
}

// Reset empties f and keeps its memory for the next frame.
func (f *Frame) Reset() {
	f.EquipmentID, f.GatewayID, f.SchemaID = nil, nil, nil
	f.Sequence, f.BaseTimeUS = 0, 0
	f.OffsetsUS = f.OffsetsUS[:0]
	f.Sensors = f.Sensors[:0]
	f.Values = f.Values[:0]
	f.Qualities = f.Qualities[:0]
}

// Samples is T, the number of instants. It is never 0: a frame without offsets holds one sample.
func (f *Frame) Samples() int { return max(1, len(f.OffsetsUS)) }

// SensorCount is S. When the sensors are named by a schema it follows from the number of values, so
// it can only be trusted once the frame has been validated against that schema.
func (f *Frame) SensorCount() int {
	if len(f.Sensors) > 0 {
		return len(f.Sensors)
	}
	return len(f.Values) / f.Samples()
}

// TimeUS is the time of sample t in microseconds since 1970-01-01 UTC. It cannot overflow in a valid frame.
func (f *Frame) TimeUS(t int) int64 {
	if len(f.OffsetsUS) == 0 {
		return f.BaseTimeUS
	}
	return f.BaseTimeUS + int64(f.OffsetsUS[t])
}

// Quality is the code of the value at index i, good when the frame has no codes.
func (f *Frame) Quality(i int) uint8 {
	if len(f.Qualities) == 0 || f.Qualities[i] == QualityUnspecified {
		return QualityGood
	}
	return f.Qualities[i]
}

// AppendID appends the frame's identity "<gateway_id>/<equipment_id>/<sequence>", the ce_id of its record.
func (f *Frame) AppendID(dst []byte) []byte {
	dst = append(dst, f.GatewayID...)
	dst = append(dst, '/')
	dst = append(dst, f.EquipmentID...)
	dst = append(dst, '/')
	return strconv.AppendUint(dst, f.Sequence, 10)
}

// FieldError names the field of a frame that is wrong, e.g. "values[3]", and why.
type FieldError struct {
	Field  string
	Reason string
}

func (e *FieldError) Error() string { return fmt.Sprintf("%s: %s", e.Field, e.Reason) }
