// Package archtest enforces which room may know which. Each rule says why it stands; breaking one is a decision to be made in
// the open, by changing the rule here.
package archtest

import (
	"bufio"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

const (
	root   = "../.."
	module = "github.com/tocsin-io/tocsin/"
)

type file struct {
	path    string // from the repository's root, with slashes
	test    bool
	imports []string
	syntax  *ast.File
	lines   int
}

func files(t *testing.T) []file {
	t.Helper()
	var out []file
	fset := token.NewFileSet()
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(root, p)
		rel = filepath.ToSlash(rel)
		if d.IsDir() {
			switch {
			case rel == "bin", rel == "out", rel == "proto/gen", d.Name() == "node_modules", d.Name() == "testdata", rel != "." && strings.HasPrefix(d.Name(), "."):
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(rel, ".go") {
			return nil
		}
		f, err := parser.ParseFile(fset, p, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		one := file{path: rel, test: strings.HasSuffix(rel, "_test.go"), syntax: f, lines: fset.File(f.Pos()).LineCount()}
		for _, im := range f.Imports {
			s, _ := strconv.Unquote(im.Path.Value)
			one.imports = append(one.imports, s)
		}
		out = append(out, one)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(out) < 50 {
		t.Fatalf("only %d Go files found: the walk is wrong", len(out))
	}
	return out
}

// pure are the packages that decide. They may be handed time and bytes; they may not go and get them.
var pure = []string{
	"services/stream-processor/internal/calibrate", "services/stream-processor/internal/detect", "services/stream-processor/internal/machine",
	"services/stream-processor/internal/quality", "services/stream-processor/internal/window",
	"pkg/iforest", "pkg/modelfile", "services/model-trainer/internal/feature", "services/model-trainer/internal/gbdt", "services/model-trainer/internal/supervised",
	"services/alert-router/internal/incident", "services/cold-path-writer/internal/chunk",
	"services/fleet-simulator/internal/physics", "services/fleet-simulator/internal/fault",
}

func TestPurePackagesExist(t *testing.T) {
	for _, p := range pure {
		if _, err := os.Stat(filepath.Join(root, p)); err != nil {
			t.Errorf("%s is listed as pure and is not there", p)
		}
	}
}

func TestImports(t *testing.T) {
	rules := []struct {
		why     string
		in      func(f file) bool
		forbids func(f file, imported string) bool
	}{
		{
			"the wire contracts stand below everything",
			under("proto/"), ours,
		},
		{
			"pkg holds mechanisms, not services",
			under("pkg/"), func(_ file, im string) bool { return strings.HasPrefix(im, module+"services/") },
		},
		{
			"flags belong to the process: a package that registers some surprises every program that links it",
			under("pkg/"), func(_ file, im string) bool { return im == "flag" },
		},
		{
			"services meet only in Kafka; what two need is a mechanism for pkg or a contract for proto",
			func(f file) bool {
				return strings.HasPrefix(f.path, "services/") && !strings.HasPrefix(f.path, "services/all-in-one/")
			},
			func(f file, im string) bool {
				rest, ok := strings.CutPrefix(im, module+"services/")
				return ok && service(rest) != service(strings.TrimPrefix(f.path, "services/"))
			},
		},
		{
			"what decides does no I/O: the same input must give the same answer in any process, at any time",
			func(f file) bool { return !f.test && isPure(f.path) },
			func(_ file, im string) bool {
				switch im {
				case "net", "net/http", "os", "crypto/rand", "github.com/VictoriaMetrics/metrics", "go.uber.org/zap", module + "pkg/config":
					return true
				}
				return strings.HasPrefix(im, "github.com/twmb/franz-go")
			},
		},
		{
			"stores are opened, brought up to date and refused alike: by pkg/sqlstore. (The Iceberg catalog's tables are its library's.)",
			func(f file) bool {
				return strings.HasPrefix(f.path, "services/") && !f.test && !strings.HasPrefix(f.path, "services/iceberg-committer/")
			},
			func(_ file, im string) bool {
				return strings.HasPrefix(im, "github.com/jackc/pgx") || strings.HasPrefix(im, "github.com/pressly/goose") || strings.HasPrefix(im, "modernc.org/sqlite")
			},
		},
		{
			"end-to-end tests see binaries and contracts, as a user does",
			under("deploy/e2e/"), func(_ file, im string) bool { return strings.HasPrefix(im, module+"services/") },
		},
	}
	for _, f := range files(t) {
		for _, r := range rules {
			if !r.in(f) {
				continue
			}
			for _, im := range f.imports {
				if r.forbids(f, im) {
					t.Errorf("%s imports %s: %s", f.path, im, r.why)
				}
			}
		}
	}
}

func under(prefix string) func(file) bool {
	return func(f file) bool { return strings.HasPrefix(f.path, prefix) }
}

func ours(_ file, im string) bool {
	return strings.HasPrefix(im, module) && !strings.HasPrefix(im, module+"proto/")
}

func service(rest string) string { return strings.SplitN(rest, "/", 2)[0] }

func isPure(path string) bool {
	for _, p := range pure {
		if strings.HasPrefix(path, p+"/") {
			return true
		}
	}
	return false
}

func TestPurePackagesReadNoClock(t *testing.T) {
	for _, f := range files(t) {
		if f.test || !isPure(f.path) {
			continue
		}
		calls(f, func(pkg, name string) {
			if pkg == "time" && (name == "Now" || name == "Since" || name == "Until" || name == "Sleep" || name == "After" || name == "NewTimer" || name == "NewTicker") {
				t.Errorf("%s calls time.%s: time enters only through the log", f.path, name)
			}
			if pkg == "rand" && !strings.HasPrefix(name, "New") {
				t.Errorf("%s calls rand.%s: chance comes from a seed that is given", f.path, name)
			}
		})
	}
}

func TestOnlyMainEndsTheProcess(t *testing.T) {
	for _, f := range files(t) {
		if f.syntax.Name.Name == "main" || f.test {
			continue
		}
		calls(f, func(pkg, name string) {
			if pkg == "os" && name == "Exit" || pkg == "log" && strings.HasPrefix(name, "Fatal") {
				t.Errorf("%s calls %s.%s: only main may end the process, or nothing is drained", f.path, pkg, name)
			}
		})
	}
}

func calls(f file, each func(pkg, name string)) {
	ast.Inspect(f.syntax, func(n ast.Node) bool {
		if c, ok := n.(*ast.CallExpr); ok {
			if s, ok := c.Fun.(*ast.SelectorExpr); ok {
				if x, ok := s.X.(*ast.Ident); ok {
					each(x.Name, s.Sel.Name)
				}
			}
		}
		return true
	})
}

func TestPackageNamesSayWhatIsInside(t *testing.T) {
	for _, f := range files(t) {
		switch strings.TrimSuffix(f.syntax.Name.Name, "_test") {
		case "util", "utils", "common", "helper", "helpers", "types", "misc", "shared":
			t.Errorf("%s: package %s says nothing of its one job", f.path, f.syntax.Name.Name)
		}
	}
}

func TestMainsAreShort(t *testing.T) {
	for _, f := range files(t) {
		if strings.HasPrefix(f.path, "services/") && strings.HasSuffix(f.path, "/main.go") && f.lines > 60 {
			t.Errorf("%s has %d lines: a main only starts its service", f.path, f.lines)
		}
	}
}

var link = regexp.MustCompile(`\]\(([^)#?]+)[^)]*\)`)

// A document that names a file that is gone misleads whoever trusts it.
func TestDocumentsPointToFilesThatExist(t *testing.T) {
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && (d.Name() == "node_modules" || d.Name() == "bin" || d.Name() == "out" || p != root && strings.HasPrefix(d.Name(), ".")) {
			return filepath.SkipDir
		}
		if !strings.HasSuffix(p, ".md") {
			return nil
		}
		f, err := os.Open(p)
		if err != nil {
			return err
		}
		defer func() { _ = f.Close() }()
		for s := bufio.NewScanner(f); s.Scan(); {
			for _, m := range link.FindAllStringSubmatch(s.Text(), -1) {
				if strings.Contains(m[1], "://") || strings.HasPrefix(m[1], "mailto:") {
					continue
				}
				if _, err := os.Stat(filepath.Join(filepath.Dir(p), m[1])); err != nil {
					t.Errorf("%s points to %s, which is not there", p, m[1])
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
