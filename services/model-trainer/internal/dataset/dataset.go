// Package dataset reads tables to train on from CSV and Parquet files. Nothing in a file is trusted: sizes are bounded, and what is wrong is named by row and column.
package dataset

import (
	"bufio"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"

	"github.com/tocsin-io/tocsin/services/model-trainer/internal/model"
)

// Options say which columns are what.
type Options struct {
	Ignore    []string // columns that are not read
	Time      string   // column with the rows' times: RFC 3339, "2006-01-02 15:04:05", or seconds; empty: none
	MaxRows   int
	MaxValues int
}

// Table is what was read, with the usual distance of two rows in seconds if there were times.
type Table struct {
	model.Table
	StepSeconds float64
}

// Error is something wrong in the file. Row counts data rows from 1; 0: the file as a whole.
type Error struct {
	Row    int
	Column string
	Reason string
}

func (e *Error) Error() string {
	switch {
	case e.Row == 0 && e.Column == "":
		return e.Reason
	case e.Row == 0:
		return fmt.Sprintf("column %q: %s", e.Column, e.Reason)
	}
	return fmt.Sprintf("row %d, column %q: %s", e.Row, e.Column, e.Reason)
}

// builder collects rows.
type builder struct {
	opt   Options
	use   []bool // by column of the file
	time  int    // column of the file, or -1
	names []string
	out   Table
	times []float64
	rows  int
}

func newBuilder(names []string, opt Options) (*builder, error) {
	b := &builder{opt: opt, use: make([]bool, len(names)), time: -1, names: names}
	for i, name := range names {
		switch {
		case slices.Index(names, name) < i:
			return nil, &Error{Column: name, Reason: "appears twice"}
		case name == "":
			return nil, &Error{Reason: fmt.Sprintf("column %d has no name", i+1)}
		case name == opt.Time:
			b.time = i
		case !slices.Contains(opt.Ignore, name):
			b.use[i] = true
			b.out.Columns = append(b.out.Columns, name)
		}
	}
	if opt.Time != "" && b.time < 0 {
		return nil, &Error{Column: opt.Time, Reason: "is not in the file"}
	}
	if len(b.out.Columns) == 0 {
		return nil, &Error{Reason: "no column is left to learn from"}
	}
	return b, nil
}

func (b *builder) begin() error {
	if b.rows++; b.rows > b.opt.MaxRows || b.rows*len(b.out.Columns) > b.opt.MaxValues {
		return &Error{Reason: fmt.Sprintf("more than %d rows or %d values", b.opt.MaxRows, b.opt.MaxValues)}
	}
	return nil
}

func (b *builder) add(column int, v float64) error {
	if f := float32(v); math.Abs(float64(f)) <= math.MaxFloat32 {
		b.out.Values = append(b.out.Values, f)
		return nil
	}
	return &Error{Row: b.rows, Column: b.names[column], Reason: fmt.Sprintf("%v is not a finite number of 32 bits", v)}
}

func (b *builder) addTime(seconds float64) error {
	if n := len(b.times); n > 0 && !(seconds > b.times[n-1]) {
		return &Error{Row: b.rows, Column: b.opt.Time, Reason: "is not after the row before"}
	}
	b.times = append(b.times, seconds)
	return nil
}

func (b *builder) finish() (*Table, error) {
	if b.rows < 2 {
		return nil, &Error{Reason: fmt.Sprintf("at least 2 rows are needed, there are %d", b.rows)}
	}
	b.out.SetTimes(b.times)
	return &b.out, nil
}

// SetTimes numbers rows in steps of the median distance of their times, in seconds, rising.
func (t *Table) SetTimes(times []float64) {
	if len(times) < 2 {
		return
	}
	gaps := make([]float64, len(times)-1)
	for i := range gaps {
		gaps[i] = times[i+1] - times[i]
	}
	slices.Sort(gaps)
	t.StepSeconds = gaps[len(gaps)/2]
	for _, at := range times {
		t.Steps = append(t.Steps, Step(at, t.StepSeconds))
	}
}

// Step is the number of a time, in seconds since 1970 UTC, in steps of that many seconds.
func Step(seconds, step float64) int {
	return int(math.Round(max(-1e15, min(seconds/step, 1e15))))
}

// ParseTime reads a time as seconds since 1970 UTC.
func ParseTime(s string) (float64, error) {
	if v, err := strconv.ParseFloat(s, 64); err == nil {
		if !(math.Abs(v) < 1e12) {
			return 0, fmt.Errorf("%q is no time in seconds", s)
		}
		return v, nil
	}
	for _, layout := range []string{time.RFC3339Nano, time.DateTime, "2006-01-02T15:04:05", time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			return float64(t.UnixMicro()) / 1e6, nil
		}
	}
	return 0, fmt.Errorf("%q is no time", s)
}

// ReadCSV reads a table with a line of names. The delimiter is the one of comma, semicolon and tab that the first line has most of.
func ReadCSV(r io.Reader, opt Options) (*Table, error) {
	c := csvReader(bufio.NewReaderSize(r, 1<<16))
	record, err := c.Read()
	if err != nil {
		return nil, csvError(err)
	}
	b, err := newBuilder(slices.Clone(record), opt)
	if err != nil {
		return nil, err
	}
	for {
		record, err := c.Read()
		if errors.Is(err, io.EOF) {
			return b.finish()
		}
		if err != nil {
			return nil, csvError(err)
		}
		if err := b.record(record); err != nil {
			return nil, err
		}
	}
}

