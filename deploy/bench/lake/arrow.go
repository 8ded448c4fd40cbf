package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"syscall"

	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/pqarrow"
)

var (
	stringColumns = []string{"equipment_id", "sensor", "quality", "validity", "disposition", "gateway_id"}
	deltaColumns  = []string{"ts", "sequence", "sample", "log_append_time", "offset"}
)

// serveArrow makes a file with arrow-go for each line of in, of the table in the file at path, held as arrow-go likes it best: strings as dictionaries.
func serveArrow(in io.Reader, out io.Writer, path, output, value string) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	pf, err := file.NewParquetReader(bytes.NewReader(data))
	if err != nil {
		return err
	}
	read := pqarrow.ArrowReadProperties{}
	for i := range pf.MetaData().Schema.NumColumns() {
		if slices.Contains(stringColumns, pf.MetaData().Schema.Column(i).Name()) {
			read.SetReadDict(i, true)
		}
	}
	reader, err := pqarrow.NewFileReader(pf, read, memory.DefaultAllocator)
	if err != nil {
		return err
	}
	table, err := reader.ReadTable(context.Background())
	if err != nil {
		return err
	}
	props := []parquet.WriterProperty{
		parquet.WithDictionaryDefault(false), parquet.WithCompression(compress.Codecs.Zstd), parquet.WithCompressionLevel(1), parquet.WithDataPageVersion(parquet.DataPageV2),
		parquet.WithMaxRowGroupLength(128 << 10), parquet.WithPageIndexEnabled(true), parquet.WithBloomFilterEnabledFor("equipment_id", true), parquet.WithBloomFilterNDVFor("equipment_id", 1000),
		parquet.WithDictionaryFor("partition", true),
	}
	for _, c := range stringColumns {
		props = append(props, parquet.WithDictionaryFor(c, true))
	}
	for _, c := range deltaColumns {
		props = append(props, parquet.WithEncodingFor(c, parquet.Encodings.DeltaBinaryPacked))
	}
	if value == "dictionary" {
		props = append(props, parquet.WithDictionaryFor("value", true))
	} else {
		props = append(props, parquet.WithEncodingFor("value", parquet.Encodings.ByteStreamSplit))
	}
	kept := false
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		runtime.GC()
		var buf bytes.Buffer
		before := cpuNS()
		if err := pqarrow.WriteTable(table, &buf, 128<<10, parquet.NewWriterProperties(props...), pqarrow.DefaultWriterProps()); err != nil {
			return fmt.Errorf("arrow-go: %w", err)
		}
		r := result{CPUNS: cpuNS() - before, Bytes: buf.Len(), Rows: table.NumRows()}
		if !kept {
			kept = true
			if err := os.WriteFile(output, buf.Bytes(), 0o644); err != nil {
				return err
			}
		}
		if err := json.NewEncoder(out).Encode(r); err != nil {
			return err
		}
	}
	return lines.Err()
}

func cpuNS() int64 {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		panic(err) // it takes no argument that could be wrong
	}
	return r.Utime.Nano() + r.Stime.Nano()
}

// valueEncoding is how our file holds values: the others are told what ours found out.
func valueEncoding(path string) string {
	pf, err := file.OpenParquetFile(path, false)
	if err != nil {
		return ""
	}
	defer pf.Close()
	i := pf.MetaData().Schema.ColumnIndexByName("value")
	c, err := pf.MetaData().RowGroup(0).ColumnChunk(i)
	if err == nil && c.HasDictionaryPage() {
		return "dictionary"
	}
	return "split"
}
