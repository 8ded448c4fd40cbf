package browsertest

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// page stands in for a script: the shell takes the place of node.
func page(t *testing.T, script string) (*Browser, string) {
	t.Helper()
	web := t.TempDir()
	if err := os.WriteFile(filepath.Join(web, "page.sh"), []byte(script), 0o600); err != nil {
		t.Fatal(err)
	}
	return &Browser{Node: "/bin/sh", web: web}, "page.sh"
}

func TestSteps(t *testing.T) {
	b, script := page(t, `echo "STEP one"; read a; echo "STEP two"; read b; test "$a$b$1" = donedonewith && echo "PASS 2 things"`)
	var did []string
	step := func(name string) func() { return func() { did = append(did, name) } }
	b.Run(t, 2*time.Minute, map[string]func(){"one": step("one"), "two": step("two")}, script, "with")
	if len(did) != 2 || did[0] != "one" || did[1] != "two" {
		t.Error(did)
	}
}

// failing records whether a test that is run in it would have failed. FailNow ends it.
type failing struct {
	testing.TB
	failed bool
}

func (f *failing) Helper()               {}
func (f *failing) Log(...any)            {}
func (f *failing) Fatal(...any)          { f.failed = true; panic(f) }
func (f *failing) Fatalf(string, ...any) { f.failed = true; panic(f) }

func TestFailures(t *testing.T) {
	for name, script := range map[string]string{
		"says nothing of passing": "true", "passes and then fails": "echo PASS; exit 1", "does something like passing": "echo PASSIVE", "asks for what is not there": `echo "STEP none"; read x; echo PASS`,
		"hangs": "sleep 60 2>&1",
	} {
		t.Run(name, func(t *testing.T) {
			b, file := page(t, script)
			f := &failing{TB: t}
			func() {
				defer func() {
					if r := recover(); r != nil && r != any(f) {
						panic(r)
					}
				}()
				within := 2 * time.Minute
				if name == "hangs" {
					within = 100 * time.Millisecond
				}
				b.Run(f, within, nil, file)
			}()
			if !f.failed {
				t.Error("passed")
			}
		})
	}
}
