package invariants

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Registry is registry.yaml.
type Registry struct {
	Groups []Group `yaml:"groups"`
}

// Group of promises under one heading.
type Group struct {
	Title    string    `yaml:"title"`
	About    string    `yaml:"about"`
	Promises []Promise `yaml:"promises"`
	// Tables of recorded runs, below the promises.
	Tables []Table `yaml:"tables"`
}

// Table shows a list in a results file, a row for each element.
type Table struct {
	Title   string `yaml:"title"`
	File    string `yaml:"file"`
	Command string `yaml:"command"`
	Date    string `yaml:"date"`
	// About is a text of the whole file.
	About string `yaml:"about"`
	// Rows is the path of the list, or of an object: then an element has the fields key and value.
	Rows    string   `yaml:"rows"`
	Columns []Column `yaml:"columns"`
	// Holds are conditions on each element.
	Holds []string `yaml:"holds"`
}

// Column of a table: its text is made from the row's element.
type Column struct {
	Head string `yaml:"head"`
	Text string `yaml:"text"`
}

// Promise is one row.
type Promise struct {
	ID      string `yaml:"id"`
	Promise string `yaml:"promise"`
	// Faults it was put under, in words.
	Faults string `yaml:"faults"`
	// Tests of every test run: "folder: TestName", or "folder: TestName/subtest".
	Tests []string `yaml:"tests"`
	// Recorded runs that are too long for every test run.
	Recorded []Recorded `yaml:"recorded"`
	// Target of recovery, as the scoreboard has it. Empty: nothing has to recover.
	Target string `yaml:"target"`
}

// Recorded points into a file of docs/results. Texts may hold {path}: it is replaced by what stands there. A path is field names with dots
// between; name[key=value] is the element of a list whose key is that; a last step "#" counts the elements of a list or object, "+" adds them
// up, "+field" adds up that field of each.
type Recorded struct {
	File    string `yaml:"file"`
	Command string `yaml:"command"` // repeats it
	Date    string `yaml:"date"`    // path
	Runs    string `yaml:"runs"`    // text: how much was done
	Result  string `yaml:"result"`  // text: what came of it
	// Recovery is a text with the measured time beside the promise's target.
	Recovery string `yaml:"recovery"`
	// Holds are conditions "path=value", "path<=value" or "path>=value", all of which must be true for the promise to have held.
	Holds []string `yaml:"holds"`
}

// Load reads and checks a registry.
func Load(path string) (*Registry, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	dec := yaml.NewDecoder(bytes.NewReader(b))
	dec.KnownFields(true)
	var r Registry
	if err := dec.Decode(&r); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if err := r.validate(); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return &r, nil
}

func (r *Registry) promises() []*Promise {
	var out []*Promise
	for i := range r.Groups {
		for j := range r.Groups[i].Promises {
			out = append(out, &r.Groups[i].Promises[j])
		}
	}
	return out
}

// literal finds figures that stand in a text outside of {path}; "p99" and "S3" are words.
var literal = regexp.MustCompile(`(^|[^A-Za-z0-9])[0-9]`)

func (r *Registry) validate() error {
	var errs []error
	ids := map[string]bool{}
	if len(r.promises()) == 0 {
		errs = append(errs, errors.New("no promises"))
	}
	for _, p := range r.promises() {
		wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(p.ID+": "+format, args...)) }
		switch {
		case p.ID == "" || p.Promise == "":
			wrong("id and promise are needed")
		case ids[p.ID]:
			wrong("twice")
		case len(p.Tests) == 0:
			wrong("no test shows it")
		}
		ids[p.ID] = true
		for _, t := range p.Tests {
			if _, err := parseTest(t); err != nil {
				wrong("%w", err)
			}
		}
		for _, rec := range p.Recorded {
			if rec.File == "" || strings.ContainsAny(rec.File, `/\`) || rec.Command == "" || rec.Date == "" || rec.Runs == "" || len(rec.Holds) == 0 {
				wrong("recorded: file (in docs/results), command, date, runs and holds are needed")
			}
			for _, text := range []string{rec.Runs, rec.Result, rec.Recovery} {
				if literal.MatchString(placeholder.ReplaceAllString(text, "")) {
					wrong("recorded: %q has a figure in it that no results file gave", text)
				}
			}
		}
	}
	for _, g := range r.Groups {
		for _, t := range g.Tables {
			if t.Title == "" || t.File == "" || strings.ContainsAny(t.File, `/\`) || t.Command == "" || t.Rows == "" || len(t.Columns) == 0 {
				errs = append(errs, fmt.Errorf("table %q: title, file, command, rows and columns are needed", t.Title))
			}
			texts := []string{t.About}
			for _, c := range t.Columns {
				texts = append(texts, c.Text)
			}
			for _, text := range texts {
				if literal.MatchString(placeholder.ReplaceAllString(text, "")) {
					errs = append(errs, fmt.Errorf("table %q: %q has a figure in it that no results file gave", t.Title, text))
				}
			}
		}
	}
	return errors.Join(errs...)
}
