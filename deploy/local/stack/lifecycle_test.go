package stack_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/tocsin-io/tocsin/deploy/local/stack"
	"github.com/tocsin-io/tocsin/deploy/local/stack/stacktest"
)

// standIns makes a folder of service binaries that are this test binary.
func standIns(t *testing.T, names ...string) string {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	for _, name := range names {
		if err := os.Link(self, filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	return bin
}

func statusOf(t *testing.T, s *stack.Stack, name string) stack.Status {
	t.Helper()
	all, err := s.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, st := range all {
		if st.Name == name {
			return st
		}
	}
	t.Fatalf("no status of %s", name)
	return stack.Status{}
}

func deadline(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 8*time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func TestServiceIsStartedKilledAndStartedAgain(t *testing.T) {
	ctx := deadline(t)
	s := stacktest.New(t, stack.Options{Bin: standIns(t, "ingest-gateway")})
	const name = "ingest-gateway"

	if st := statusOf(t, s, name); st.State != stack.Stopped {
		t.Fatalf("before the start: %+v", st)
	}
	if err := s.Start(ctx, name); err != nil {
		t.Fatal(err)
	}
	first := statusOf(t, s, name)
	if first.State != stack.Healthy || first.Resident == 0 {
		t.Fatalf("after the start: %+v", first)
	}

	if err := s.Start(ctx, name); err != nil {
		t.Fatal(err)
	}
	if again := statusOf(t, s, name); again.PID != first.PID {
		t.Errorf("a second start replaced process %d by %d", first.PID, again.PID)
	}

	if err := s.Kill(name, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if st := statusOf(t, s, name); st.State != stack.Died {
		t.Errorf("after kill -9: %+v", st)
	}
	if err := s.Kill(name, syscall.SIGTERM); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("signal to a dead process: %v", err)
	}
	if err := s.Start(ctx, name); err != nil {
		t.Fatal(err)
	}
	if st := statusOf(t, s, name); st.State != stack.Healthy || st.PID == first.PID {
		t.Errorf("after the second start: %+v", st)
	}
}

// The iceberg-committer's module is one of its own: a stack without the binary is whole, and says how to get it only to who asks.
func TestIcebergIsLeftOutUnlessItIsBuilt(t *testing.T) {
	const name = "iceberg-committer"
	ctx := deadline(t)
	without := stacktest.New(t, stack.Options{Bin: t.TempDir(), Only: []string{stack.GroupServices}})
	if err := without.Up(ctx); err == nil || !strings.Contains(err.Error(), "cold-path-writer") || strings.Contains(err.Error(), name) {
		t.Errorf("up without any binary: %v", err)
	}
	var missing *stack.MissingError
	if err := without.Start(ctx, name); !errors.As(err, &missing) || missing.Install != "make iceberg" {
		t.Errorf("started without its binary: %v", err)
	}
	with := stacktest.New(t, stack.Options{Bin: standIns(t, name)})
	if err := with.Start(ctx, name); err != nil {
		t.Fatal(err)
	}
	if st := statusOf(t, with, name); st.State != stack.Healthy {
		t.Errorf("%+v", st)
	}
}

// A frozen process does not hear SIGTERM; Down must not hang on it nor have to kill it.
func TestDownWakesWhatIsFrozen(t *testing.T) {
	ctx := deadline(t)
	s := stacktest.New(t, stack.Options{Bin: standIns(t, "ingest-gateway")})
	if err := s.Start(ctx, "ingest-gateway"); err != nil {
		t.Fatal(err)
	}
	if err := s.Kill("ingest-gateway", syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	if st := statusOf(t, s, "ingest-gateway"); st.State != stack.Unhealthy || st.Reason == "" {
		t.Errorf("frozen: %+v", st)
	}
	if err := s.Down(ctx); err != nil {
		t.Error(err)
	}
	if st := statusOf(t, s, "ingest-gateway"); st.State != stack.Stopped {
		t.Errorf("after down: %+v", st)
	}
}

// The services share one configuration file, which each start writes.
func TestServicesStartTogether(t *testing.T) {
	names := []string{"ingest-gateway", "stream-processor", "cold-path-writer", "realtime-api"}
	s := stacktest.New(t, stack.Options{Bin: standIns(t, names...)})
	var wg sync.WaitGroup
	for range 3 { // as often as it takes to meet
		for _, name := range names {
			wg.Go(func() {
				if err := s.Start(deadline(t), name); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		for _, name := range names {
			if err := s.Kill(name, syscall.SIGKILL); err != nil {
				t.Error(err)
			}
		}
	}
}

// Another program that opens the folder finds and stops what this one started.
func TestAnotherProgramFindsTheStack(t *testing.T) {
	ctx := deadline(t)
	dir := t.TempDir()
	opts := stack.Options{Dir: dir, PortOffset: stack.AutoPorts, Bin: standIns(t, "ingest-gateway")}
	one := stacktest.New(t, opts)
	if err := one.Start(ctx, "ingest-gateway"); err != nil {
		t.Fatal(err)
	}
	opts.PortOffset = 0
	two, err := stack.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	if a, b := one.Addr("ingest-gateway"), two.Addr("ingest-gateway"); a != b {
		t.Errorf("addresses differ: %s and %s", a, b)
	}
	if err := two.Purge(); err == nil {
		t.Error("purged under a running process")
	}
	if err := two.Down(ctx); err != nil {
		t.Fatal(err)
	}
	if st := statusOf(t, one, "ingest-gateway"); st.State != stack.Stopped {
		t.Errorf("after the other's down: %+v", st)
	}
	if err := two.Purge(); err != nil {
		t.Fatal(err)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "*")); err != nil || len(left) > 0 {
		t.Errorf("left after the purge: %v %v", left, err)
	}
}

// A pid that the kernel has given to somebody else since must not be signalled.
func TestDownSparesAStranger(t *testing.T) {
	dir := t.TempDir()
	stranger := exec.Command("sleep", "60")
	if err := stranger.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stranger.Process.Kill()
		_ = stranger.Wait()
	})
	s := stacktest.New(t, stack.Options{Dir: dir, PortOffset: stack.AutoPorts})
	if err := os.MkdirAll(filepath.Join(dir, "run"), 0o755); err != nil {
		t.Fatal(err)
	}
	rec := fmt.Sprintf(`{"pid": %d, "birth": "another boot/1"}`, stranger.Process.Pid)
	if err := os.WriteFile(filepath.Join(dir, "run", "s3.json"), []byte(rec), 0o600); err != nil {
		t.Fatal(err)
	}
	if st := statusOf(t, s, "s3"); st.State != stack.Died {
		t.Errorf("a stranger's pid: %+v", st)
	}
	if err := s.Down(deadline(t)); err != nil {
		t.Fatal(err)
	}
	if err := stranger.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("the stranger was stopped: %v", err)
	}
}

func TestFailureShowsTheEndOfTheLog(t *testing.T) {
	s := stacktest.New(t, stack.Options{Bin: standIns(t, "alert-router")})
	err := s.Start(deadline(t), "alert-router")
	if err == nil || !strings.Contains(err.Error(), `no receiver is called "nobody"`) {
		t.Errorf("error without the reason: %v", err)
	}
}

func TestTakenPortIsNamed(t *testing.T) {
	s := stacktest.New(t, stack.Options{Bin: standIns(t, "ingest-gateway")})
	ln, err := net.Listen("tcp", s.Addr("ingest-gateway-grpc"))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	err = s.Start(deadline(t), "ingest-gateway")
	_, port, _ := net.SplitHostPort(s.Addr("ingest-gateway-grpc"))
	if err == nil || !strings.Contains(err.Error(), "port "+port+" is taken") {
		t.Errorf("error: %v", err)
	}
}

func TestMissingPartsAreNamedWithTheirRemedy(t *testing.T) {
	s := stacktest.New(t, stack.Options{Bin: t.TempDir()})
	err := s.Start(deadline(t), "realtime-api")
	var missing *stack.MissingError
	if !errors.As(err, &missing) || missing.Install != "make build" {
		t.Errorf("error: %v", err)
	}
}

func TestPortsMayChangeWhileNothingRuns(t *testing.T) {
	ctx := deadline(t)
	dir, bin := t.TempDir(), standIns(t, "ingest-gateway")
	if _, err := stack.New(stack.Options{Dir: dir, PortOffset: 1000}); err != nil {
		t.Fatal(err)
	}
	s, err := stack.New(stack.Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Addr("realtime-api"); got != "127.0.0.1:9080" {
		t.Errorf("realtime-api is at %s", got)
	}
	s = stacktest.New(t, stack.Options{Dir: dir, Bin: bin, PortOffset: stack.AutoPorts})
	if err := s.Start(ctx, "ingest-gateway"); err != nil {
		t.Fatal(err)
	}
	if _, err := stack.New(stack.Options{Dir: dir, PortOffset: 1000}); err == nil {
		t.Error("ports changed under a running process")
	}
	if again, err := stack.New(stack.Options{Dir: dir}); err != nil || again.Addr("s3") != s.Addr("s3") {
		t.Errorf("opened again: %v %v", again.Addr("s3"), err)
	}
}

func TestBrokersMayNotChangeOverData(t *testing.T) {
	dir := t.TempDir()
	for _, brokers := range []int{1, 3} {
		s, err := stack.New(stack.Options{Dir: dir, Brokers: brokers})
		if err != nil {
			t.Fatal(err)
		}
		if got := len(s.Brokers()); got != brokers {
			t.Errorf("%d brokers, want %d", got, brokers)
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, "data", "kafka-1"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := stack.New(stack.Options{Dir: dir, Brokers: 1}); err == nil {
		t.Error("the number of brokers changed over their data")
	}
}

func TestBadOptions(t *testing.T) {
	for name, opts := range map[string]stack.Options{
		"two brokers":       {Dir: t.TempDir(), Brokers: 2},
		"unknown component": {Dir: t.TempDir(), Only: []string{"zookeeper"}},
		"offset too large":  {Dir: t.TempDir(), PortOffset: 60000},
	} {
		if _, err := stack.New(opts); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestLogsShowsTheLastLines(t *testing.T) {
	s := stacktest.New(t, stack.Options{})
	path := s.LogFile("s3")
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("one\ntwo\nthree\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for lines, want := range map[int]string{0: "", 1: "three\n", 2: "two\nthree\n", 3: "one\ntwo\nthree\n", 9: "one\ntwo\nthree\n"} {
		var b strings.Builder
		if err := s.Logs(t.Context(), &b, "s3", lines, false); err != nil {
			t.Fatal(err)
		}
		if b.String() != want {
			t.Errorf("%d lines: %q, want %q", lines, b.String(), want)
		}
	}
}
