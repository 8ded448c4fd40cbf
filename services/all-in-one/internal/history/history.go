// Package history brings recorded data into the lake's table readings, past Kafka: nothing judges it and nobody is paged. CSV as csvfile reads it, and Parquet with a row per time.
//
// A file is read twice. The first time everything is checked and the content hashed, so that a file with a fault leaves nothing in the lake; the second time it is written. The same file,
// read the same way, is in the lake once, however often it is imported.
package history

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/tocsin-io/tocsin/pkg/frame"
	"github.com/tocsin-io/tocsin/pkg/objstore"
	"github.com/tocsin-io/tocsin/services/all-in-one/internal/csvfile"
	"github.com/tocsin-io/tocsin/services/all-in-one/internal/replay"
	coldpathwriter "github.com/tocsin-io/tocsin/services/cold-path-writer"
)

// Options of an import.
type Options struct {
	// CSV says which columns are what; also of Parquet files.
	CSV csvfile.Options
	// Equipment is the machine of a file without equipment column; empty: the file's name.
	Equipment string
	// DryRun only checks.
	DryRun bool
	// FileValues of a file of the lake; 0: a million.
	FileValues int64
	// Now bounds event times; nil: the machine's clock.
	Now func() time.Time
	// Progress is told how much of a file has been read, of what total. May be nil.
	Progress func(what string, done, total int64)
}

// Summary of one file.
type Summary struct {
	coldpathwriter.ImportSummary
	Machines    int
	Sensors     int
	First, Last time.Time
}

// row is one time of one machine. What it holds is good until the next one is read.
type row struct {
	machine string
	at      time.Time
	values  []float32
	where   string // "line 7", "row 7"
}

// rows reads a file. next gives io.EOF behind the last row.
type rows interface {
	sensors() []string
	next() (row, error)
	// read is how much of the file has been read, in bytes or rows, of what total.
	read() (done, total int64)
	close() error
}

func open(path string, opt Options) (rows, error) {
	if strings.EqualFold(filepath.Ext(path), ".parquet") {
		return openParquet(path, opt.CSV)
	}
	return openCSV(path, opt.CSV)
}

// Import brings one file into the lake in bucket.
func Import(ctx context.Context, bucket objstore.Bucket, path string, opt Options) (Summary, error) {
	if opt.Now == nil {
		opt.Now = time.Now
	}
	i := importer{Options: opt, path: path, machines: map[string]bool{}}
	if err := i.pass(ctx, "checking", func(string, row, []string) error { return nil }); err != nil {
		return i.sum, fmt.Errorf("%s: %w", path, err)
	}
	if opt.DryRun {
		return i.sum, nil
	}
	id, err := i.id()
	if err != nil {
		return i.sum, err
	}
	to, err := coldpathwriter.NewImporter(ctx, bucket, id)
	if err != nil {
		return i.sum, err
	}
	if opt.FileValues > 0 {
		to.FileValues = opt.FileValues
	}
	err = i.pass(ctx, "importing", func(machine string, r row, sensors []string) error {
		return to.Add(ctx, machine, r.at, sensors, r.values)
	})
	if err == nil {
		i.sum.ImportSummary, err = to.Close(ctx)
	}
	if err != nil {
		return i.sum, fmt.Errorf("%s: %w", path, err)
	}
	return i.sum, nil
}

type importer struct {
	Options
	path     string
	machines map[string]bool
	sum      Summary
}

// id names the file's content and how it is read.
func (i *importer) id() (id [16]byte, err error) {
	f, err := os.Open(i.path)
	if err != nil {
		return id, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return id, err
	}
	how, err := json.Marshal([]any{i.CSV.TimeColumn, i.CSV.EquipmentColumn, i.CSV.Ignore, i.machine(), i.FileValues})
	if err != nil {
		return id, err
	}
	_, _ = h.Write(how) // never fails
	copy(id[:], h.Sum(nil))
	return id, nil
}

// machine of rows that name none.
func (i *importer) machine() string {
	if i.Equipment != "" || i.CSV.EquipmentColumn != "" {
		return i.Equipment
	}
	return replay.Identifier(strings.TrimSuffix(filepath.Base(i.path), filepath.Ext(i.path)))
}

// maxAhead of this machine's clock that an event time may be.
const maxAhead = 24 * time.Hour

// pass reads the file from its begin to its end.
func (i *importer) pass(ctx context.Context, what string, do func(machine string, r row, sensors []string) error) (err error) {
	in, err := open(i.path, i.Options)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, in.close()) }()
	i.sum = Summary{Sensors: len(in.sensors())}
	clear(i.machines)
	latest, one := i.Now().Add(maxAhead), i.machine()
	for n := 0; ; n++ {
		r, err := in.next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		machine := one
		if i.CSV.EquipmentColumn != "" {
			if r.machine == "" {
				return fmt.Errorf("%s, column %s: names no machine", r.where, i.CSV.EquipmentColumn)
			}
			machine = replay.Identifier(r.machine)
		}
		if !i.machines[machine] {
			if err := frame.CheckID("equipment_id", []byte(machine)); err != nil {
				return fmt.Errorf("%s: machine %q: %w", r.where, machine, err)
			}
			i.machines[strings.Clone(machine)] = true
		}
		if r.at.Unix() < 0 || r.at.After(latest) {
			return fmt.Errorf("%s: time %s is before 1970 or in the future", r.where, r.at.Format(time.RFC3339))
		}
		if err := do(machine, r, in.sensors()); err != nil {
			return fmt.Errorf("%s: %w", r.where, err)
		}
		i.sum.Rows++
		i.sum.Values += int64(len(r.values))
		if i.sum.First.IsZero() || r.at.Before(i.sum.First) {
			i.sum.First = r.at
		}
		if r.at.After(i.sum.Last) {
			i.sum.Last = r.at
		}
		if n%1024 == 0 {
			if err := ctx.Err(); err != nil {
				return err
			}
			if i.Progress != nil {
				done, total := in.read()
				i.Progress(what+" "+filepath.Base(i.path), done, total)
			}
		}
	}
	i.sum.Machines = len(i.machines)
	if i.sum.Rows == 0 {
		return errors.New("the file has no rows")
	}
	return nil
}
