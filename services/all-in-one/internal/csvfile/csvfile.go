// Package csvfile reads time series from CSV: it finds the delimiter and the time column by itself and takes every other column as a
// sensor.
//
// Rows are read one at a time; memory does not grow with the file. A cell that is no number is a missing value (NaN).
package csvfile

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
	"time"
	"unicode"
)

// Options say what the file does not.
type Options struct {
	TimeColumn      string   // header of the time column; empty: found
	EquipmentColumn string   // header of the column that names the machine; empty: there is none
	LabelColumn     string   // header of a column that is read as it is and is no sensor; empty: there is none
	Ignore          []string // headers of columns that are never read
	// Strict: a cell that is neither a number nor one of the words for a missing value is an error, not a missing value.
	Strict bool
}

// Row is one line of the file. Values are as many as Sensors, NaN where missing; the slice is used again by the next Read.
type Row struct {
	Line      int    // 1-based line of the file
	Stamp     string // the time as the file writes it; empty without a time column
	Time      time.Time
	Equipment string
	Label     string
	Values    []float32
}

// Reader reads one file.
type Reader struct {
	// Sensors are the names of the value columns, with characters that no sensor name may have replaced by '_'.
	Sensors []string
	// TimeColumn is the header of the column found or given; empty: rows are one second apart.
	TimeColumn string
	// Delimiter found.
	Delimiter rune

	csv       *csv.Reader
	ahead     []record // rows read to find the time column
	timeAt    int
	parse     func(string) (time.Time, error)
	equipment int
	label     int
	columns   []int
	headers   []string // of columns
	strict    bool
	row       Row
	n         int
}

type record struct {
	cells []string
	line  int
}

// lookAhead is how many rows are read to find the time column and its format.
const lookAhead = 200

// epoch is where rows without time begin.
var epoch = time.Unix(0, 0).UTC()

// NewReader reads the header and the first rows.
func NewReader(r io.Reader, opt Options) (*Reader, error) {
	br := bufio.NewReaderSize(r, 1<<16)
	head, err := br.Peek(1 << 14)
	if len(head) == 0 {
		if err == nil || errors.Is(err, io.EOF) {
			return nil, errors.New("the file is empty")
		}
		return nil, err
	}
	if strings.HasPrefix(string(head), "\ufeff") {
		_, _ = br.Discard(3)
		head = head[3:]
	}
	c := &Reader{Delimiter: delimiter(string(head)), strict: opt.Strict, timeAt: -1, equipment: -1, label: -1}
	c.csv = csv.NewReader(br)
	c.csv.Comma = c.Delimiter
	c.csv.TrimLeadingSpace = true
	c.csv.LazyQuotes = true
	header, err := c.csv.Read()
	if err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	for i := range header {
		header[i] = strings.TrimSpace(header[i])
	}
	for len(c.ahead) < lookAhead {
		rec, err := c.csv.Read()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
		line, _ := c.csv.FieldPos(0)
		c.ahead = append(c.ahead, record{rec, line})
	}
	if err := c.layout(header, opt); err != nil {
		return nil, err
	}
	return c, nil
}

// delimiter is the candidate that splits the first lines into most columns, all alike.
func delimiter(head string) rune {
	lines := strings.SplitN(head, "\n", 12)
	if len(lines) > 2 {
		lines = lines[:len(lines)-1] // the last one may be cut
	}
	best, most := ',', 0
	for _, d := range []rune{',', ';', '\t', '|'} {
		n := strings.Count(lines[0], string(d))
		for _, l := range lines[1:] {
			if strings.TrimSpace(l) != "" && strings.Count(l, string(d)) != n {
				n = min(n, 0)
			}
		}
		if n > most {
			best, most = d, n
		}
	}
	return best
}

