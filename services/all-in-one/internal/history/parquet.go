package history

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/format"

	"github.com/tocsin-io/tocsin/services/all-in-one/internal/csvfile"
)

// parquetRows reads a Parquet file of flat columns: a time, a machine if wanted, and numbers.
type parquetRows struct {
	f      *os.File
	total  int64
	groups []parquet.RowGroup
	rows   parquet.Rows
	batch  []parquet.Row
	have   []parquet.Row
	n      int64

	names   []string
	at      []int // by column: the sensor; -1: none
	time    int
	unit    time.Duration
	machine int
	headers []string
	values  []float32
}

// openParquet finds the columns. Times are timestamps, or numbers of seconds, milliseconds, microseconds or nanoseconds since 1970, told apart by their size.
func openParquet(path string, opt csvfile.Options) (_ rows, err error) {
	p := &parquetRows{time: -1, machine: -1, batch: make([]parquet.Row, 256)}
	if p.f, err = os.Open(path); err != nil {
		return nil, err
	}
	defer func() {
		if e := recover(); e != nil {
			err = fmt.Errorf("damaged file: %v", e)
		}
		if err != nil {
			err = errors.Join(err, p.f.Close())
		}
	}()
	st, err := p.f.Stat()
	if err != nil {
		return nil, err
	}
	file, err := parquet.OpenFile(p.f, st.Size(), parquet.SkipBloomFilters(true), parquet.SkipPageIndex(true))
	if err != nil {
		return nil, err
	}
	p.total, p.groups = file.NumRows(), file.RowGroups()
	for i, f := range file.Schema().Fields() {
		name := f.Name()
		p.headers, p.at = append(p.headers, name), append(p.at, -1)
		switch {
		case !f.Leaf() || f.Repeated():
			return nil, fmt.Errorf("column %d (%s) is nested: only columns of times, names and numbers can be imported", i+1, name)
		case slices.Contains(opt.Ignore, name):
		case name == opt.EquipmentColumn:
			if f.Type().Kind() != parquet.ByteArray {
				return nil, fmt.Errorf("equipment column %q is no text", name)
			}
			p.machine = i
		case name == opt.TimeColumn || opt.TimeColumn == "" && p.time < 0 && unitOf(f) != 0:
			if kind := f.Type().Kind(); kind != parquet.Int64 {
				return nil, fmt.Errorf("time column %q is neither a timestamp nor a 64 bit number", name)
			}
			p.time, p.unit = i, unitOf(f)
		default:
			switch f.Type().Kind() {
			case parquet.Boolean, parquet.Int32, parquet.Int64, parquet.Float, parquet.Double:
				p.at[i] = len(p.names)
				p.names = append(p.names, name)
			default:
				return nil, fmt.Errorf("column %d (%s) holds no numbers: leave it out with --ignore-columns", i+1, name)
			}
		}
	}
	switch {
	case opt.EquipmentColumn != "" && p.machine < 0:
		return nil, fmt.Errorf("equipment column %q is not there: %s", opt.EquipmentColumn, strings.Join(p.headers, ", "))
	case p.time < 0:
		return nil, fmt.Errorf("no column holds times: name one with --time-column; there are %s", strings.Join(p.headers, ", "))
	case len(p.names) == 0:
		return nil, fmt.Errorf("no column is left as a sensor; there are %s", strings.Join(p.headers, ", "))
	}
	p.values = make([]float32, len(p.names))
	return p, nil
}

// unitOf a timestamp; 0: it is none.
func unitOf(f parquet.Field) time.Duration {
	lt := f.Type().LogicalType()
	if lt == nil {
		return 0
	}
	t, ok := lt.Value.(*format.TimestampType)
	if !ok {
		return 0
	}
	switch t.Unit.Value.(type) {
	case *format.MilliSeconds:
		return time.Millisecond
	case *format.MicroSeconds:
		return time.Microsecond
	default:
		return time.Nanosecond
	}
}

func (p *parquetRows) sensors() []string    { return p.names }
func (p *parquetRows) read() (int64, int64) { return p.n, p.total }

func (p *parquetRows) close() error {
	var err error
	if p.rows != nil {
		err = p.rows.Close()
	}
	return errors.Join(err, p.f.Close())
}

func (p *parquetRows) next() (r row, err error) {
	defer func() {
		if e := recover(); e != nil {
			err = fmt.Errorf("damaged file: %v", e)
		}
	}()
	for len(p.have) == 0 {
		if p.rows == nil {
			if len(p.groups) == 0 {
				return row{}, io.EOF
			}
			p.rows, p.groups = p.groups[0].Rows(), p.groups[1:]
		}
		n, err := p.rows.ReadRows(p.batch)
		p.have = p.batch[:n]
		if errors.Is(err, io.EOF) {
			err = p.rows.Close()
			p.rows = nil
		}
		if err != nil {
			return row{}, err
		}
	}
	got := p.have[0]
	p.have = p.have[1:]
	p.n++
	r = row{values: p.values, where: fmt.Sprintf("row %d", p.n)}
	for i := range p.values {
		p.values[i] = float32(math.NaN())
	}
	for _, v := range got {
		c := v.Column()
		switch {
		case c == p.time:
			if v.IsNull() {
				return row{}, fmt.Errorf("row %d, column %d (%s): no time", p.n, c+1, p.headers[c])
			}
			r.at = moment(v.Int64(), p.unit)
		case c == p.machine:
			r.machine = string(v.ByteArray())
		case p.at[c] >= 0 && !v.IsNull():
			p.values[p.at[c]] = number(v)
		}
	}
	return r, nil
}

// moment is n units since 1970; unit 0: what n must be, of a time between 1973 and 5138.
func moment(n int64, unit time.Duration) time.Time {
	switch {
	case unit == time.Millisecond, unit == 0 && n >= 1e11 && n < 1e14:
		return time.UnixMilli(n).UTC()
	case unit == time.Microsecond, unit == 0 && n >= 1e14 && n < 1e17:
		return time.UnixMicro(n).UTC()
	case unit == time.Nanosecond, unit == 0 && n >= 1e17:
		return time.Unix(0, n).UTC()
	default:
		return time.Unix(n, 0).UTC()
	}
}

func number(v parquet.Value) float32 {
	f := math.NaN()
	switch v.Kind() {
	case parquet.Boolean:
		if f = 0; v.Boolean() {
			f = 1
		}
	case parquet.Int32:
		f = float64(v.Int32())
	case parquet.Int64:
		f = float64(v.Int64())
	case parquet.Float:
		f = float64(v.Float())
	case parquet.Double:
		f = v.Double()
	}
	if n := float32(f); !math.IsInf(float64(n), 0) {
		return n
	}
	return float32(math.NaN())
}
