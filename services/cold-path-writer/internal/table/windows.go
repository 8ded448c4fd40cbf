package table

import (
	"cmp"
	"context"
	"strings"

	"github.com/tocsin-io/tocsin/pkg/topic"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	"github.com/tocsin-io/tocsin/services/cold-path-writer/internal/rowhash"
)

// Window is a row of the table windows: one sensor's statistics in one machine's window. A window without sensors is one row
// with an empty sensor, so that its score is not lost. A statistic that there is none of (NaN) is null, so that averages are right. Of several revisions of a window_id the highest stands.
type Window struct {
	EquipmentID   string   `parquet:"equipment_id,dict"`
	Start         int64    `parquet:"window_start,timestamp(microsecond),delta"`
	Sensor        string   `parquet:"sensor,dict"`
	Revision      int32    `parquet:"revision,delta"`
	End           int64    `parquet:"window_end,timestamp(microsecond),delta"`
	WindowID      string   `parquet:"window_id,dict"`
	Count         int64    `parquet:"count,delta"`
	Unusable      int64    `parquet:"unusable,delta"`
	Mean          *float64 `parquet:"mean,optional,split"`
	Stddev        *float64 `parquet:"stddev,optional,split"`
	Min           *float64 `parquet:"min,optional,split"`
	Max           *float64 `parquet:"max,optional,split"`
	Last          *float64 `parquet:"last,optional,split"`
	Score         float64  `parquet:"score,split"`
	ExpectedLow   *float64 `parquet:"expected_low,optional,split"`
	ExpectedHigh  *float64 `parquet:"expected_high,optional,split"`
	MachineScore  float64  `parquet:"machine_score,split"`
	Learning      bool     `parquet:"learning"`
	ClosedAt      int64    `parquet:"closed_at,timestamp(microsecond),delta"`
	LogAppendTime int64    `parquet:"log_append_time,timestamp(microsecond),delta"`
	Offset        int64    `parquet:"offset,delta"`
}

var windowsOrder = []string{"equipment_id", "window_start", "sensor"}

func newWindows() Table {
	return windows{&rowTable[Window]{
		name: "windows", topic: topic.Windows, typ: topic.TypeWindow,
		sortedBy: windowsOrder,
		compare: func(a, b *Window) int {
			return cmp.Or(strings.Compare(a.EquipmentID, b.EquipmentID), cmp.Compare(a.Start, b.Start),
				strings.Compare(a.Sensor, b.Sensor), cmp.Compare(a.Revision, b.Revision), cmp.Compare(a.Offset, b.Offset))
		},
		hash:   hashWindow,
		decode: decodeWindow,
	}}
}

func decodeWindow(_ context.Context, rows []Window, rec Record) ([]Window, error) {
	var m eventv1.Window
	if err := unmarshal(rec, &m, &m.EquipmentId); err != nil {
		return rows, err
	}
	row := Window{
		EquipmentID: m.GetEquipmentId(), Start: m.GetStartUs(), End: m.GetEndUs(), WindowID: m.GetWindowId(), Revision: int32(m.GetRevision()),
		MachineScore: m.GetScore(), Learning: m.GetLearning(), ClosedAt: micros(m.GetClosedAtMs()),
		LogAppendTime: micros(rec.TimeMS), Offset: rec.Offset,
	}
	if len(m.GetSensors()) == 0 {
		return append(rows, row), nil
	}
	for _, s := range m.GetSensors() {
		row.Sensor, row.Count, row.Unusable = s.GetSensor(), int64(s.GetCount()), int64(s.GetUnusable())
		row.Mean, row.Stddev, row.Min, row.Max, row.Last = known(s.GetMean()), known(s.GetStddev()), known(s.GetMin()), known(s.GetMax()), known(s.GetLast())
		row.Score, row.ExpectedLow, row.ExpectedHigh = s.GetScore(), known(s.GetExpectedLow()), known(s.GetExpectedHigh())
		rows = append(rows, row)
	}
	return rows, nil
}

func hashWindow(r *Window) uint64 {
	var h rowhash.Hash
	h.String(r.EquipmentID)
	h.String(r.Sensor)
	h.String(r.WindowID)
	for _, n := range [...]int64{r.Start, r.End, int64(r.Revision), r.Count, r.Unusable, r.ClosedAt, r.LogAppendTime, r.Offset} {
		h.Int(n)
	}
	for _, v := range [...]*float64{r.Mean, r.Stddev, r.Min, r.Max, r.Last, r.ExpectedLow, r.ExpectedHigh} {
		hashOptional(&h, v)
	}
	h.Float(r.Score)
	h.Float(r.MachineScore)
	h.Bool(r.Learning)
	return h.Sum()
}

// known is v, or nil (null) for NaN.
func known(v float64) *float64 {
	if v != v {
		return nil
	}
	return &v
}

func hashOptional(h *rowhash.Hash, v *float64) {
	h.Bool(v != nil)
	if v != nil {
		h.Float(*v)
	}
}