func (c *Reader) layout(header []string, opt Options) error {
	ignored := map[int]bool{}
	for i, h := range header {
		ignored[i] = slices.Contains(opt.Ignore, h)
	}
	find := func(name, what string) (int, error) {
		i := slices.Index(header, name)
		if i < 0 {
			return -1, fmt.Errorf("%s %q is not in the header: %s", what, name, strings.Join(header, ", "))
		}
		return i, nil
	}
	var err error
	if opt.EquipmentColumn != "" {
		if c.equipment, err = find(opt.EquipmentColumn, "equipment column"); err != nil {
			return err
		}
	}
	if opt.LabelColumn != "" {
		if c.label, err = find(opt.LabelColumn, "label column"); err != nil {
			return err
		}
	}
	if opt.TimeColumn != "" {
		if c.timeAt, err = find(opt.TimeColumn, "time column"); err != nil {
			return err
		}
		if c.parse = timeFormat(c.column(c.timeAt), true); c.parse == nil {
			return fmt.Errorf("time column %q: no known time format fits its values, such as %q", opt.TimeColumn, first(c.column(c.timeAt)))
		}
	} else {
		for i, h := range header {
			if ignored[i] || i == c.equipment || i == c.label {
				continue
			}
			if c.parse = timeFormat(c.column(i), named(h)); c.parse != nil {
				c.timeAt = i
				break
			}
		}
	}
	if c.timeAt >= 0 {
		c.TimeColumn = header[c.timeAt]
		if c.TimeColumn == "" {
			c.TimeColumn = fmt.Sprintf("column_%d", c.timeAt+1)
		}
	}
	seen := map[string]bool{}
	for i, h := range header {
		if ignored[i] || i == c.equipment || i == c.label || i == c.timeAt {
			continue
		}
		name := sensorName(h, i)
		for n := 2; seen[name]; n++ {
			name = fmt.Sprintf("%s_%d", sensorName(h, i), n)
		}
		seen[name] = true
		c.Sensors = append(c.Sensors, name)
		c.columns = append(c.columns, i)
		c.headers = append(c.headers, h)
	}
	if len(c.Sensors) == 0 {
		return fmt.Errorf("no column is left as a sensor; the header is: %s", strings.Join(header, ", "))
	}
	c.row.Values = make([]float32, len(c.Sensors))
	return nil
}

func (c *Reader) column(i int) []string {
	var out []string
	for _, r := range c.ahead {
		if i < len(r.cells) {
			if s := strings.TrimSpace(r.cells[i]); s != "" {
				out = append(out, s)
			}
		}
	}
	return out
}

func first(s []string) string {
	if len(s) == 0 {
		return ""
	}
	return s[0]
}

// sensorName replaces what a sensor's name may not hold.
func sensorName(h string, column int) string {
	if h == "" {
		return fmt.Sprintf("column_%d", column+1)
	}
	name := strings.Map(func(r rune) rune {
		if r < unicode.MaxASCII && (unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("._:- /()%", r)) {
			return r
		}
		return '_'
	}, h)
	return name[:min(len(name), 128)]
}

// Read gives the next row, or io.EOF. A row's slice of values is valid until the next call.
func (c *Reader) Read() (*Row, error) {
	var rec record
	if c.n < len(c.ahead) {
		rec = c.ahead[c.n]
	} else {
		cells, err := c.csv.Read()
		if err != nil {
			return nil, err
		}
		c.ahead = nil
		rec.cells = cells
		rec.line, _ = c.csv.FieldPos(0)
	}
	c.row.Line, c.row.Stamp = rec.line, ""
	c.row.Time = epoch.Add(time.Duration(c.n) * time.Second)
	c.n++
	if c.timeAt >= 0 {
		c.row.Stamp = rec.cells[c.timeAt]
		at, err := c.parse(strings.TrimSpace(c.row.Stamp))
		if err != nil {
			return nil, fmt.Errorf("line %d, column %d: %s %q is not a time like the ones above it", rec.line, c.timeAt+1, c.TimeColumn, c.row.Stamp)
		}
		c.row.Time = at
	}
	c.row.Equipment, c.row.Label = "", ""
	if c.label >= 0 {
		c.row.Label = strings.TrimSpace(rec.cells[c.label])
	}
	if c.equipment >= 0 {
		c.row.Equipment = strings.TrimSpace(rec.cells[c.equipment])
	}
	for i, col := range c.columns {
		c.row.Values[i] = number(rec.cells[col])
		if c.strict && c.row.Values[i] != c.row.Values[i] && !missing(rec.cells[col]) {
			return nil, fmt.Errorf("line %d, column %d (%s): %q is not a number", rec.line, col+1, c.headers[i], rec.cells[col])
		}
	}
	return &c.row, nil
}

// missing tells whether a cell says that there is no value.
func missing(s string) bool {
	switch strings.ToLower(strings.TrimSpace(s)) {
	case "", "-", "--", "?", "na", "n/a", "nan", "null", "none", "nil", "inf", "+inf", "-inf":
		return true
	}
	return false
}

func number(s string) float32 {
	v, err := strconv.ParseFloat(strings.TrimSpace(s), 32)
	if err != nil || math.IsInf(v, 0) {
		switch strings.ToLower(strings.TrimSpace(s)) {
		case "true", "on":
			return 1
		case "false", "off":
			return 0
		}
		return float32(math.NaN())
	}
	return float32(v)
}

// Counter counts the bytes read through it: how far long work has come.
type Counter struct {
	R io.Reader
	N int64
}

func (c *Counter) Read(p []byte) (int, error) {
	n, err := c.R.Read(p)
	c.N += int64(n)
	return n, err
}
