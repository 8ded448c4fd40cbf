// Package parquetfile writes rows into Parquet files and reads them back.
//
// One file is built in memory and handed over whole: ZSTD pages, row groups of 128 Ki rows with statistics, a bloom filter on
// equipment_id, and the caller's metadata in the footer. Columns' encodings stand in the row type's tags.
package parquetfile

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/parquet-go/parquet-go"
	"github.com/parquet-go/parquet-go/compress/zstd"
)

const (
	// RowGroup is the most rows of one row group: what engines read in parallel and skip by statistics.
	RowGroup = 128 << 10
	// pageBytes is the size of a column's buffer before it becomes a page.
	pageBytes = 256 << 10
	// bloomBits per distinct value: about 1 % false positives.
	bloomBits = 10
	// metaPrefix marks our keys in the footer.
	metaPrefix = "tocsin."
	createdBy  = "tocsin cold-path-writer"
)

// options are what every file is written with.
func options(metadata map[string]string, sortedBy []string) []parquet.WriterOption {
	sorting := make([]parquet.SortingColumn, len(sortedBy))
	for i, c := range sortedBy {
		sorting[i] = parquet.Ascending(c)
	}
	opts := []parquet.WriterOption{
		parquet.CreatedBy(createdBy, "1", "0"),
		parquet.Compression(&zstd.Codec{Level: zstd.SpeedFastest}),
		parquet.DataPageStatistics(false), // the column index has them
		parquet.MaxRowsPerRowGroup(RowGroup),
		parquet.PageBufferSize(pageBytes),
		parquet.BloomFilters(parquet.SplitBlockFilter(bloomBits, "equipment_id")),
		parquet.SortingWriterConfig(parquet.SortingColumns(sorting...)),
	}
	for k, v := range metadata {
		opts = append(opts, parquet.KeyValueMetadata(metaPrefix+k, v))
	}
	return opts
}

// Write makes a file of the rows, which stand in the order of the columns sortedBy.
func Write[T any](rows []T, sortedBy []string, metadata map[string]string) ([]byte, error) {
	var buf bytes.Buffer
	w := parquet.NewGenericWriter[T](&buf, options(metadata, sortedBy)...)
	if _, err := w.Write(rows); err != nil {
		return nil, errors.Join(fmt.Errorf("encode parquet: %w", err), w.Close())
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("encode parquet: %w", err)
	}
	return buf.Bytes(), nil
}

// readBatch is how many rows are decoded at a time.
const readBatch = 4096

// Read decodes the whole file and hands its rows to each, in batches that are used again.
// A damaged file gives an error, never a panic.
func Read[T any](data []byte, each func([]T) error) (err error) {
	// The decoder trusts lengths in the file in places; what it runs into there is the file's fault.
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("decode parquet: damaged file: %v", r)
		}
	}()
	f, err := open[T](data)
	if err != nil {
		return err
	}
	r := parquet.NewGenericReader[T](f)
	defer func() { err = errors.Join(err, r.Close()) }()
	batch := make([]T, readBatch)
	for {
		n, err := r.Read(batch)
		if e := each(batch[:n]); e != nil {
			return e
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("decode parquet: %w", err)
		}
		clear(batch[:n])
	}
}

// Metadata reads what Write was given from the file's footer.
func Metadata(data []byte, names ...string) (m map[string]string, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("decode parquet: damaged file: %v", r)
		}
	}()
	f, err := parquet.OpenFile(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		return nil, fmt.Errorf("decode parquet: %w", err)
	}
	m = make(map[string]string, len(names))
	for _, n := range names {
		if v, ok := f.Lookup(metaPrefix + n); ok {
			m[n] = v
		}
	}
	return m, nil
}
