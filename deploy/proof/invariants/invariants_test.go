package invariants

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const registry = `
groups:
  - title: Once
    promises:
      - id: a
        promise: Nothing is lost.
        faults: kills
        tests: ["pkg: TestA", "pkg: TestB/by name"]
        target: 15 s
        recorded:
          - file: chaos.json
            command: make chaos
            date: began
            runs: "{rows[fault=kill -9].count} kills"
            result: "{lost} lost"
            recovery: "{rows[fault=kill -9].slowest_seconds} s"
            holds: ["lost=0", "rows[fault=kill -9].slowest_seconds<=15", "rows[fault=kill -9].count>={least}"]
`

const recorded = `{"began":"2026-11-21T03:04:05Z","lost":0,"least":2,"rows":[{"fault":"other","count":1},{"fault":"kill -9","count":1200,"slowest_seconds":3.14159}]}`

// repo makes a repository of one package and returns its root and the registry's path.
func repo(t *testing.T, registry string) (root, path string) {
	t.Helper()
	root = t.TempDir()
	write(t, root, "pkg/a_test.go", "package pkg\nimport \"testing\"\nfunc TestA(t *testing.T) {}\nfunc TestB(t *testing.T) { t.Run(\"by name\", func(*testing.T) {}) }\n")
	return root, write(t, root, "registry.yaml", registry)
}

func write(t *testing.T, root, name, text string) string {
	t.Helper()
	path := filepath.Join(root, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func page(t *testing.T, root, path string) (*Page, string) {
	t.Helper()
	reg, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	p, err := Make(reg, root)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if _, err := p.WriteTo(&b); err != nil {
		t.Fatal(err)
	}
	return p, b.String()
}

func TestWithoutResultsThePageSaysSo(t *testing.T) {
	root, path := repo(t, registry)
	p, text := page(t, root, path)
	want := "| **a** | Nothing is lost. | kills | `make chaos`: not yet recorded |  | not yet recorded / 15 s |  |"
	if !strings.Contains(text, want) || len(p.Broken) != 0 {
		t.Errorf("%v\n%s", p.Broken, text)
	}
	if !strings.Contains(text, "- **a** in `pkg`: [TestA](../pkg/a_test.go), [TestB/by name](../pkg/a_test.go); repeat with `make chaos`") {
		t.Error(text)
	}
}

func TestFiguresComeFromTheResults(t *testing.T) {
	root, path := repo(t, registry)
	write(t, root, "docs/results/chaos.json", recorded)
	p, text := page(t, root, path)
	if want := "| 1,200 kills | 0 lost | 3.142 s / 15 s | 2026-11-21 |"; !strings.Contains(text, want) || len(p.Broken) != 0 {
		t.Errorf("%v\n%s", p.Broken, text)
	}
	write(t, root, "docs/results/chaos.json", strings.Replace(recorded, `"lost":0`, `"lost":1`, 1))
	if p, text = page(t, root, path); len(p.Broken) != 1 || !strings.Contains(text, "| **BROKEN** 1 lost |") {
		t.Errorf("%v\n%s", p.Broken, text)
	}
}

const table = `
  - title: Runs
    tables:
      - title: Faults of chaos
        file: chaos.json
        command: make chaos
        date: nowhere
        about: "{rows.+count} faults of {rows.#} kinds."
        rows: rows
        columns: [{head: fault, text: "{fault}"}, {head: amount, text: "{count}"}]
        holds: ["count>=2"]
      - title: Exits
        file: chaos.json
        command: make chaos
        date: began
        rows: exits
        columns: [{head: reason, text: "{key}"}, {head: times, text: "{value}"}]
`

func TestTables(t *testing.T) {
	root, path := repo(t, registry+table)
	if _, text := page(t, root, path); !strings.Contains(text, "### Faults of chaos\n\n`make chaos`: not yet recorded.") {
		t.Error(text)
	}
	write(t, root, "docs/results/chaos.json", strings.Replace(recorded, "{", `{"exits":{"b":2,"a":1},`, 1))
	p, text := page(t, root, path)
	for _, want := range []string{
		"1,201 faults of 2 kinds. Recorded: not noted. Repeat with `make chaos`.\n\n| fault | amount |\n|---|---|\n| **BROKEN** other | 1 |\n| kill -9 | 1,200 |\n",
		"| reason | times |\n|---|---|\n| a | 1 |\n| b | 2 |\n",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if len(p.Broken) != 1 || p.Broken[0] != "chaos.json: other" {
		t.Error(p.Broken)
	}
}

func TestNoPageThatWouldNotBeTrue(t *testing.T) {
	for want, change := range map[string][2]string{
		"no such test":         {"pkg: TestA", "pkg: TestGone"},
		"no such subtest":      {"by name", "by another"},
		"no Go files":          {"pkg: TestA", "other: TestA"},
		`nothing at "lose"`:    {"{lost}", "{lose}"},
		`nothing at "rows[fau`: {"{rows[fault=kill -9].count}", "{rows[fault=kill].count}"},
		"is not a time":        {"date: began", "date: lost"},
		"no test shows it":     {`["pkg: TestA", "pkg: TestB/by name"]`, "[]"},
		"is not \"folder":      {"pkg: TestA", "TestA"},
		"has a figure in it":   {"{lost} lost", "0 lost"},
		"field typo not found": {"faults:", "typo:"},
		"are needed":           {"            holds: [", "            #"},
		"does not compare":     {"<=15", "<=many"},
	} {
		root, path := repo(t, strings.Replace(registry, change[0], change[1], 1))
		write(t, root, "docs/results/chaos.json", recorded)
		reg, err := Load(path)
		if err == nil {
			_, err = Make(reg, root)
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}

func TestCheckRun(t *testing.T) {
	_, path := repo(t, registry)
	reg, err := Load(path)
	if err != nil {
		t.Fatal(err)
	}
	event := func(action, test string) string {
		return `{"Action":"` + action + `","Package":"github.com/tocsin-io/tocsin/pkg","Test":"` + test + `"}` + "\n"
	}
	for _, c := range []struct{ run, want string }{
		{event("pass", "TestA") + "noise\n" + event("pass", "TestB/by name"), ""},
		{event("fail", "TestA") + event("pass", "TestA") + event("pass", "TestB/by name"), ""},
		{event("pass", "TestA") + event("skip", "TestB/by name"), "TestB/by name: was skipped"},
		{event("fail", "TestA") + event("pass", "TestB/by name"), "TestA: failed"},
		{event("pass", "TestA"), "TestB/by name did not run"},
	} {
		err := reg.CheckRun(strings.NewReader(c.run))
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%q: %v", c.run, err)
		}
	}
}

// The page that is committed is the one that registry and results give.
func TestTheCommittedPageIsUpToDate(t *testing.T) {
	const root = "../../.."
	_, text := page(t, root, "registry.yaml")
	b, err := os.ReadFile(filepath.Join(root, "docs", "INVARIANTS.md"))
	if err != nil {
		t.Fatal(err)
	}
	if string(b) != text {
		t.Error("docs/INVARIANTS.md is not what registry and results give: make invariants")
	}
}
