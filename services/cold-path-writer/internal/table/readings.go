package table

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/bits"
	"sync"

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

// readings is the Table of the hot path: frames are decoded into flat arrays, whole samples are sorted instead of rows, and the
// columns are written without a struct per row. Its rows are those of Reading.
type readings struct {
	schemas Schemas
	pool    sync.Pool // of *batch
}

func newReadings(schemas Schemas) Table {
	r := &readings{schemas: schemas}
	r.pool.New = func() any { return newBatch() }
	return r
}

func (r *readings) Name() string  { return "readings" }
func (r *readings) Topic() string { return topic.Readings }
func (r *readings) Type() string  { return topic.TypeReading }

var readingsOrder = []string{"equipment_id", "ts", "sensor"}

// Rows decodes with a frame from the pool, so that counting does not allocate.
func (r *readings) Rows(ctx context.Context, rec Record) (int64, error) {
	b := r.pool.Get().(*batch)
	defer r.pool.Put(b)
	if err := b.scratch.unmarshal(ctx, rec.Value, r.schemas); err != nil {
		return 0, err
	}
	return int64(len(b.scratch.frame.Values)), nil
}

func (r *readings) Encode(ctx context.Context, recs []Record, describe func(int64, uint64) map[string]string) (File, error) {
	return r.encode(ctx, recs, describe, func(string) {})
}

// EncodeReadings is Encode of the table readings that calls done after each of its parts: "decode" (and sort), "encode" (and hash) and "verify". For measuring; tables
// are those of All.
func EncodeReadings(ctx context.Context, tables []Table, recs []Record, done func(part string)) (File, error) {
	for _, t := range tables {
		if r, ok := t.(*readings); ok {
			return r.encode(ctx, recs, func(int64, uint64) map[string]string { return nil }, done)
		}
	}
	return File{}, errors.New("there is no table readings")
}

func (r *readings) encode(ctx context.Context, recs []Record, describe func(int64, uint64) map[string]string, done func(part string)) (File, error) {
	b := r.pool.Get().(*batch)
	defer func() {
		b.reset()
		r.pool.Put(b)
	}()
	for _, rec := range recs {
		if err := b.add(ctx, rec, r.schemas); err != nil {
			return File{}, fmt.Errorf("table readings: offset %d: %w", rec.Offset, err)
		}
	}
	b.sort()
	done("decode")
	f := File{Rows: b.rows, Hash: b.write()}
	var err error
	if f.Data, err = b.columns.w.Close(describe(f.Rows, f.Hash)); err != nil {
		return File{}, fmt.Errorf("table readings: %w", err)
	}
	done("encode")
	err = verify(r, f)
	done("verify")
	return f, err
}

// frameHash is the part of a row's hash that all rows of a frame share.
func frameHash(equipment, gateway uint64, sequence, logTimeUS int64, partition int32, offset int64) rowhash.Hash {
	var h rowhash.Hash
	h.Uint(equipment)
	h.Uint(gateway)
	h.Int(sequence)
	h.Int(logTimeUS)
	h.Int(int64(partition))
	h.Int(offset)
	return h
}

// valueHash ends a row's hash.
func valueHash(h rowhash.Hash, sensor uint64, ts int64, sample int32, quality, validity, disposition uint64, value float32, present bool) uint64 {
	h.Uint(sensor)
	h.Int(ts)
	h.Uint(quality ^ bits.RotateLeft64(validity, 21) ^ bits.RotateLeft64(disposition, 42))
	v := uint64(uint32(sample)) << 32
	if present {
		v |= uint64(math.Float32bits(value))
	} else {
		h.Uint(1)
	}
	h.Uint(v)
	return h.Sum()
}

// hashValues is the sum of valueHash over the values of a sample that are all there.
func hashValues(base *rowhash.Hash, sensors []uint64, values []float32, ts int64, sample int32, quality, validity, disposition uint64) (sum uint64) {
	codes := quality ^ bits.RotateLeft64(validity, 21) ^ bits.RotateLeft64(disposition, 42)
	high := uint64(uint32(sample)) << 32
	sensors = sensors[:len(values)]
	for i, v := range values {
		h := *base
		h.Uint(sensors[i])
		h.Int(ts)
		h.Uint(codes)
		h.Uint(high | uint64(math.Float32bits(v)))
		sum += h.Sum()
	}
	return sum
}
