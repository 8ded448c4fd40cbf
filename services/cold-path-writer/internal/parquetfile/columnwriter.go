package parquetfile

import (
	"bytes"
	"fmt"

	"github.com/parquet-go/parquet-go"
)

// Columns writes a file column by column, for rows that never were structs. The row type T gives the schema. Not safe for concurrent use.
type Columns[T any] struct {
	buf     bytes.Buffer
	w       *parquet.GenericWriter[T]
	columns []*parquet.ColumnWriter
	batch   [][]parquet.Value
	index   map[string]int
	rows    int
}

// columnBatch is how many rows are gathered before they go to the columns: few enough to stay in the cache.
const columnBatch = 512

// NewColumns begins a file.
func NewColumns[T any](sortedBy []string, metadata map[string]string) *Columns[T] {
	c := &Columns[T]{index: map[string]int{}}
	c.w = parquet.NewGenericWriter[T](&c.buf, options(metadata, sortedBy)...)
	c.columns = c.w.ColumnWriters()
	for i, path := range c.w.Schema().Columns() {
		c.index[path[0]] = i
		c.batch = append(c.batch, make([]parquet.Value, columnBatch))
	}
	return c
}

// Index is the number of a column of the schema.
func (c *Columns[T]) Index(name string) int { return c.index[name] }

// Batch is room for the next rows: a slice per column, all of the same length. Flush takes the first n rows of it.
func (c *Columns[T]) Batch() [][]parquet.Value { return c.batch }

// Flush writes the first n rows of the batch.
func (c *Columns[T]) Flush(n int) error {
	for n > 0 {
		take := min(n, RowGroup-c.rows)
		for i, col := range c.columns {
			if _, err := col.WriteRowValues(c.batch[i][:take]); err != nil {
				return fmt.Errorf("encode parquet: column %d: %w", i, err)
			}
		}
		for i := range c.batch {
			copy(c.batch[i], c.batch[i][take:n])
		}
		n -= take
		if c.rows += take; c.rows == RowGroup {
			c.rows = 0
			if err := c.w.Flush(); err != nil {
				return fmt.Errorf("encode parquet: %w", err)
			}
		}
	}
	return nil
}

// Close ends the file and returns it.
func (c *Columns[T]) Close() ([]byte, error) {
	if err := c.w.Close(); err != nil {
		return nil, fmt.Errorf("encode parquet: %w", err)
	}
	return c.buf.Bytes(), nil
}
