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
// between; name[key=value] is the element of a list whose key is that.
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

// literal finds figures that stand in a text outside of {path}.
var literal = regexp.MustCompile(`[0-9]`)

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
	return errors.Join(errs...)
}
