package table

import (
	"cmp"
	"context"
	"strings"

	"github.com/tocsin-io/tocsin/pkg/frame"
	"github.com/tocsin-io/tocsin/pkg/topic"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	"github.com/tocsin-io/tocsin/services/cold-path-writer/internal/rowhash"
)

// Reading is a row of the table readings: one value of one sensor.
type Reading struct {
	EquipmentID string   `parquet:"equipment_id,dict"`
	TS          int64    `parquet:"ts,timestamp(microsecond),delta"` // event time
	Sensor      string   `parquet:"sensor,dict"`
	Value       *float32 `parquet:"value,optional,split"` // null where there is none
	Quality     string   `parquet:"quality,dict"`         // the source's word
	Validity    string   `parquet:"validity,dict"`        // the judge's word
	Disposition string   `parquet:"disposition,dict"`
	Late        bool     `parquet:"late"`
	GatewayID   string   `parquet:"gateway_id,dict"`
	Sequence    int64    `parquet:"sequence,delta"`
	Sample      int32    `parquet:"sample,delta"` // which sample of its frame
	// Where the frame stands in telemetry.frames.v1, and the broker's time for it.
	LogAppendTime int64 `parquet:"log_append_time,timestamp(microsecond),delta"`
	Partition     int32 `parquet:"partition,dict"`
	Offset        int64 `parquet:"offset,delta"`
}

var (
	qualityNames     = [...]string{"good", "good", "uncertain", "bad", "missing"}
	validityNames    = [...]string{"good", "good", "uncertain", "bad", "missing", "out_of_range", "flatline"}
	dispositionNames = [...]string{"on_time", "on_time", "late", "quarantined", "too_late"}
)

// codeName is the name of a code; one that this version does not know is shown as "unknown": the row is worth keeping.
func codeName(names []string, code uint8) string {
	if int(code) < len(names) {
		return names[code]
	}
	return "unknown"
}

func isLate(disposition uint8) bool {
	return disposition == uint8(eventv1.Disposition_DISPOSITION_LATE) || disposition == uint8(eventv1.Disposition_DISPOSITION_TOO_LATE)
}

func newReadings(schemas Schemas) Table {
	return &rowTable[Reading]{
		name: "readings", topic: topic.Readings, typ: topic.TypeReading,
		sortedBy: []string{"equipment_id", "ts", "sensor"},
		compare: func(a, b *Reading) int {
			return cmp.Or(strings.Compare(a.EquipmentID, b.EquipmentID), cmp.Compare(a.TS, b.TS),
				strings.Compare(a.Sensor, b.Sensor), cmp.Compare(a.Offset, b.Offset), cmp.Compare(a.Sample, b.Sample))
		},
		hash: hashReading,
		decode: func(ctx context.Context, rows []Reading, rec Record) ([]Reading, error) {
			var j judged
			if err := j.unmarshal(ctx, rec.Value, schemas); err != nil {
				return rows, err
			}
			return j.appendRows(rows), nil
		},
	}
}

func (j *judged) appendRows(rows []Reading) []Reading {
	f := &j.frame
	base := Reading{
		EquipmentID: string(f.EquipmentID), GatewayID: string(f.GatewayID), Sequence: int64(f.Sequence),
		LogAppendTime: micros(j.timeMS), Partition: j.partition, Offset: j.offset,
	}
	samples := f.Samples()
	for s := range j.sensors() {
		base.Sensor = j.sensor(s)
		for t := range samples {
			i := s*samples + t
			row := base
			row.TS, row.Sample = f.TimeUS(t), int32(t)
			quality, d := j.quality(i), j.disposition(t)
			row.Quality, row.Validity = codeName(qualityNames[:], quality), codeName(validityNames[:], j.validity(i))
			row.Disposition, row.Late = codeName(dispositionNames[:], d), isLate(d)
			if quality != frame.QualityMissing {
				v := f.Values[i]
				row.Value = &v
			}
			rows = append(rows, row)
		}
	}
	return rows
}

func hashReading(r *Reading) uint64 {
	var h rowhash.Hash
	for _, s := range [...]string{r.EquipmentID, r.GatewayID, r.Sensor, r.Quality, r.Validity, r.Disposition} {
		h.String(s)
	}
	for _, n := range [...]int64{r.TS, r.Sequence, int64(r.Sample), r.LogAppendTime, int64(r.Partition), r.Offset} {
		h.Int(n)
	}
	h.Bool(r.Late)
	h.Bool(r.Value != nil)
	if r.Value != nil {
		h.Float(float64(*r.Value))
	}
	return h.Sum()
}
