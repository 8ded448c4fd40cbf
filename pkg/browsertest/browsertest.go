// Package browsertest runs a script of node over a real Chromium. The script says on standard output what it asks for, a line each: "STEP name" has the test do something, for
// which it waits ("done" on standard input), and "PASS" says that all is as it should be.
package browsertest

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// pass may be followed by how much was looked at.
const pass = "PASS"

// Browser is what a script needs, found on this machine.
type Browser struct {
	Node, Chromium string // programs
	web            string
}

// Find looks for node, a Chromium, and the driver in web, the folder of the page's sources, in which scripts run. Where one is missing the test is skipped, and fails with
// TOCSIN_REQUIRE_REAL=1.
func Find(t testing.TB, web string) *Browser {
	t.Helper()
	missing := func(format string, args ...any) {
		t.Helper()
		msg := "NOT TESTED IN A BROWSER: " + fmt.Sprintf(format, args...)
		if os.Getenv("TOCSIN_REQUIRE_REAL") == "1" {
			t.Fatal(msg)
		}
		t.Skip(msg)
	}
	b := &Browser{web: web}
	var err error
	if b.Node, err = exec.LookPath("node"); err != nil {
		missing("node is not installed")
	}
	for _, name := range []string{os.Getenv("TOCSIN_CHROMIUM"), "chromium", "chromium-browser", "google-chrome"} {
		if p, err := exec.LookPath(name); err == nil {
			b.Chromium = p
			break
		}
	}
	if b.Chromium == "" {
		missing("no Chromium is installed (Debian: apt-get install chromium); TOCSIN_CHROMIUM may name one")
	}
	if _, err := os.Stat(filepath.Join(web, "node_modules", "playwright-core")); err != nil {
		missing("playwright-core is not installed: run npm ci in %s", web)
	}
	return b
}

// Run runs a script until it ends, does the steps that it asks for, and fails the test unless it passes within the time.
func (b *Browser) Run(t testing.TB, within time.Duration, steps map[string]func(), script string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	cmd := exec.CommandContext(ctx, b.Node, append([]string{script}, args...)...) //nolint:gosec // the test's own
	cmd.Dir, cmd.Stderr, cmd.WaitDelay = b.web, os.Stderr, 5*time.Second
	in, err := cmd.StdinPipe()
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		cancel()
		t.Fatal(err)
	}
	ended := false
	unread := context.AfterFunc(ctx, func() { _ = out.Close() }) // what the script has started may hold it open
	defer func() {                                               // a step may have ended the test
		unread()
		cancel()
		if !ended {
			_ = cmd.Wait()
		}
	}()
	passed := false
	for lines := bufio.NewScanner(out); lines.Scan(); {
		line := lines.Text()
		t.Log(line)
		passed = passed || line == pass || strings.HasPrefix(line, pass+" ")
		if name, isStep := strings.CutPrefix(line, "STEP "); isStep {
			do := steps[name]
			if do == nil {
				t.Fatalf("%s asks for %q", script, name)
			}
			do()
			_, _ = io.WriteString(in, "done\n") // a script that is gone fails below
		}
	}
	unread()
	err, ended = cmd.Wait(), true
	if err != nil || !passed {
		t.Fatalf("%s: passed: %t, %v", script, passed, err)
	}
}
