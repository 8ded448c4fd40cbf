package invariants

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// module is the path that folders of the repository are imported under.
const module = "github.com/tocsin-io/tocsin/"

// test is one that a promise names.
type test struct{ folder, name string }

func (t test) String() string { return t.folder + ": " + t.name }

func parseTest(s string) (test, error) {
	folder, name, ok := strings.Cut(s, ": ")
	if !ok || !filepath.IsLocal(folder) || !strings.HasPrefix(name, "Test") {
		return test{}, fmt.Errorf("%q is not \"folder: TestName\"", s)
	}
	return test{folder, name}, nil
}

// finder looks up tests in the sources below root.
type finder struct {
	root    string
	folders map[string]*sources
}

// sources of one folder's tests.
type sources struct {
	tests   map[string]string // name -> file
	strings map[string]bool   // literals: names of subtests
}

// find gives the file, from root, that has the test. Of a subtest it wants that its name is a string in the folder.
func (f *finder) find(t test) (string, error) {
	s, err := f.load(t.folder)
	if err != nil {
		return "", err
	}
	parts := strings.Split(t.name, "/")
	file, ok := s.tests[parts[0]]
	if !ok {
		return "", fmt.Errorf("%s: no such test", t)
	}
	for _, sub := range parts[1:] {
		if !s.strings[sub] && !s.strings[strings.ReplaceAll(sub, "_", " ")] {
			return "", fmt.Errorf("%s: no such subtest", t)
		}
	}
	return file, nil
}

func (f *finder) load(folder string) (*sources, error) {
	if s := f.folders[folder]; s != nil {
		return s, nil
	}
	files, err := filepath.Glob(filepath.Join(f.root, folder, "*.go"))
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("%s: no Go files", folder)
	}
	s := &sources{tests: map[string]string{}, strings: map[string]bool{}}
	fset := token.NewFileSet()
	for _, name := range files {
		src, err := parser.ParseFile(fset, name, nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, err
		}
		if strings.HasSuffix(name, "_test.go") {
			for _, d := range src.Decls {
				if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil && strings.HasPrefix(fn.Name.Name, "Test") {
					s.tests[fn.Name.Name] = folder + "/" + filepath.Base(name)
				}
			}
		}
		ast.Inspect(src, func(n ast.Node) bool {
			if lit, ok := n.(*ast.BasicLit); ok && lit.Kind == token.STRING {
				if v, err := strconv.Unquote(lit.Value); err == nil {
					s.strings[v] = true
				}
			}
			return true
		})
	}
	if f.folders == nil {
		f.folders = map[string]*sources{}
	}
	f.folders[folder] = s
	return s, nil
}

// CheckRun reads the JSON output of a test run (`go test -json`, `gotestsum --jsonfile`) and tells which tests of the registry did not run
// there, were skipped, or failed. Nil: all of them passed.
func (r *Registry) CheckRun(in io.Reader) error {
	ended := map[test]string{}
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var ev struct{ Action, Package, Test string }
		if err := json.Unmarshal(lines.Bytes(), &ev); err != nil {
			continue // what the go command says beside the events
		}
		key := test{strings.TrimPrefix(ev.Package, module), ev.Test}
		switch ev.Action {
		case "pass", "skip", "fail":
			if ended[key] != "fail" || ev.Action == "pass" { // a rerun that passes counts, as it does for the run
				ended[key] = ev.Action
			}
		}
	}
	if err := lines.Err(); err != nil {
		return fmt.Errorf("output of the test run: %w", err)
	}
	var errs []error
	for _, p := range r.promises() {
		for _, s := range p.Tests {
			t, err := parseTest(s)
			if err != nil {
				return err
			}
			switch ended[t] {
			case "pass":
			case "":
				errs = append(errs, fmt.Errorf("%s: %s did not run", p.ID, t))
			default:
				errs = append(errs, fmt.Errorf("%s: %s: %s", p.ID, t, map[string]string{"skip": "was skipped", "fail": "failed"}[ended[t]]))
			}
		}
	}
	return errors.Join(errs...)
}

// Tests are all that the registry names, each once, sorted.
func (r *Registry) Tests() []string {
	var out []string
	for _, p := range r.promises() {
		out = append(out, p.Tests...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// exists tells whether a file is there.
func exists(path string) (bool, error) {
	_, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}
