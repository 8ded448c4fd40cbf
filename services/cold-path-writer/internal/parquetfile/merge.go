package parquetfile

import (
	"bytes"
	"container/heap"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/parquet-go/parquet-go"
)

// Merge says how sorted files become larger ones.
type Merge[T any] struct {
	SortedBy []string
	// Compare orders rows; each input is in its order. Equal rows keep the order of the inputs.
	Compare func(a, b *T) int
	// Hash of a row; what a file's sum to is given to Describe and Done.
	Hash func(*T) uint64
	// MaxRows of a file.
	MaxRows int64
	// Describe gives a file's metadata.
	Describe func(rows int64, hash uint64) map[string]string
	// Done takes a finished file.
	Done func(data []byte, rows int64, hash uint64) error
}

// mergeBatch is how many rows of each input are decoded at a time.
const mergeBatch = 256

// Run merges. Equal inputs give equal bytes. It holds a batch of rows of each input and one file, encoded. A damaged input gives an
// error, never a panic.
func (m *Merge[T]) Run(ctx context.Context, inputs [][]byte) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("decode parquet: damaged file: %v", r)
		}
	}()
	q := &queue[T]{compare: m.Compare}
	defer func() {
		for _, in := range q.all {
			err = errors.Join(err, in.r.Close())
		}
	}()
	for i, data := range inputs {
		f, err := open[T](data)
		if err != nil {
			return fmt.Errorf("input %d: %w", i, err)
		}
		in := &input[T]{r: parquet.NewGenericReader[T](f), batch: make([]T, mergeBatch), order: i}
		q.all = append(q.all, in)
		if err := in.fill(); err != nil {
			return fmt.Errorf("input %d: %w", i, err)
		}
		if in.n > 0 {
			q.open = append(q.open, in)
		}
	}
	heap.Init(q)
	return m.write(ctx, q)
}

func (m *Merge[T]) write(ctx context.Context, q *queue[T]) error {
	out := outFile[T]{m: m}
	for len(q.open) > 0 {
		in := q.open[0]
		row := &in.batch[in.at]
		if err := out.add(row); err != nil {
			return err
		}
		if in.at++; in.at == in.n {
			// Rows that wait to be written may point into the batch that is overwritten now.
			if err := errors.Join(ctx.Err(), out.flush()); err != nil {
				return err
			}
			if err := in.fill(); err != nil {
				return err
			}
		}
		if in.n == 0 {
			heap.Pop(q)
		} else {
			heap.Fix(q, 0)
		}
	}
	return out.end()
}

// input is a file that is read in batches.
type input[T any] struct {
	r     *parquet.GenericReader[T]
	batch []T
	at, n int
	order int
	last  bool
}

// fill reads the next rows; n is 0 when there are none.
func (in *input[T]) fill() error {
	in.at, in.n = 0, 0
	for !in.last && in.n == 0 {
		clear(in.batch)
		n, err := in.r.Read(in.batch)
		switch in.n = n; {
		case errors.Is(err, io.EOF):
			in.last = true
		case err != nil:
			return fmt.Errorf("decode parquet: %w", err)
		}
	}
	return nil
}

// queue is the inputs, that with the smallest row first.
type queue[T any] struct {
	all, open []*input[T]
	compare   func(a, b *T) int
}

func (q *queue[T]) Len() int { return len(q.open) }
func (q *queue[T]) Less(i, j int) bool {
	a, b := q.open[i], q.open[j]
	if c := q.compare(&a.batch[a.at], &b.batch[b.at]); c != 0 {
		return c < 0
	}
	return a.order < b.order
}
func (q *queue[T]) Swap(i, j int) { q.open[i], q.open[j] = q.open[j], q.open[i] }
func (q *queue[T]) Push(x any)    { q.open = append(q.open, x.(*input[T])) }

// Pop implements heap.Interface.
func (q *queue[T]) Pop() any {
	last := q.open[len(q.open)-1]
	q.open = q.open[:len(q.open)-1]
	return last
}

// outFile is the file that is written.
type outFile[T any] struct {
	m    *Merge[T]
	buf  *bytes.Buffer
	w    *parquet.GenericWriter[T]
	wait []T
	rows int64
	hash uint64
}

func (o *outFile[T]) add(row *T) error {
	if o.w == nil {
		o.buf = &bytes.Buffer{}
		o.w = parquet.NewGenericWriter[T](o.buf, options(nil, o.m.SortedBy)...)
	}
	o.wait = append(o.wait, *row)
	o.rows++
	o.hash += o.m.Hash(row)
	if o.rows == o.m.MaxRows {
		return o.end()
	}
	if len(o.wait) == mergeBatch {
		return o.flush()
	}
	return nil
}

func (o *outFile[T]) flush() error {
	if len(o.wait) == 0 {
		return nil
	}
	if _, err := o.w.Write(o.wait); err != nil {
		return fmt.Errorf("encode parquet: %w", err)
	}
	clear(o.wait)
	o.wait = o.wait[:0]
	return nil
}

// end finishes the file, if there is one.
func (o *outFile[T]) end() error {
	if o.w == nil {
		return nil
	}
	if err := o.flush(); err != nil {
		return err
	}
	meta := o.m.Describe(o.rows, o.hash)
	for _, k := range slices.Sorted(maps.Keys(meta)) { // the footer keeps the order
		o.w.SetKeyValueMetadata(metaPrefix+k, meta[k])
	}
	if err := o.w.Close(); err != nil {
		return fmt.Errorf("encode parquet: %w", err)
	}
	data, rows, hash := o.buf.Bytes(), o.rows, o.hash
	o.w, o.buf, o.rows, o.hash = nil, nil, 0, 0
	return o.m.Done(data, rows, hash)
}
