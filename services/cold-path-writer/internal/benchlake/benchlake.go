// Package benchlake is the writer's side of make bench-lake: it makes the same file again and again, when it is told to, and says what that cost.
package benchlake

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"syscall"

	"github.com/tocsin-io/tocsin/services/cold-path-writer/internal/parquetfile"
	"github.com/tocsin-io/tocsin/services/cold-path-writer/internal/table"
)

// Result of one turn. CPU is of the whole process, the collector's too.
type Result struct {
	CPUNS int64            `json:"cpu_ns"` // of making the file
	Bytes int              `json:"bytes"`
	Rows  int64            `json:"rows"`
	Parts map[string]int64 `json:"parts,omitempty"` // CPU ns of what else there is to do
}

// Serve makes one file for each line of in and answers with a line of JSON. Ours is made of the records at path; with generic, parquet-go's
// writer makes it of rows in memory, which it takes from the file at path. The first file is kept at output.
func Serve(ctx context.Context, in io.Reader, out io.Writer, path, output string, generic bool) error {
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	var turn func() ([]byte, Result, error)
	if generic {
		turn, err = ofRows(data)
	} else {
		turn, err = ofRecords(ctx, data)
	}
	if err != nil {
		return err
	}
	kept := false
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		runtime.GC()
		file, result, err := turn()
		if err != nil {
			return err
		}
		if !kept {
			if err := os.WriteFile(output, file, 0o644); err != nil {
				return err
			}
			kept = true
		}
		result.Bytes = len(file)
		if err := json.NewEncoder(out).Encode(result); err != nil {
			return err
		}
	}
	return lines.Err()
}

func ofRecords(ctx context.Context, data []byte) (func() ([]byte, Result, error), error) {
	var recs []table.Record
	for len(data) > 0 {
		if len(data) < 20 || uint64(len(data)-20) < uint64(binary.LittleEndian.Uint32(data)) {
			return nil, fmt.Errorf("records are cut after %d", len(recs))
		}
		n := binary.LittleEndian.Uint32(data)
		recs = append(recs, table.Record{
			Offset: int64(binary.LittleEndian.Uint64(data[4:])), TimeMS: int64(binary.LittleEndian.Uint64(data[12:])), Value: data[20 : 20+n],
		})
		data = data[20+n:]
	}
	tables := table.All(nil)
	return func() ([]byte, Result, error) {
		parts := map[string]int64{}
		last := cpuNS()
		f, err := table.EncodeReadings(ctx, tables, recs, func(part string) {
			now := cpuNS()
			parts[part], last = now-last, now
		})
		cpu := parts["encode"]
		delete(parts, "encode")
		return f.Data, Result{CPUNS: cpu, Rows: f.Rows, Parts: parts}, err
	}, nil
}

func ofRows(data []byte) (func() ([]byte, Result, error), error) {
	var rows []table.Reading
	err := parquetfile.Read(data, func(batch []table.Reading) error {
		rows = append(rows, batch...)
		return nil
	})
	return func() ([]byte, Result, error) {
		before := cpuNS()
		file, err := parquetfile.Write(rows, []string{"equipment_id", "ts", "sensor"}, nil)
		return file, Result{CPUNS: cpuNS() - before, Rows: int64(len(rows))}, err
	}, err
}

// cpuNS is the process's CPU time so far.
func cpuNS() int64 {
	var r syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &r); err != nil {
		panic(err) // it takes no argument that could be wrong
	}
	return r.Utime.Nano() + r.Stime.Nano()
}
