// Package stacktest gives tests a real stack of their own: free ports, a folder of its own, nothing left behind.
package stacktest

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/tocsin-io/tocsin/deploy/local/stack"
)

// RequireEnv, set to 1, turns the skip of a test whose real parts are missing into a failure.
const RequireEnv = "TOCSIN_REQUIRE_REAL"

// patience is how long a machine that does much else may take to start or stop one component.
const patience = 3 * time.Minute

// New opens a stack with free ports in a new folder, unless opts say otherwise, and takes it down when the test ends. The
// kernel kills its processes if the test's own process dies first. When the test has failed, the logs' ends are shown.
func New(t testing.TB, opts stack.Options) *stack.Stack {
	t.Helper()
	if opts.Dir == "" {
		opts.Dir = dir(t)
		if opts.PortOffset == 0 {
			opts.PortOffset = stack.AutoPorts
		}
	}
	opts.Ephemeral = true
	if opts.HealthTimeout == 0 {
		opts.HealthTimeout = patience
	}
	if opts.Progress == nil {
		opts.Progress = progress{t}
	}
	s, err := stack.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		if t.Failed() {
			showLogs(ctx, t, s)
		}
		if err := s.Down(ctx); err != nil {
			t.Errorf("take the stack down: %v", err)
		}
	})
	return s
}

// Up is New followed by Up. Where a part is missing from this machine the test is skipped, loudly, or fails if RequireEnv is 1.
func Up(t testing.TB, opts stack.Options) *stack.Stack {
	t.Helper()
	s := New(t, opts)
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	Need(t, s.Up(ctx))
	return s
}

// Need passes when err is nil, skips the test when a real part is missing and may be, and fails it otherwise.
func Need(t testing.TB, err error) {
	t.Helper()
	var missing *stack.MissingError
	switch {
	case err == nil:
	case errors.As(err, &missing) && os.Getenv(RequireEnv) != "1":
		t.Skipf("NOT PROVEN HERE, a real part is missing (set %s=1 to make this a failure): %v", RequireEnv, err)
	default:
		t.Fatal(err)
	}
}

// dir is like t.TempDir, but PostgreSQL's user may pass through it when root runs the test.
func dir(t testing.TB) string {
	t.Helper()
	d, err := os.MkdirTemp("", "tocsin-stack-")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(d, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(d); err != nil {
			t.Error(err)
		}
	})
	return d
}

func showLogs(ctx context.Context, t testing.TB, s *stack.Stack) {
	for _, name := range s.Names() {
		var b bytes.Buffer
		if err := s.Logs(ctx, &b, name, 20, false); err == nil && b.Len() > 0 {
			t.Logf("the end of %s's log:\n%s", name, b.String())
		}
	}
}

type progress struct{ t testing.TB }

func (p progress) Write(b []byte) (int, error) {
	p.t.Log(strings.TrimRight(string(b), "\n"))
	return len(b), nil
}
