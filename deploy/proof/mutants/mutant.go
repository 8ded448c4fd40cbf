package mutants

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Mutant is one deliberate bug.
type Mutant struct {
	// Name is unique; it begins with the service: processor-, writer-, router-, gateway-.
	Name string
	// Rule is the sentence of docs/EXACTLY_ONCE.md, or of a package's documentation, that it breaks.
	Rule string
	// Edits make it; more than one when a second guard would otherwise hide what the first lets through.
	Edits []Edit
	// Scenarios of the simulation that must catch it, tried first.
	Scenarios []string
	// Tests of packages that must catch it, tried when no scenario did.
	Tests []Tests
	// Equivalent is why no input can tell it from the original. It is then not run and not counted.
	Equivalent string
}

// Edit replaces a text that stands exactly once in a file.
type Edit struct {
	File string // from the repository's root
	Old  string
	New  string
}

// Tests are some of a package's.
type Tests struct {
	Package string // folder, from the repository's root
	Run     string // regular expression, as `go test -run` takes it
}

// All is the catalogue.
func All() []Mutant {
	var all []Mutant
	for _, of := range []func() []Mutant{processor, processorRestore, writer, router, gateway} {
		all = append(all, of()...)
	}
	return all
}

// Apply gives the contents of the files that m changes, by their path from root.
func (m *Mutant) Apply(root string) (map[string][]byte, error) {
	out := map[string][]byte{}
	for _, e := range m.Edits {
		src, ok := out[e.File]
		if !ok {
			var err error
			if src, err = os.ReadFile(filepath.Join(root, e.File)); err != nil {
				return nil, fmt.Errorf("%s: %w", m.Name, err)
			}
		}
		if n := strings.Count(string(src), e.Old); n != 1 {
			return nil, fmt.Errorf("%s: the text to replace stands %d times in %s, not once:\n%s", m.Name, n, e.File, e.Old)
		}
		if e.Old == e.New {
			return nil, fmt.Errorf("%s: an edit of %s changes nothing", m.Name, e.File)
		}
		out[e.File] = []byte(strings.Replace(string(src), e.Old, e.New, 1))
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%s: no edit", m.Name)
	}
	return out, nil
}
