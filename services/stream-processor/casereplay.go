package streamprocessor

import (
	"context"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/topology"
)

// Explanation is how the score of one window came about; see its fields.
type Explanation = machine.Explanation

// SensorExplanation is what one sensor had to do with it.
type SensorExplanation = machine.SensorExplanation

// Saying is one detector's opinion.
type Saying = machine.Saying

// ErrNoCase says that an episode cannot be judged again, and why.
var ErrNoCase = topology.ErrNoCase

// CaseReplay judges the machine of an episode again, with the code that runs in production, record by record of telemetry.frames.v1.
type CaseReplay = topology.CaseReplay

// Judged is what one record led to; Report is one anomaly of it, with the bytes that are written to detect.anomalies.v1.
type (
	Judged = topology.Judged
	Report = topology.Report
)

// NewCaseReplay begins where the case of an episode does. cases are the records of detect.cases.v1 about it; dead the offsets that became dead letters
// since the case's beginning, see CaseBounds; schemas names the sensors of a schema.
func NewCaseReplay(cases []*eventv1.Case, dead map[int64]bool, schemas func(ctx context.Context, id string) ([]string, error)) (*CaseReplay, error) {
	return topology.NewCaseReplay(cases, dead, resolver(schemas))
}

// CaseBounds are the partition and the offset of telemetry.frames.v1 that a replay begins with.
func CaseBounds(cases []*eventv1.Case) (partition int32, from int64, err error) {
	return topology.CaseBounds(cases)
}

// CaseFinder looks for a case in processor.state.v1, where none was kept.
type CaseFinder = topology.CaseFinder

// NewCaseFinder looks for what was known of a machine before an offset of its input.
func NewCaseFinder(equipmentID string, before int64) *CaseFinder {
	return topology.NewCaseFinder(equipmentID, before)
}
