package answer

import (
	"encoding/base64"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/big"
	"slices"
	"strconv"
	"time"

	"github.com/tocsin-io/tocsin/services/historical-api/internal/worker"
)

// jsonWriter writes {"columns":[...],"rows":[[...],...],"truncated":false}.
type jsonWriter struct {
	w       io.Writer
	columns []worker.Column
	b       []byte
	first   bool
}

func newJSON(w io.Writer, columns []worker.Column) writer {
	j := &jsonWriter{w: w, columns: columns, first: true}
	head, _ := json.Marshal(columns)
	if columns == nil {
		head = []byte("[]")
	}
	j.b = append(append(append(j.b, `{"columns":`...), head...), `,"rows":[`...)
	return j
}

func (j *jsonWriter) row(values []any) error {
	if !j.first {
		j.b = append(j.b, ',')
	}
	j.first = false
	j.b = append(j.b, '\n', '[')
	for i, v := range values {
		if i > 0 {
			j.b = append(j.b, ',')
		}
		j.b = appendJSON(j.b, v, j.columns[i].Type)
	}
	j.b = append(j.b, ']')
	_, err := j.w.Write(j.b)
	j.b = j.b[:0]
	return err
}

func (j *jsonWriter) end(truncated bool) error {
	j.b = strconv.AppendBool(append(j.b, "\n],\"truncated\":"...), truncated)
	_, err := j.w.Write(append(j.b, "}\n"...))
	return err
}

// appendJSON writes a value of a column of the type. Numbers are numbers, those that JSON has no word for are texts ("NaN", "Infinity"); times are RFC 3339 in UTC.
func appendJSON(b []byte, v any, typ string) []byte {
	switch v := v.(type) {
	case nil:
		return append(b, "null"...)
	case bool:
		return strconv.AppendBool(b, v)
	case float64:
		return appendFloat(b, v, 64)
	case float32:
		return appendFloat(b, float64(v), 32)
	case string:
		return appendString(b, v)
	case []any:
		b = append(b, '[')
		for i, e := range v {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendJSON(b, e, "")
		}
		return append(b, ']')
	case map[string]any:
		keys := make([]string, 0, len(v))
		for k := range v {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		b = append(b, '{')
		for i, k := range keys {
			if i > 0 {
				b = append(b, ',')
			}
			b = append(appendString(b, k), ':')
			b = appendJSON(b, v[k], "")
		}
		return append(b, '}')
	}
	s, number := text(v, typ)
	if number {
		return append(b, s...)
	}
	return appendString(b, s)
}

func appendFloat(b []byte, v float64, bits int) []byte {
	switch {
	case math.IsNaN(v):
		return append(b, `"NaN"`...)
	case math.IsInf(v, 1):
		return append(b, `"Infinity"`...)
	case math.IsInf(v, -1):
		return append(b, `"-Infinity"`...)
	}
	return strconv.AppendFloat(b, v, 'g', -1, bits)
}

func appendString(b []byte, s string) []byte {
	q, _ := json.Marshal(s) // a string cannot fail
	return append(b, q...)
}

// text is a value as a text, and whether that is a number.
func text(v any, typ string) (s string, number bool) {
	switch v := v.(type) {
	case nil:
		return "", false
	case string:
		return v, false
	case []byte:
		return base64.StdEncoding.EncodeToString(v), false
	case bool:
		return strconv.FormatBool(v), false
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64), true
	case float32:
		return strconv.FormatFloat(float64(v), 'g', -1, 32), true
	case int8, int16, int32, int64, int, uint8, uint16, uint32, uint64, uint:
		return fmt.Sprint(v), true
	case *big.Int:
		return v.String(), true
	case interface{ Float64() float64 }: // a decimal
		if d, ok := v.(fmt.Stringer); ok {
			return d.String(), true
		}
		return strconv.FormatFloat(v.Float64(), 'g', -1, 64), true
	case time.Time:
		switch typ {
		case "DATE":
			return v.UTC().Format(time.DateOnly), false
		case "TIME":
			return v.UTC().Format("15:04:05.999999"), false
		}
		return v.UTC().Format(time.RFC3339Nano), false
	case []any, map[string]any:
		return string(appendJSON(nil, v, "")), false
	case fmt.Stringer:
		return v.String(), false
	}
	return fmt.Sprint(v), false
}

type csvWriter struct {
	w       *csv.Writer
	columns []worker.Column
	record  []string
}

func newCSV(w io.Writer, columns []worker.Column) (writer, error) {
	c := &csvWriter{w: csv.NewWriter(w), columns: columns, record: make([]string, len(columns))}
	for i := range columns {
		c.record[i] = columns[i].Name
	}
	return c, c.w.Write(c.record)
}

func (c *csvWriter) row(values []any) error {
	for i, v := range values {
		c.record[i], _ = text(v, c.columns[i].Type)
	}
	return c.w.Write(c.record)
}

func (c *csvWriter) end(bool) error {
	c.w.Flush()
	return c.w.Error()
}
