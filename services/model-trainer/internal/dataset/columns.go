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
	"strings"

	"github.com/parquet-go/parquet-go"

	"github.com/tocsin-io/tocsin/services/model-trainer/internal/feature"
)

// ColumnOptions say which columns hold names, and how much is read.
type ColumnOptions struct {
	Texts     []string // columns of names; all others hold numbers
	Ignore    []string // columns that are not read
	Only      []string // if not nil, the columns that are read
	MaxRows   int
	MaxValues int
}

const maxNameBytes = 256

// columns collects a table column by column. A cell that is empty is a missing number.
type columns struct {
	opt   ColumnOptions
	names []string
	use   []bool
	out   feature.Table
	place []int             // of a column of the file in out
	known map[string]string // one copy of each name
}

func newColumns(names []string, opt ColumnOptions) (*columns, error) {
	c := &columns{opt: opt, names: names, use: make([]bool, len(names)), place: make([]int, len(names)), known: map[string]string{}}
	if len(names) > feature.MaxColumns {
		return nil, &Error{Reason: fmt.Sprintf("%d columns are more than %d", len(names), feature.MaxColumns)}
	}
	seen := make(map[string]bool, len(names))
	for i, name := range names {
		switch {
		case name == "":
			return nil, &Error{Reason: fmt.Sprintf("column %d has no name", i+1)}
		case seen[name]:
			return nil, &Error{Column: name, Reason: "appears twice"}
		}
		seen[name] = true
		if slices.Contains(opt.Ignore, name) || opt.Only != nil && !slices.Contains(opt.Only, name) {
			continue
		}
		c.use[i], c.place[i] = true, len(c.out.Columns)
		column := feature.Column{Name: name}
		if slices.Contains(opt.Texts, name) {
			column.Texts = []string{}
		} else {
			column.Numbers = []float64{}
		}
		c.out.Columns = append(c.out.Columns, column)
	}
	if len(c.out.Columns) == 0 {
		return nil, &Error{Reason: "no column is left to read"}
	}
	return c, nil
}

func (c *columns) begin() error {
	if c.out.Rows++; c.out.Rows > c.opt.MaxRows || c.out.Rows*len(c.out.Columns) > c.opt.MaxValues {
		return &Error{Reason: fmt.Sprintf("more than %d rows or %d values", c.opt.MaxRows, c.opt.MaxValues)}
	}
	return nil
}

func (c *columns) text(i int, text string) error {
	if len(text) > maxNameBytes {
		return &Error{Row: c.out.Rows, Column: c.names[i], Reason: fmt.Sprintf("a name of %d bytes", len(text))}
	}
	one, ok := c.known[text]
	if !ok {
		one = strings.Clone(text)
		c.known[one] = one
	}
	at := &c.out.Columns[c.place[i]]
	at.Texts = append(at.Texts, one)
	return nil
}

func (c *columns) number(i int, v float64) error {
	if math.IsInf(v, 0) {
		return &Error{Row: c.out.Rows, Column: c.names[i], Reason: fmt.Sprintf("%v is not finite", v)}
	}
	at := &c.out.Columns[c.place[i]]
	at.Numbers = append(at.Numbers, v)
	return nil
}

func (c *columns) isText(i int) bool { return c.out.Columns[c.place[i]].Texts != nil }

// cell takes a cell of a CSV file.
func (c *columns) cell(i int, text string) error {
	if c.isText(i) {
		return c.text(i, text)
	}
	if text == "" {
		return c.number(i, math.NaN())
	}
	v, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return &Error{Row: c.out.Rows, Column: c.names[i], Reason: fmt.Sprintf("%q is not a number", text)}
	}
	return c.number(i, v)
}

func (c *columns) finish() (*feature.Table, error) {
	if c.out.Rows == 0 {
		return nil, &Error{Reason: "there are no rows"}
	}
	return &c.out, nil
}

// ReadColumnsCSV reads numbers and names. The delimiter is found as by ReadCSV; an empty cell is a missing number.
func ReadColumnsCSV(r io.Reader, opt ColumnOptions) (*feature.Table, error) {
	in := csvReader(bufio.NewReaderSize(r, 1<<16))
	record, err := in.Read()
	if err != nil {
		return nil, csvError(err)
	}
	c, err := newColumns(slices.Clone(record), opt)
	if err != nil {
		return nil, err
	}
	for {
		record, err := in.Read()
		if errors.Is(err, io.EOF) {
			return c.finish()
		}
		if err != nil {
			return nil, csvError(err)
		}
		if err := c.begin(); err != nil {
			return nil, err
		}
		for i, text := range record {
			if !c.use[i] {
				continue
			}
			if err := c.cell(i, text); err != nil {
				return nil, err
			}
		}
	}
}

// csvReader finds the delimiter: the one of comma, semicolon and tab that the first line has most of. What cannot be read shows itself at the first record.
func csvReader(in *bufio.Reader) *csv.Reader {
	first, _ := in.Peek(1 << 12)
	line, _, _ := strings.Cut(string(first), "\n")
	c := csv.NewReader(in)
	for _, d := range []rune{';', '\t'} {
		if strings.Count(line, string(d)) > strings.Count(line, string(c.Comma)) {
			c.Comma = d
		}
	}
	c.ReuseRecord, c.TrimLeadingSpace = true, true
	return c
}

// ReadColumnsParquet reads flat columns of numbers and of text.
func ReadColumnsParquet(r io.ReaderAt, size int64, opt ColumnOptions) (_ *feature.Table, err error) {
	defer func() { // a hostile file must not end the process
		if p := recover(); p != nil {
			err = &Error{Reason: fmt.Sprintf("no readable Parquet file: %v", p)}
		}
	}()
	f, names, err := openParquet(r, size)
	if err != nil {
		return nil, err
	}
	c, err := newColumns(names, opt)
	if err != nil {
		return nil, err
	}
	if err := eachRow(f, c.row); err != nil {
		return nil, err
	}
	return c.finish()
}

func (c *columns) row(row parquet.Row) error {
	if err := c.begin(); err != nil {
		return err
	}
	if len(row) != len(c.names) {
		return &Error{Row: c.out.Rows, Column: c.names[0], Reason: "the row has another number of columns"}
	}
	for _, v := range row {
		i := v.Column()
		if !c.use[i] {
			continue
		}
		if err := c.value(i, v); err != nil {
			return err
		}
	}
	return nil
}

func (c *columns) value(i int, v parquet.Value) error {
	if c.isText(i) {
		if v.Kind() == parquet.ByteArray || v.IsNull() {
			return c.text(i, string(v.ByteArray()))
		}
		return c.text(i, v.String())
	}
	if v.IsNull() {
		return c.number(i, math.NaN())
	}
	x, err := number(v)
	if err != nil {
		return &Error{Row: c.out.Rows, Column: c.names[i], Reason: err.Error()}
	}
	return c.number(i, x)
}
