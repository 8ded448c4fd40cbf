// Package answer writes the rows of a query as JSON, CSV or an Arrow IPC stream, within limits.
package answer

import (
	"bufio"
	"database/sql"
	"fmt"
	"io"

	"github.com/tocsin-io/tocsin/services/historical-api/internal/worker"
)

// Formats of answers and their media types.
const (
	JSON  = "json"
	CSV   = "csv"
	Arrow = "arrow"
)

// MediaType of a format; "" for one that there is not.
func MediaType(format string) string {
	switch format {
	case JSON:
		return "application/json"
	case CSV:
		return "text/csv; charset=utf-8; header=present"
	case Arrow:
		return "application/vnd.apache.arrow.stream"
	}
	return ""
}

// writer takes rows one by one.
type writer interface {
	row(values []any) error
	end(truncated bool) error
}

// Encode writes rows until their end or a limit: more rows than allowed are left out and said so, more bytes are an error. It reads one row more than the limit.
func Encode(rows *sql.Rows, format string, limits worker.Limits, out io.Writer) (worker.End, error) {
	var end worker.End
	types, err := rows.ColumnTypes()
	if err != nil {
		return end, err
	}
	for _, t := range types {
		end.Columns = append(end.Columns, worker.Column{Name: t.Name(), Type: t.DatabaseTypeName()})
	}
	counted := &counter{w: out, limit: limits.Bytes}
	buffered := bufio.NewWriterSize(counted, 64<<10)
	var w writer
	switch format {
	case JSON:
		w = newJSON(buffered, end.Columns)
	case CSV:
		w, err = newCSV(buffered, end.Columns)
	case Arrow:
		w, err = newArrow(buffered, end.Columns)
	default:
		return end, &worker.Error{Kind: worker.Invalid, Reason: fmt.Sprintf("format %q: not one of json, csv, arrow", format)}
	}
	if err != nil {
		return end, err
	}
	values, into := make([]any, len(types)), make([]any, len(types))
	for i := range values {
		into[i] = &values[i]
	}
	for rows.Next() {
		if end.Rows == limits.Rows {
			end.Truncated = true
			break
		}
		if err := rows.Scan(into...); err != nil {
			return end, err
		}
		if err := w.row(values); err != nil {
			return end, err
		}
		end.Rows++
	}
	if err := rows.Err(); err != nil {
		return end, err
	}
	if err := w.end(end.Truncated); err != nil {
		return end, err
	}
	return end, buffered.Flush()
}

// counter ends an answer that grows too large.
type counter struct {
	w     io.Writer
	n     int64
	limit int64
}

func (c *counter) Write(p []byte) (int, error) {
	if c.n += int64(len(p)); c.n > c.limit {
		return 0, &worker.Error{Kind: worker.TooMuch, Reason: fmt.Sprintf("the answer is larger than %d bytes: ask for fewer rows or columns", c.limit)}
	}
	return c.w.Write(p)
}
