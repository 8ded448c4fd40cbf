package sets

import (
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/tocsin-io/tocsin/deploy/accuracy/score"
	"github.com/tocsin-io/tocsin/deploy/accuracy/trial"
)

// table is a small CSV file as text.
type table struct {
	header []string
	rows   [][]string
}

func readTable(path string, comma rune) (*table, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r := csv.NewReader(f)
	r.Comma = comma
	r.TrimLeadingSpace = true
	t := &table{}
	for {
		rec, err := r.Read()
		switch {
		case errors.Is(err, io.EOF):
			if t.header == nil {
				return nil, fmt.Errorf("%s: empty", path)
			}
			return t, nil
		case err != nil:
			return nil, fmt.Errorf("%s: %w", path, err)
		case t.header == nil:
			for i := range rec {
				rec[i] = strings.TrimSpace(rec[i])
			}
			t.header = rec
		default:
			t.rows = append(t.rows, rec)
		}
	}
}

func (t *table) column(name string) (int, error) {
	if i := slices.Index(t.header, name); i >= 0 {
		return i, nil
	}
	return 0, fmt.Errorf("no column %q among %s", name, strings.Join(t.header, ", "))
}

// mask of the rows whose number in the column is not zero.
func (t *table) mask(name string) ([]bool, error) {
	c, err := t.column(name)
	if err != nil {
		return nil, err
	}
	out := make([]bool, len(t.rows))
	for i, r := range t.rows {
		v, err := strconv.ParseFloat(r[c], 64)
		if err != nil {
			return nil, fmt.Errorf("row %d: %s %q is no number", i, name, r[c])
		}
		out[i] = v != 0
	}
	return out, nil
}

// sensors are the header without the named columns.
func (t *table) sensors(not ...string) []string {
	return slices.DeleteFunc(slices.Clone(t.header), func(h string) bool { return slices.Contains(not, h) })
}

// header of a CSV file.
func header(path string) (*table, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r := csv.NewReader(f)
	r.TrimLeadingSpace = true
	h, err := r.Read()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	for i := range h {
		h[i] = strings.TrimSpace(h[i])
	}
	return &table{header: h}, nil
}

// intervals reads a truth file of the columns file,rows,scored_from,first,last (0-based, last inclusive; no first: a file without anomalies) and gives one
// trial for each file that is there.
func intervals(dir, name string, ignore ...string) ([]*trial.Trial, error) {
	path := filepath.Join(dir, name)
	t, err := readTable(path, ',')
	if err != nil {
		return nil, err
	}
	if !slices.Equal(t.header, []string{"file", "rows", "scored_from", "first", "last"}) {
		return nil, fmt.Errorf("%s: header is %s", path, strings.Join(t.header, ","))
	}
	type file struct {
		trial  *trial.Trial
		rows   int
		events []score.Interval
	}
	var files []*file
	byName := map[string]*file{}
	for i, r := range t.rows {
		n := [4]int{}
		for k := range n {
			if s := strings.TrimSpace(r[k+1]); s != "" {
				if n[k], err = strconv.Atoi(s); err != nil || n[k] < 0 {
					return nil, fmt.Errorf("%s: line %d: %q is no row", path, i+2, s)
				}
			}
		}
		if n[0] > 100_000_000 || n[1] > n[0] || n[3] >= max(n[0], 1) || n[2] > n[3] {
			return nil, fmt.Errorf("%s: line %d: rows %s do not fit together", path, i+2, strings.Join(r[1:], ","))
		}
		f := byName[r[0]]
		if f == nil {
			f = &file{trial: &trial.Trial{Name: r[0], Input: filepath.Join(dir, r[0]), From: n[1], Ignore: ignore}, rows: n[0]}
			byName[r[0]] = f
			files = append(files, f)
		}
		if r[3] != "" {
			f.events = append(f.events, score.Interval{First: n[2], Last: n[3]})
		}
	}
	out := make([]*trial.Trial, 0, len(files))
	for _, f := range files {
		h, err := header(f.trial.Input)
		if err != nil {
			return nil, err
		}
		f.trial.Sensors = h.sensors(ignore...)
		f.trial.SetEvents(f.rows, f.events)
		out = append(out, f.trial)
	}
	return out, nil
}
