package learning

import (
	"bufio"
	"compress/gzip"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
)

// table is rows of text under names.
type table struct {
	names []string
	rows  [][]string
}

func (t *table) at(name string) (int, error) {
	if i := slices.Index(t.names, name); i >= 0 {
		return i, nil
	}
	return 0, fmt.Errorf("no column %q among %q", name, t.names)
}

// pick is the table of the rows for which keep says so.
func (t *table) pick(keep func(i int) bool) *table {
	out := &table{names: t.names}
	for i, r := range t.rows {
		if keep(i) {
			out.rows = append(out.rows, r)
		}
	}
	return out
}

func (t *table) write(path string) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	w := csv.NewWriter(f)
	err = errors.Join(w.Write(t.names), w.WriteAll(t.rows))
	return errors.Join(err, w.Error(), f.Close())
}

// readCSV reads a file with a line of names.
func readCSV(path string) (*table, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	rows, err := csv.NewReader(f).ReadAll()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if len(rows) < 2 {
		return nil, fmt.Errorf("%s has no rows", path)
	}
	return &table{rows[0], rows[1:]}, nil
}

// readFields reads lines of fields with white space between them; path or path.gz.
func readFields(path string) ([][]string, error) {
	var in io.Reader
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		if f, err = os.Open(path + ".gz"); err == nil {
			in, err = gzip.NewReader(f)
		}
	} else {
		in = f
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var out [][]string
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if fields := strings.Fields(lines.Text()); len(fields) > 0 {
			out = append(out, fields)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return out, nil
}

func exists(path string) bool {
	for _, p := range []string{path, path + ".gz"} {
		if _, err := os.Stat(p); err == nil {
			return true
		}
	}
	return false
}
