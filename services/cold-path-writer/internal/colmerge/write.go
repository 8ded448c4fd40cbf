package colmerge

import (
	"fmt"

	"github.com/tocsin-io/tocsin/services/cold-path-writer/internal/columnar"
)

// Writer makes files of at most MaxRows rows each. It holds one row group, and one file encoded. Not safe for concurrent use.
type Writer struct {
	Schema *Schema
	Dict   *Dict
	// MaxRows of a file.
	MaxRows int64
	// Hash is the sum of the hashes of the rows [from, to).
	Hash func(b *Batch, from, to int) uint64
	// Describe gives a file's metadata.
	Describe func(rows int64, hash uint64) map[string]string
	// Done takes a finished file.
	Done func(data []byte, rows int64, hash uint64) error

	wait Batch
	enc  *encoder
	rows int64 // of the file, without those that wait
	hash uint64
}

// Add appends the rows [from, to) of b, which come behind all others.
func (w *Writer) Add(b *Batch, from, to int) error {
	if w.wait.Columns == nil {
		w.wait.Columns = make([]Column, len(w.Schema.Columns))
	}
	for from < to {
		n := int(min(int64(to-from), int64(columnar.RowGroup-w.wait.Rows), w.MaxRows-w.rows-int64(w.wait.Rows)))
		w.wait.add(w.Schema, b, from, from+n)
		from += n
		full := w.rows+int64(w.wait.Rows) == w.MaxRows
		if w.wait.Rows == columnar.RowGroup || full {
			w.flush()
		}
		if full {
			if err := w.Close(); err != nil {
				return err
			}
		}
	}
	return nil
}

// flush writes the rows that wait as a row group.
func (w *Writer) flush() {
	if w.wait.Rows == 0 {
		return
	}
	if w.enc == nil {
		w.enc = newEncoder(w.Schema, w.Dict)
	}
	w.hash += w.Hash(&w.wait, 0, w.wait.Rows)
	w.rows += int64(w.wait.Rows)
	w.enc.group(&w.wait)
	w.wait.Reset()
}

// Close ends the last file. Add may begin another.
func (w *Writer) Close() error {
	if w.flush(); w.rows == 0 {
		return nil
	}
	data, err := w.enc.close(w.Describe(w.rows, w.hash))
	if err != nil {
		return err
	}
	rows, hash := w.rows, w.hash
	w.rows, w.hash = 0, 0
	return w.Done(data, rows, hash)
}

// encoder writes one file after another, a row group at a time.
type encoder struct {
	schema *Schema
	dict   *Dict
	w      *columnar.Writer
	// ids are the file's numbers of the Dict's texts and 1, by column.
	ids     [][]uint32
	scratch []uint32
}

func newEncoder(s *Schema, d *Dict) *encoder {
	return &encoder{schema: s, dict: d, w: columnar.NewWriter(s.file), ids: make([][]uint32, len(s.Columns))}
}

// group writes a row group.
func (e *encoder) group(b *Batch) {
	for i, spec := range e.schema.Columns {
		c := &b.Columns[i]
		switch spec.Kind {
		case Code:
			e.codes(e.w.Strings(spec.Name), i, c.Codes)
		case Text:
			to := e.w.Strings(spec.Name)
			for from := 0; from < len(c.Texts); {
				n := runOf(c.Texts[from:])
				to.Run(to.Intern([]byte(c.Texts[from])), n)
				from += n
			}
		case Int32, Int64:
			to := e.w.Ints(spec.Name)
			if !few(c.Ints) {
				to.Append(c.Ints)
				continue
			}
			for from := 0; from < len(c.Ints); {
				n := runOf(c.Ints[from:])
				to.Run(c.Ints[from], n)
				from += n
			}
		case Float:
			floats(e.w.Floats(spec.Name), c.Floats, c.Present)
		case Double:
			floats(e.w.Doubles(spec.Name), c.Doubles, c.Present)
		case Bool:
			to := e.w.Ints(spec.Name)
			for from := 0; from < len(c.Bools); {
				n := runOf(c.Bools[from:])
				v := int64(0)
				if c.Bools[from] {
					v = 1
				}
				to.Run(v, n)
				from += n
			}
		}
	}
	e.w.Add(b.Rows)
}

func (e *encoder) codes(to *columnar.Strings, column int, codes []uint32) {
	ids := e.ids[column]
	for len(ids) < len(e.dict.text) {
		ids = append(ids, 0)
	}
	e.ids[column] = ids
	id := func(code uint32) uint32 {
		if ids[code] == 0 {
			ids[code] = to.Intern([]byte(e.dict.text[code])) + 1
		}
		return ids[code] - 1
	}
	if few(codes) {
		for from := 0; from < len(codes); {
			n := runOf(codes[from:])
			to.Run(id(codes[from]), n)
			from += n
		}
		return
	}
	e.scratch = e.scratch[:0]
	for _, code := range codes {
		e.scratch = append(e.scratch, id(code))
	}
	to.Append(e.scratch)
}

// runOf is how many equal values v begins with.
func runOf[T comparable](v []T) int {
	n := 1
	for n < len(v) && v[n] == v[0] {
		n++
	}
	return n
}

// few tells whether the values come in runs.
func few[T comparable](v []T) bool {
	runs := 0
	for i := 1; i < len(v); i++ {
		if v[i] != v[i-1] {
			runs++
		}
	}
	return runs < len(v)/3
}

func floats[T float32 | float64](to *columnar.Floats[T], values []T, present []bool) {
	if present == nil {
		to.Append(values)
		return
	}
	for from := 0; from < len(present); {
		n := runOf(present[from:])
		if present[from] {
			to.Append(values[from : from+n])
		} else {
			to.Null(n)
		}
		from += n
	}
}

// close ends the file and returns it.
func (e *encoder) close(metadata map[string]string) ([]byte, error) {
	for i := range e.ids {
		clear(e.ids[i])
	}
	data, err := e.w.Close(metadata)
	if err != nil {
		return nil, fmt.Errorf("encode parquet: %w", err)
	}
	return data, nil
}
