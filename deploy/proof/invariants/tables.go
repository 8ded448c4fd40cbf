package invariants

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// tables writes what recorded runs list.
func (page *Page) tables(tables []Table, root string, files map[string]*results) error {
	var errs []error
	for i := range tables {
		t := &tables[i]
		fmt.Fprintf(&page.text, "\n### %s\n\n", t.Title)
		if err := page.table(t, root, files); err != nil {
			errs = append(errs, fmt.Errorf("table %q: %w", t.Title, err))
		}
	}
	return errors.Join(errs...)
}

func (page *Page) table(t *Table, root string, files map[string]*results) error {
	w := &page.text
	f, err := open(root, t.File, files)
	if err != nil {
		return err
	}
	if f == nil {
		fmt.Fprintf(w, "`%s`: %s.\n", t.Command, notRecorded)
		return nil
	}
	about, err := f.text(strings.TrimSpace(t.About))
	if err != nil {
		return err
	}
	day, err := f.date(t.Date)
	if err != nil {
		return err
	}
	list, err := f.at(t.Rows)
	if err != nil {
		return err
	}
	heads := make([]string, len(t.Columns))
	for i, c := range t.Columns {
		heads[i] = c.Head
	}
	fmt.Fprintf(w, "%s Recorded: %s. Repeat with `%s`.\n\n| %s |\n|%s\n", about, day, t.Command, strings.Join(heads, " | "), strings.Repeat("---|", len(heads)))
	rows, err := elements(list)
	if err != nil {
		return fmt.Errorf("%s: %w", t.Rows, err)
	}
	for _, e := range rows {
		row := &results{name: t.File + " " + t.Rows, root: e}
		cells := make([]string, len(t.Columns))
		for i, c := range t.Columns {
			if cells[i], err = row.text(c.Text); err != nil {
				return err
			}
		}
		for _, cond := range t.Holds {
			ok, err := row.holds(cond)
			if err != nil {
				return err
			}
			if !ok {
				page.Broken = append(page.Broken, t.File+": "+cells[0])
				cells[0] = "**BROKEN** " + cells[0]
				break
			}
		}
		fmt.Fprintf(w, "| %s |\n", strings.Join(escape(cells), " | "))
	}
	return nil
}

// elements of a list, or of an object as key and value in the order of keys.
func elements(v any) ([]any, error) {
	switch v := v.(type) {
	case nil:
		return nil, nil
	case []any:
		return v, nil
	case map[string]any:
		out := make([]any, 0, len(v))
		for _, k := range slices.Sorted(maps.Keys(v)) {
			out = append(out, map[string]any{"key": k, "value": v[k]})
		}
		return out, nil
	}
	return nil, errors.New("no list")
}
