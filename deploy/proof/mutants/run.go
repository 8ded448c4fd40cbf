package mutants

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

const simulationPkg = "deploy/proof/simulation"

// Result of one mutant.
type Result struct {
	Name    string  `json:"name"`
	Rule    string  `json:"rule"`
	Caught  bool    `json:"caught"`
	Kind    string  `json:"kind"`    // see ByHistory
	By      string  `json:"by"`      // the scenario, or package and tests
	Finding string  `json:"finding"` // in the words of what caught it
	Tried   []Try   `json:"tried"`
	Seconds float64 `json:"seconds"`
}

// Try is one thing that was asked to catch a mutant.
type Try struct {
	What    string  `json:"what"`
	Kind    string  `json:"kind"`
	Finding string  `json:"finding,omitempty"`
	Seconds float64 `json:"seconds"`
}

// Runner runs mutants. Safe for concurrent use once made.
type Runner struct {
	Root    string // of the repository
	Work    string // folder for binaries; they are removed as soon as they are not needed
	Timeout time.Duration
	// All: ask everything that a mutant names, not only until something caught it.
	All bool

	mu     sync.Mutex
	builds map[string]*build
	checks map[asked]*check
}

// check of what is asked, without any mutant.
type check struct {
	once sync.Once
	err  error
}

type build struct {
	once sync.Once
	path string
	err  error
}

// asked is one call of a test binary.
type asked struct{ pkg, tags, run, what string }

func (m *Mutant) asks() []asked {
	var out []asked
	for _, s := range m.Scenarios {
		out = append(out, asked{simulationPkg, "synctests,mutants", "^TestProtocol$/^" + s + "$", "simulation/" + s})
	}
	for _, t := range m.Tests {
		out = append(out, asked{t.Package, "", "^(" + strings.ReplaceAll(t.Run, ".", ".*") + ")$", t.Package + " " + t.Run})
	}
	return out
}

// sound tells whether a passes without any mutant: if it does not, it says nothing about one. It is looked at once, and only for what failed.
func (r *Runner) sound(ctx context.Context, a asked) error {
	r.mu.Lock()
	if r.checks == nil {
		r.checks = map[asked]*check{}
	}
	c := r.checks[a]
	if c == nil {
		c = &check{}
		r.checks[a] = c
	}
	r.mu.Unlock()
	c.once.Do(func() {
		bin, err := r.binary(ctx, "", "", a)
		if err != nil {
			c.err = err
			return
		}
		if kind, finding, out := r.ask(ctx, bin, a); kind != Survived {
			c.err = fmt.Errorf("%s fails without any mutant: %s\n%s", a.what, finding, out)
		}
	})
	return c.err
}

// Run applies m and asks, in order, what may catch it.
func (r *Runner) Run(ctx context.Context, m *Mutant) (Result, error) {
	began := time.Now()
	res := Result{Name: m.Name, Rule: m.Rule, Kind: Survived}
	dir := filepath.Join(r.Work, m.Name)
	defer os.RemoveAll(dir)
	overlay, err := r.overlay(dir, m)
	if err != nil {
		return res, err
	}
	var unsound []error
	for _, a := range m.asks() {
		if res.Caught && !r.All {
			break
		}
		start := time.Now()
		bin, err := r.binary(ctx, m.Name, overlay, a)
		if err != nil {
			return res, fmt.Errorf("%s: %w", m.Name, err)
		}
		kind, finding, _ := r.ask(ctx, bin, a)
		if kind != Survived {
			if err := r.sound(ctx, a); err != nil {
				unsound = append(unsound, err)
				kind, finding = Unclear, "fails without the mutant, too"
			}
		}
		res.Tried = append(res.Tried, Try{What: a.what, Kind: kind, Finding: finding, Seconds: time.Since(start).Seconds()})
		if !res.Caught && kind != Survived {
			res.Caught, res.Kind, res.By, res.Finding = Caught(kind), kind, a.what, finding
		}
	}
	res.Seconds = time.Since(began).Seconds()
	return res, errors.Join(append(unsound, ctx.Err())...)
}

// overlay writes the changed files and the list that `go -overlay` reads.
func (r *Runner) overlay(dir string, m *Mutant) (string, error) {
	files, err := m.Apply(r.Root)
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	var list struct{ Replace map[string]string }
	list.Replace = map[string]string{}
	for name, src := range files {
		to := filepath.Join(dir, strings.ReplaceAll(name, "/", "_"))
		if err := os.WriteFile(to, src, 0o644); err != nil {
			return "", err
		}
		list.Replace[filepath.Join(r.Root, name)] = to
	}
	b, err := json.Marshal(list)
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "overlay.json")
	return path, os.WriteFile(path, b, 0o644)
}

// binary builds the tests of a package, once for each mutant.
func (r *Runner) binary(ctx context.Context, mutant, overlay string, a asked) (string, error) {
	key := mutant + " " + a.pkg
	r.mu.Lock()
	if r.builds == nil {
		r.builds = map[string]*build{}
	}
	b := r.builds[key]
	if b == nil {
		b = &build{}
		r.builds[key] = b
	}
	r.mu.Unlock()
	b.once.Do(func() {
		b.path = filepath.Join(r.Work, mutant, strings.ReplaceAll(a.pkg, "/", "_")+".test")
		args := []string{"test", "-c", "-ldflags=-s -w", "-o", b.path, "-tags", a.tags}
		if overlay != "" {
			args = append(args, "-overlay", overlay)
		}
		cmd := exec.CommandContext(ctx, "go", append(args, "./"+a.pkg)...) //nolint:gosec // the catalogue's own words
		cmd.Dir = r.Root
		cmd.Env = append(os.Environ(), "GOWORK="+filepath.Join(r.Root, "go.work"))
		if out, err := cmd.CombinedOutput(); err != nil {
			b.err = fmt.Errorf("build the tests of %s: %w\n%s", a.pkg, err, out)
		}
	})
	return b.path, b.err
}

// ask runs tests of a binary.
func (r *Runner) ask(ctx context.Context, bin string, a asked) (kind, finding, output string) {
	// The binary's own limit shows what hangs; the context's is for one that does not even end then.
	ctx, cancel := context.WithTimeout(ctx, r.Timeout+30*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, bin, "-test.run", a.run, "-test.timeout", r.Timeout.String(), "-test.failfast") //nolint:gosec // as above
	cmd.Dir = filepath.Join(r.Root, a.pkg)
	cmd.WaitDelay = 10 * time.Second
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if ctx.Err() != nil {
		return Unclear, "did not end", out.String()
	}
	if err == nil && strings.Contains(out.String(), "no tests to run") {
		return Unclear, "no such test: " + a.what, out.String()
	}
	kind, finding = verdict(out.String(), err == nil)
	return kind, finding, out.String()
}
