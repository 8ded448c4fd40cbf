package colmerge

import (
	"cmp"
	"context"
	"fmt"
	"strings"
)

// Run is files whose rows, one file after another, are in order.
type Run []File

// RowBytes is about what a row of a row group that is open needs in memory.
const RowBytes = 80

// Stream yields all rows of the runs in the schema's order, a piece at a time: the rows [from, to) of a batch. Equal rows come in the order of the runs. columns are those that are read;
// nil: all. It holds one row group of each run (see RowBytes). A damaged file gives an error, never a panic.
func Stream(ctx context.Context, s *Schema, d *Dict, columns []string, runs []Run, yield func(b *Batch, from, to int) error) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("decode parquet: damaged file: %v", r)
		}
	}()
	h := heads{schema: s, dict: d, want: make([]bool, len(s.Columns))}
	for i := range h.want {
		h.want[i] = columns == nil
	}
	for _, name := range columns {
		h.want[s.Index(name)] = true
	}
	for _, k := range s.key {
		if !h.want[k] {
			break // what stands behind it does not order alone
		}
		h.key = append(h.key, k)
	}
	for i, run := range runs {
		c := &cursor{files: run, order: i, batch: Batch{Columns: make([]Column, len(s.Columns))}}
		if err := h.fill(c); err != nil {
			return err
		}
		if !c.done {
			h.heap = append(h.heap, c)
		}
	}
	for i := len(h.heap)/2 - 1; i >= 0; i-- {
		h.down(i)
	}
	for len(h.heap) > 0 {
		c := h.heap[0]
		to := h.reach(c)
		if err := yield(&c.batch, c.at, to); err != nil {
			return err
		}
		if c.at = to; to == c.batch.Rows {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := h.fill(c); err != nil {
				return err
			}
		}
		if c.done {
			last := len(h.heap) - 1
			h.heap[0] = h.heap[last]
			h.heap = h.heap[:last]
		}
		h.down(0)
	}
	return nil
}

// cursor is where a run stands.
type cursor struct {
	files []File
	order int
	open  *reader
	batch Batch
	at    int
	done  bool
}

// heads is the runs as a heap, that with the least row first.
type heads struct {
	schema *Schema
	dict   *Dict
	want   []bool
	key    []int
	heap   []*cursor
}

// fill reads a run's next row group.
func (h *heads) fill(c *cursor) error {
	for c.at = 0; ; {
		if c.open != nil {
			more, err := c.open.next(&c.batch)
			if err != nil {
				return err
			}
			if more {
				return nil
			}
			c.open = nil
		}
		if len(c.files) == 0 {
			c.done, c.batch = true, Batch{}
			return nil
		}
		var err error
		if c.open, err = openFile(h.schema, h.dict, h.want, c.files[0]); err != nil {
			return err
		}
		c.files = c.files[1:]
	}
}

// reach is how far the first run may be taken before another's row comes. Runs of rows are found by doubling steps: files of successive times have long ones.
func (h *heads) reach(c *cursor) int {
	if len(h.heap) == 1 {
		return c.batch.Rows
	}
	rival := h.heap[1]
	if len(h.heap) > 2 && h.less(h.heap[2], h.heap[2].at, rival, rival.at) {
		rival = h.heap[2]
	}
	low, step := c.at, 1 // row low comes before the rival's
	for low+step < c.batch.Rows && h.less(c, low+step, rival, rival.at) {
		low += step
		step *= 2
	}
	high := min(low+step, c.batch.Rows) // row high does not
	for high-low > 1 {
		if mid := (low + high) / 2; h.less(c, mid, rival, rival.at) {
			low = mid
		} else {
			high = mid
		}
	}
	return high
}

func (h *heads) less(a *cursor, i int, b *cursor, j int) bool {
	if c := h.compare(&a.batch, i, &b.batch, j); c != 0 {
		return c < 0
	}
	return a.order < b.order
}

func (h *heads) compare(a *Batch, i int, b *Batch, j int) int {
	for _, k := range h.key {
		x, y, c := &a.Columns[k], &b.Columns[k], 0
		switch h.schema.Columns[k].Kind {
		case Code:
			if x.Codes[i] != y.Codes[j] {
				c = strings.Compare(h.dict.Text(x.Codes[i]), h.dict.Text(y.Codes[j]))
			}
		case Text:
			c = strings.Compare(x.Texts[i], y.Texts[j])
		case Int32, Int64:
			c = cmp.Compare(x.Ints[i], y.Ints[j])
		case Float:
			c = cmp.Compare(x.Floats[i], y.Floats[j])
		case Double:
			c = cmp.Compare(x.Doubles[i], y.Doubles[j])
		}
		if c != 0 {
			return c
		}
	}
	return 0
}

// down restores the heap's order when the cursor at i may be too large for its place.
func (h *heads) down(i int) {
	for {
		least := i
		for child := 2*i + 1; child <= 2*i+2 && child < len(h.heap); child++ {
			if a, b := h.heap[child], h.heap[least]; h.less(a, a.at, b, b.at) {
				least = child
			}
		}
		if least == i {
			return
		}
		h.heap[i], h.heap[least] = h.heap[least], h.heap[i]
		i = least
	}
}
