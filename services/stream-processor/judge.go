package streamprocessor

import (
	"time"

	"github.com/tocsin-io/tocsin/pkg/frame"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/cohort"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/detect"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine"
)

// DetectionConfig is the part of the configuration that decides what is anomalous.
type DetectionConfig = machine.Config

// DefaultDetection is the shipped detection configuration.
func DefaultDetection() DetectionConfig { return machine.DefaultConfig() }

// Detectors are the names that detection.detect.detectors may hold.
func Detectors() []string { return detect.Names() }

// Verdict is what the judge thinks of a machine at one moment; see its fields.
type Verdict = machine.Verdict

// Judge is the production judge of one machine, fed row by row without Kafka: the same code, the same arithmetic, the same
// answers. Not safe for concurrent use.
type Judge struct {
	machine *machine.Machine
	id      string
	names   [][]byte
	frame   *frame.Frame
	offset  int64
	logMS   int64
	out     machine.Output
}

// NewJudge makes a judge of one machine with the given sensors.
func NewJudge(cfg *DetectionConfig, equipmentID string, sensors []string) *Judge {
	names := make([][]byte, len(sensors))
	for i, s := range sensors {
		names[i] = []byte(s)
	}
	own := *cfg // others may hold cfg as well
	own.Detect.Prepare()
	return &Judge{machine: machine.New(&own, equipmentID), id: equipmentID, names: names, frame: new(frame.Frame)}
}

// BeginWith has a judge that nothing was applied to yet begin with what is usual of its sisters, judges of machines with the same sensors, as a machine that is new to a
// partition does. It is true when the machine is judged from its first window on. Sisters that are not known well enough, or in trouble, are passed over.
func (j *Judge) BeginWith(sisters []*Judge) bool {
	var list []*machine.Machine
	for _, s := range sisters {
		if s.machine.Lends() && len(list) < cohort.Most {
			list = append(list, s.machine)
		}
	}
	return j.machine.Borrow(nil, j.names, list)
}

// Row applies one sample of all sensors (NaN: missing) and returns what is known once it has been: the judgement of the
// windows that it closed and of the one that is still open. The verdict is valid until the next call.
//
// Log time is the row's own time, as if each row had reached the broker at once.
func (j *Judge) Row(at time.Time, values []float32) *Verdict {
	j.Observe(at, at, values)
	return j.machine.Provisional(&j.out)
}

// Observe applies one sample of all sensors (NaN: missing), taken at one time and received by the broker at another, and returns the reports that
// it made. They belong to the caller. It costs a fraction of Row, which judges the open windows as well.
func (j *Judge) Observe(at, received time.Time, values []float32) []*eventv1.Anomaly {
	j.offset++
	j.logMS = max(j.logMS, received.UnixMilli())
	*j.frame = frame.Frame{
		EquipmentID: []byte(j.id), GatewayID: []byte("backtest"), Sequence: uint64(j.offset), BaseTimeUS: at.UnixMicro(),
		Sensors: j.names, Values: values,
	}
	j.out.Reset()
	j.machine.Apply(j.frame, j.names, machine.Meta{Offset: j.offset, LogTimeMS: j.logMS}, &j.out)
	return j.out.Anomalies
}

// Tick moves the broker's time while nothing arrives, and returns the reports that it made. They belong to the caller.
func (j *Judge) Tick(received time.Time) []*eventv1.Anomaly {
	j.logMS = max(j.logMS, received.UnixMilli())
	j.out.Reset()
	j.machine.Tick(j.logMS, &j.out)
	return j.out.Anomalies
}

// Snapshot appends the judge's whole state, as the service would save it.
func (j *Judge) Snapshot(dst []byte) []byte { return j.machine.AppendSnapshot(dst) }

// Under goes on under another configuration, as a partition does when a release of it comes into force.
func (j *Judge) Under(cfg *DetectionConfig) error {
	own := *cfg
	own.Detect.Prepare()
	next, _, _, _, err := j.machine.Under(&own, nil)
	if err != nil {
		return err
	}
	j.machine = next
	return nil
}

// Correction is a human's word on what machines may learn.
type Correction = machine.Correction

// Model names a released model; without a version, whichever has the role.
type Model = detect.Model

// Kinds of corrections.
const (
	NewNormal = machine.NewNormal
	Unlearn   = machine.Unlearn
)
