package table

import (
	"errors"

	"github.com/tocsin-io/tocsin/services/cold-path-writer/internal/parquetfile"
	"github.com/tocsin-io/tocsin/services/cold-path-writer/internal/rowhash"
)

// Inspect reads by columns, and runs of equal values as one: a string is hashed once per dictionary, and no row becomes a struct.
func (r *readings) Inspect(data []byte) (rows int64, hash uint64, err error) {
	err = parquetfile.ReadGroups[Reading](data, func(g *parquetfile.Group) error {
		h, err := inspectGroup(g)
		rows, hash = rows+int64(g.Rows()), hash+h
		return err
	})
	return rows, hash, err
}

func hashOf(s []byte) uint64 { return rowhash.Of(string(s)) }

// cursor walks the runs of a column.
type cursor[T comparable] struct{ runs []parquetfile.Run[T] }

// at is the value at row, and to, or where it ends if that is before. Rows must not go back.
func (c *cursor[T]) at(row, to int) (v T, end int) {
	for c.runs[0].End <= row {
		c.runs = c.runs[1:]
	}
	return c.runs[0].Value, min(to, c.runs[0].End)
}

// inspectGroup is the sum of the hashes of a group's rows.
func inspectGroup(g *parquetfile.Group) (sum uint64, err error) {
	if g.Rows() == 0 {
		return 0, nil
	}
	var errs [14]error
	var equipment, gateway, quality, validity, disposition cursor[uint64]
	var ts, sequence, sample, logTime, partition, offset cursor[int64]
	var late, present cursor[bool]
	var sensor []uint64
	var values []float32
	equipment.runs, errs[0] = g.Hashes("equipment_id", hashOf)
	gateway.runs, errs[1] = g.Hashes("gateway_id", hashOf)
	sensor, errs[2] = g.HashOfEach("sensor", hashOf)
	quality.runs, errs[3] = g.Hashes("quality", hashOf)
	validity.runs, errs[4] = g.Hashes("validity", hashOf)
	disposition.runs, errs[5] = g.Hashes("disposition", hashOf)
	ts.runs, errs[6] = g.Ints("ts")
	sequence.runs, errs[7] = g.Ints("sequence")
	sample.runs, errs[8] = g.Ints("sample")
	logTime.runs, errs[9] = g.Ints("log_append_time")
	partition.runs, errs[10] = g.Ints("partition")
	offset.runs, errs[11] = g.Ints("offset")
	values, present.runs, errs[12] = g.Floats("value")
	late.runs, errs[13] = g.Bools("late")
	if err := errors.Join(errs[:]...); err != nil {
		return 0, err
	}
	for row := 0; row < g.Rows(); {
		end := g.Rows()
		e, end := equipment.at(row, end)
		gw, end := gateway.at(row, end)
		seq, end := sequence.at(row, end)
		lt, end := logTime.at(row, end)
		p, end := partition.at(row, end)
		o, end := offset.at(row, end)
		t, end := ts.at(row, end)
		smp, end := sample.at(row, end)
		q, end := quality.at(row, end)
		v, end := validity.at(row, end)
		d, end := disposition.at(row, end)
		l, end := late.at(row, end)
		there, end := present.at(row, end)
		if l != (d == lateHashes[0] || d == lateHashes[1]) {
			d++ // never written so
		}
		h := frameHash(e, gw, seq, lt, int32(p), o)
		if there {
			n := end - row
			sum += hashValues(&h, sensor[row:end], values[:n], t, int32(smp), q, v, d)
			values = values[n:]
		} else {
			for _, s := range sensor[row:end] {
				sum += valueHash(h, s, t, int32(smp), q, v, d, 0, false)
			}
		}
		row = end
	}
	return sum, nil
}

var lateHashes = [2]uint64{rowhash.Of(dispositionNames[2]), rowhash.Of(dispositionNames[4])}
