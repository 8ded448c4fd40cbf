package trial

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/tocsin-io/tocsin/services/all-in-one/internal/csvfile"
)

// readFiles judges all rows of all files, machine by machine or as the file mixes them.
func (r *runner) readFiles(ctx context.Context) error {
	for _, path := range r.opt.Inputs {
		if err := r.readFile(ctx, path); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return nil
}

// namesOf are the machines of files without equipment column: the file's name, and as many folders before it as tell files apart.
func namesOf(paths []string) map[string]string {
	out := map[string]string{}
	for depth := 1; ; depth++ {
		taken := map[string]int{}
		deeper := false
		for _, p := range paths {
			parts := strings.Split(filepath.ToSlash(strings.TrimSuffix(p, filepath.Ext(p))), "/")
			out[p] = strings.Join(parts[max(0, len(parts)-depth):], ":")
			deeper = deeper || len(parts) > depth
		}
		for _, name := range out {
			taken[name]++
		}
		if len(taken) == len(out) || !deeper {
			return out
		}
	}
}

func (r *runner) readFile(ctx context.Context, path string) error {
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = in.Close() }()
	st, err := in.Stat()
	if err != nil {
		return err
	}
	counted := &csvfile.Counter{R: in}
	rows, err := csvfile.NewReader(counted, r.opt.CSV)
	if err != nil {
		return err
	}
	name := r.names[path]
	for n := 0; ; n++ {
		if n%1024 == 0 {
			if err := ctx.Err(); err != nil {
				return err
			}
			if r.opt.Progress != nil {
				r.opt.Progress(path, counted.N, st.Size())
			}
		}
		row, err := rows.Read()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		id := name
		if r.opt.CSV.EquipmentColumn != "" {
			id = row.Equipment
		}
		m, err := r.machine(id)
		if err != nil {
			return err
		}
		if m.rows == 0 && r.opt.Train != "" {
			if err := r.train(ctx, m, rows.Sensors, row.Time); err != nil {
				return fmt.Errorf("%s: %w", r.opt.Train, err)
			}
		}
		training := m.rows < r.opt.TrainRows
		if !training && r.opt.CSV.LabelColumn != "" {
			if err := m.labels.row(m, row.Label, row.Time); err != nil {
				return err
			}
		}
		if err := m.row(ctx, row.Time, rows.Sensors, row.Values, training); err != nil {
			return err
		}
	}
}

// train has another recording of the same sensors learned from. Its times are moved so that it ends one second before the input begins.
func (r *runner) train(ctx context.Context, m *machine, sensors []string, before time.Time) error {
	var last time.Time
	read := func(do func(names []string, row *csvfile.Row) error) error {
		in, err := os.Open(r.opt.Train)
		if err != nil {
			return err
		}
		defer func() { _ = in.Close() }()
		opt := r.opt.CSV
		opt.LabelColumn, opt.Ignore = "", append([]string{opt.LabelColumn}, opt.Ignore...)
		rows, err := csvfile.NewReader(in, opt)
		for err == nil {
			var row *csvfile.Row
			if row, err = rows.Read(); err == nil {
				err = errors.Join(do(rows.Sensors, row), ctx.Err())
			}
		}
		if errors.Is(err, io.EOF) {
			return nil
		}
		return err
	}
	if err := read(func(_ []string, row *csvfile.Row) error {
		last = row.Time
		return nil
	}); err != nil {
		return err
	}
	shift := before.Add(-time.Second).Sub(last)
	values := make([]float32, len(sensors))
	return read(func(names []string, row *csvfile.Row) error {
		for i, s := range sensors {
			at := index(names, s)
			if at < 0 {
				return fmt.Errorf("sensor %q of the input is not in it", s)
			}
			values[i] = row.Values[at]
		}
		return m.row(ctx, row.Time.Add(shift), sensors, values, true)
	})
}

func index(names []string, s string) int {
	for i, n := range names {
		if n == s {
			return i
		}
	}
	return -1
}