func csvError(err error) error {
	var parse *csv.ParseError
	switch {
	case errors.Is(err, io.EOF):
		return &Error{Reason: "the file is empty"}
	case errors.As(err, &parse):
		return &Error{Reason: err.Error()}
	}
	return fmt.Errorf("reading: %w", err)
}

func (b *builder) record(record []string) error {
	if err := b.begin(); err != nil {
		return err
	}
	for i, text := range record {
		switch {
		case i == b.time:
			t, err := ParseTime(text)
			if err != nil {
				return &Error{Row: b.rows, Column: b.opt.Time, Reason: err.Error()}
			}
			if err := b.addTime(t); err != nil {
				return err
			}
		case b.use[i]:
			v, err := strconv.ParseFloat(text, 64)
			if err != nil && !errors.Is(err, strconv.ErrRange) {
				return &Error{Row: b.rows, Column: b.names[i], Reason: fmt.Sprintf("%q is not a number", text)}
			}
			if err := b.add(i, v); err != nil {
				return err
			}
		}
	}
	return nil
}

// ReadParquet reads a file of flat columns of numbers, one row of the table for each of the file. The time column may hold a timestamp, a number of seconds, or text.
func ReadParquet(r io.ReaderAt, size int64, opt Options) (_ *Table, err error) {
	defer func() { // a hostile file must not end the process
		if p := recover(); p != nil {
			err = &Error{Reason: fmt.Sprintf("no readable Parquet file: %v", p)}
		}
	}()
	f, names, err := openParquet(r, size)
	if err != nil {
		return nil, err
	}
	b, err := newBuilder(names, opt)
	if err != nil {
		return nil, err
	}
	perSecond := 1.0
	if b.time >= 0 {
		perSecond = unitsPerSecond(f.Schema().Fields()[b.time])
	}
	if err := eachRow(f, func(row parquet.Row) error { return b.row(row, perSecond) }); err != nil {
		return nil, err
	}
	return b.finish()
}

// openParquet opens a file of flat columns and gives their names.
func openParquet(r io.ReaderAt, size int64) (*parquet.File, []string, error) {
	f, err := parquet.OpenFile(r, size)
	if err != nil {
		return nil, nil, &Error{Reason: "no readable Parquet file: " + err.Error()}
	}
	var names []string
	for _, field := range f.Schema().Fields() {
		if !field.Leaf() || field.Repeated() {
			return nil, nil, &Error{Column: field.Name(), Reason: "is not a flat column"}
		}
		names = append(names, field.Name())
	}
	return f, names, nil
}

// eachRow hands over the rows of all row groups, in order.
func eachRow(f *parquet.File, visit func(parquet.Row) error) error {
	rows := make([]parquet.Row, 256)
	for _, group := range f.RowGroups() {
		reader := group.Rows()
		for {
			n, err := reader.ReadRows(rows)
			for _, row := range rows[:n] {
				if err := visit(row); err != nil {
					return errors.Join(err, reader.Close())
				}
			}
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return errors.Join(&Error{Reason: err.Error()}, reader.Close())
			}
		}
		if err := reader.Close(); err != nil {
			return fmt.Errorf("reading: %w", err)
		}
	}
	return nil
}

func unitsPerSecond(field parquet.Field) float64 {
	t := field.Type().LogicalType()
	if t == nil {
		return 1
	}
	stamp, ok := t.Value.(*format.TimestampType)
	if !ok {
		return 1
	}
	switch stamp.Unit.Value.(type) {
	case *format.MilliSeconds:
		return 1e3
	case *format.MicroSeconds:
		return 1e6
	case *format.NanoSeconds:
		return 1e9
	}
	return 1
}

func (b *builder) row(row parquet.Row, perSecond float64) error {
	if err := b.begin(); err != nil {
		return err
	}
	if len(row) != len(b.names) {
		return &Error{Row: b.rows, Column: b.names[0], Reason: "the row has another number of columns"}
	}
	for _, v := range row {
		i := v.Column()
		if i != b.time && !b.use[i] {
			continue
		}
		x, err := number(v)
		switch {
		case err != nil && i == b.time && v.Kind() == parquet.ByteArray:
			if x, err = ParseTime(string(v.ByteArray())); err != nil {
				return &Error{Row: b.rows, Column: b.names[i], Reason: err.Error()}
			}
		case err != nil:
			return &Error{Row: b.rows, Column: b.names[i], Reason: err.Error()}
		}
		if i == b.time {
			err = b.addTime(x / perSecond)
		} else {
			err = b.add(i, x)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func number(v parquet.Value) (float64, error) {
	if v.IsNull() {
		return 0, errors.New("is missing")
	}
	switch v.Kind() {
	case parquet.Boolean:
		if v.Boolean() {
			return 1, nil
		}
		return 0, nil
	case parquet.Int32:
		return float64(v.Int32()), nil
	case parquet.Int64:
		return float64(v.Int64()), nil
	case parquet.Float:
		return float64(v.Float()), nil
	case parquet.Double:
		return v.Double(), nil
	}
	return 0, fmt.Errorf("is no number but %v", v.Kind())
}
