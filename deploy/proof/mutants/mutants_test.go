package mutants

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// root of the repository.
func root(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "go.work")); err != nil {
		t.Fatal(err)
	}
	return dir
}

type listed struct {
	ImportPath, Dir, Export string
	GoFiles                 []string
}

// list asks the go command for the packages in some folders and what they import, compiled.
func list(t *testing.T, root string, folders map[string]bool) map[string]listed {
	t.Helper()
	args := []string{"list", "-export", "-deps", "-json=ImportPath,Dir,Export,GoFiles"}
	for f := range folders {
		args = append(args, "./"+f)
	}
	cmd := exec.Command("go", args...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "GOWORK="+filepath.Join(root, "go.work"))
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	b, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.Bytes())
	}
	out := map[string]listed{}
	for dec := json.NewDecoder(bytes.NewReader(b)); ; {
		var p listed
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return out
		} else if err != nil {
			t.Fatal(err)
		}
		out[p.ImportPath] = p
	}
}

// Each mutant's old text stands where it says, once, and what it makes of the package is a program.
func TestEveryMutantApplies(t *testing.T) {
	root := root(t)
	folders := map[string]bool{}
	for _, m := range All() {
		for _, e := range m.Edits {
			folders[path.Dir(e.File)] = true
		}
	}
	packages := list(t, root, folders)
	byDir := map[string]listed{}
	for _, p := range packages {
		byDir[p.Dir] = p
	}
	fset := token.NewFileSet()
	imports := importer.ForCompiler(fset, "gc", func(name string) (io.ReadCloser, error) {
		if packages[name].Export == "" {
			return nil, fmt.Errorf("%s is not compiled", name)
		}
		return os.Open(packages[name].Export)
	})
	parsed := map[string]*ast.File{}
	parse := func(t *testing.T, name string, src []byte) *ast.File {
		t.Helper()
		if f := parsed[name]; src == nil && f != nil {
			return f
		}
		var content any
		if src != nil {
			content = src
		}
		f, err := parser.ParseFile(fset, name, content, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		if src == nil {
			parsed[name] = f
		}
		return f
	}
	for _, m := range All() {
		t.Run(m.Name, func(t *testing.T) {
			changed, err := m.Apply(root)
			if err != nil {
				t.Fatal(err)
			}
			done := map[string]bool{}
			for name := range changed {
				dir := filepath.Join(root, path.Dir(name))
				if done[dir] {
					continue
				}
				done[dir] = true
				var files []*ast.File
				for _, f := range byDir[dir].GoFiles {
					rel := path.Join(path.Dir(name), f)
					files = append(files, parse(t, filepath.Join(dir, f), changed[rel]))
				}
				conf := types.Config{Importer: imports}
				if _, err := conf.Check(byDir[dir].ImportPath, fset, files, nil); err != nil {
					t.Errorf("does not compile: %v", err)
				}
			}
		})
	}
}

// The catalogue is complete and its tests exist.
func TestCatalogue(t *testing.T) {
	root := root(t)
	scenarios := stringsIn(t, filepath.Join(root, simulationPkg))
	names := map[string]bool{}
	counted := 0
	for _, m := range All() {
		if names[m.Name] {
			t.Errorf("%s: twice", m.Name)
		}
		names[m.Name] = true
		service, _, _ := strings.Cut(m.Name, "-")
		switch service {
		case "processor", "writer", "router", "gateway":
		default:
			t.Errorf("%s: of no service", m.Name)
		}
		if m.Rule == "" {
			t.Errorf("%s: breaks no rule", m.Name)
		}
		if m.Equivalent != "" {
			continue
		}
		counted++
		if len(m.Scenarios)+len(m.Tests) == 0 {
			t.Errorf("%s: nothing is asked to catch it", m.Name)
		}
		for _, s := range m.Scenarios {
			if !scenarios[s] {
				t.Errorf("%s: there is no scenario %q", m.Name, s)
			}
		}
		for _, ts := range m.Tests {
			if !defines(t, filepath.Join(root, ts.Package), ts.Run) {
				t.Errorf("%s: %s has no test %s", m.Name, ts.Package, ts.Run)
			}
		}
	}
	if counted < 25 {
		t.Errorf("%d mutants that count, at least 25 are promised", counted)
	}
}

// stringsIn are the string literals in a folder's Go files.
func stringsIn(t *testing.T, dir string) map[string]bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]bool{}
	for _, name := range files {
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				if s, err := strconv.Unquote(lit.Value); err == nil {
					out[s] = true
				}
			}
			return true
		})
	}
	return out
}

// defines tells whether the package has every test that the alternatives of run name.
func defines(t *testing.T, dir, run string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil || len(files) == 0 {
		return false
	}
	var all strings.Builder
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(b)
	}
	for name := range strings.SplitSeq(run, "|") {
		if name != "." && !strings.Contains(all.String(), "func "+name+"(") {
			return false
		}
	}
	return true
}

func TestVerdict(t *testing.T) {
	for _, c := range []struct {
		output        string
		passed        bool
		kind, finding string
	}{
		{"ok", true, Survived, ""},
		{"--- FAIL: TestScenario (1.00s)\n    x_test.go:3: service stopped: processor: gone\n    x_test.go:9: history: 3 duplicated in telemetry.readings.v1\n", false, ByHistory, "history: 3 duplicated in telemetry.readings.v1"},
		{"--- FAIL: TestScenario (1.00s)\n    x_test.go:3: service stopped: processor: gone\n", false, ByStop, "service stopped: processor: gone"},
		{"--- FAIL: TestScenario (1.00s)\n    x_test.go:3: stall: nothing moves\n", false, ByStall, "stall: nothing moves"},
		{"--- FAIL: TestA (1.00s)\n    --- FAIL: TestA/b (0.00s)\n        a_test.go:7: got 1, want 2\nFAIL\n", false, ByTest, "TestA/b: got 1, want 2"},
		{"panic: runtime error: index\n\ngoroutine 1", false, ByPanic, "panic: runtime error: index"},
		{"panic: test timed out after 1s\n", false, Unclear, "timed out"},
		{"", false, Unclear, "no output"},
	} {
		if kind, finding := verdict(c.output, c.passed); kind != c.kind || finding != c.finding {
			t.Errorf("%q: %s %q, want %s %q", c.output, kind, finding, c.kind, c.finding)
		}
	}
	if Caught(Unclear) || Caught(Survived) || !Caught(ByStop) {
		t.Error("what counts as caught is wrong")
	}
}

func TestApplyRefusesWhatDoesNotFit(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a.go"), []byte("one two two"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, e := range map[string]Edit{
		"missing": {"a.go", "three", "x"}, "twice": {"a.go", "two", "x"}, "no change": {"a.go", "one", "one"}, "no file": {"b.go", "one", "x"},
	} {
		m := Mutant{Name: name, Edits: []Edit{e}}
		if _, err := m.Apply(dir); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	m := Mutant{Name: "both", Edits: []Edit{{"a.go", "one", "1"}, {"a.go", "1 two", "3"}}}
	if out, err := m.Apply(dir); err != nil || string(out["a.go"]) != "3 two" {
		t.Errorf("%q, %v", out["a.go"], err)
	}
	if _, err := new(Mutant).Apply(dir); err == nil {
		t.Error("a mutant without an edit applies")
	}
}
