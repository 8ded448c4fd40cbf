package cli_test

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/tocsin-io/tocsin/pkg/launch"
	"github.com/tocsin-io/tocsin/services/all-in-one/internal/backtest"
	"github.com/tocsin-io/tocsin/services/all-in-one/internal/cli"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files instead of comparing with them")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func tocsin(args ...string) (code int, stdout, stderr string) {
	var out, err bytes.Buffer
	code = cli.Main(args, &out, &err)
	return code, out.String(), err.String()
}

func TestHelp(t *testing.T) {
	commands := []string{"", "run", "simulate", "replay", "backtest", "replay-alert", "validate", "doctor", "dlq", "dlq list", "dlq show", "dlq retry", "lake", "lake audit", "lake files", "models", "models train", "models list", "models show", "models promote", "models shadow", "models compare", "models score", "sql", "version"}
	commands = append(commands, "alerts", "alerts list", "alerts show", "alerts journal", "alerts figures", "alerts routes test", "alerts ack", "alerts shelve",
		"alerts unshelve", "alerts remove", "alerts return", "alerts verdict", "alerts oncall")
	for _, command := range commands {
		t.Run("tocsin "+command, func(t *testing.T) {
			code, got, stderr := tocsin(append(strings.Fields(command), "--help")...)
			if code != launch.ExitOK || stderr != "" {
				t.Errorf("exit %d, stderr %q", code, stderr)
			}
			golden := filepath.Join("testdata", strings.Join(append([]string{"tocsin"}, strings.Fields(command)...), "-")+".txt")
			if *rewrite {
				if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
				return
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatalf("%v; make it with go test ./internal/cli -rewrite", err)
			}
			if got != string(want) {
				t.Errorf("the help differs from %s (go test ./internal/cli -rewrite takes it over):\n%s", golden, got)
			}
		})
	}
}

func TestAWrongCommandLineExitsWith2(t *testing.T) {
	dir := t.TempDir()
	some := write(t, dir, "some.csv", "time,v\n2020-01-01,1\n")
	for _, c := range []struct{ line, says string }{
		{"watch", `unknown command "watch"`},
		{"run --no-such-flag", "--no-such-flag"},
		{"run now", `"now"`},
		{"run --simulate many", `"many"`},
		{"run --target stream-procesor --data-dir " + dir, `no service is called "stream-procesor"`},
		{"validate", `"config"`},
		{"lake files", "arg"},
		{"lake files readings --from yesterday --data-dir " + dir, "--from is neither a day"},
		{"backtest --input x.csv", `"output"`},
		{"backtest --input " + some + " --output " + dir + "/o.csv --train " + some + " --train-rows 1", "give one of them"},
		{"replay --input " + dir + "/*.nothing", "no such file"},
		{"backtest --input " + some + " --output o --faults f", "--compare or --report"},
		{"backtest --input " + some + " --output o --compare c --equipment-column v", "one machine"},
		{"backtest --input " + some + " --report r --label-column v --faults f", "give one of them"},
		{"backtest --input kafka://x/y --output o", "--output"},
		{"backtest --input " + some + " --report r --grace -1s", "--grace"},
		{"backtest --input " + some + " --compare " + some, "some.csv"},
		{"backtest --input " + some + " --input " + some + " --output o", "these are 2"},
		{"replay-alert", "accepts 1 arg"},
		{"replay-alert pump-1", "names no alert"},
		{"replay --input [", "--input"},
		{"simulate --machines 0", "fleet_simulator.machines"},
		{"dlq list --topic telemetry.frams.v1", `--topic: "telemetry.frams.v1"`},
		{"dlq list --consumer nobody", "--consumer"},
		{"dlq list --since yesterday", "--since"},
		{"dlq list --since -2h", "--since"},
		{"dlq list --output yaml", "--output"},
		{"dlq list --limit -1", "--limit"},
		{"dlq show", "arg"},
		{"dlq show telemetry.frames.v1/x/1", "the partition"},
		{"dlq retry", "--all"},
		{"dlq retry --all telemetry.frames.v1/1/1", "--all"},
		{"dlq retry nonsense", "nonsense"},
		{"dlq retry --all --max-attempts 0", "--max-attempts"},
	} {
		code, stdout, stderr := tocsin(strings.Fields(c.line)...)
		if code != launch.ExitConfig || !strings.Contains(stderr, c.says) || !strings.HasPrefix(stderr, "tocsin: ") || stdout != "" {
			t.Errorf("tocsin %s: exit %d, stdout %q, stderr %q; want 2 and %q", c.line, code, stdout, stderr, c.says)
		}
	}
}

func write(t *testing.T, dir, name, text string) string {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestValidate(t *testing.T) {
	dir := t.TempDir()
	good := write(t, dir, "good.yaml", "kafka:\n  partitions: 6\nstream_processor:\n  detection:\n    window_length: 10s\n")
	code, stdout, stderr := tocsin("validate", "--config", good)
	if code != launch.ExitOK || stdout != good+": good\n" || stderr != "" {
		t.Errorf("exit %d, stdout %q, stderr %q", code, stdout, stderr)
	}
	for name, c := range map[string]struct {
		yaml string
		line int
		says string
	}{
		"an unknown section": {"kafka:\n  partitions: 6\nkafak:\n  partitions: 6\n", 3, "kafak"},
		"an unknown key":     {"kafka:\n  partitions: 6\n  partitons: 6\n", 3, "kafka.partitons"},
		"not a duration":     {"stream_processor:\n  commit_interval: soon\n", 2, "stream_processor.commit_interval"},
		"a bad value":        {"log:\n  level: info\nstream_processor:\n  http:\n    listen: 127.0.0.1:0\n  commit_interval: 1h\n", 6, "stream_processor.commit_interval"},
		"deep down":          {"stream_processor:\n  detection:\n    detect:\n      limits:\n        - sensor: a\n          high_warning: .nan\n", 6, "stream_processor.detection.detect.limits[0].high_warning"},
		"the broker's":       {"broker:\n  listen: 0.0.0.0:9092\n", 2, "broker.listen"},
		"no YAML":            {"kafka: [\n", 0, "yaml"},
	} {
		t.Run(name, func(t *testing.T) {
			bad := write(t, t.TempDir(), "bad.yaml", c.yaml)
			code, _, stderr := tocsin("validate", "--config", bad)
			at := bad
			if c.line > 0 {
				at = fmt.Sprintf("%s:%d: ", bad, c.line)
			}
			if code != launch.ExitConfig || !strings.Contains(stderr, at) || !strings.Contains(stderr, c.says) {
				t.Errorf("exit %d, stderr %q; want 2, %q and %q", code, stderr, at, c.says)
			}
		})
	}
	if code, _, stderr := tocsin("validate", "--config", filepath.Join(dir, "none.yaml")); code != launch.ExitConfig || !strings.Contains(stderr, "none.yaml") {
		t.Errorf("a file that is not there: exit %d, stderr %q", code, stderr)
	}
}

func TestBacktest(t *testing.T) {
	dir := t.TempDir()
	in := write(t, dir, "in.csv", "when;a;label\n2020-01-01 00:00:00;1;0\n2020-01-01 00:00:01;2;0\n")
	out := filepath.Join(dir, "out.csv")
	code, stdout, stderr := tocsin("backtest", "--input", in, "--output", out, "--ignore-columns", "label")
	if code != launch.ExitOK || stderr != "" || stdout != "2 rows of 1 sensors (time from when), 0 flagged\n" {
		t.Errorf("exit %d, stdout %q, stderr %q", code, stdout, stderr)
	}
	b, err := os.ReadFile(out)
	if err != nil || !strings.HasPrefix(string(b), backtest.Header) || strings.Count(string(b), "\n") != 3 {
		t.Errorf("%q, %v", b, err)
	}
	if code, _, stderr := tocsin("backtest", "--input", filepath.Join(dir, "none.csv"), "--output", out); code != launch.ExitFailed || !strings.Contains(stderr, "none.csv") {
		t.Errorf("no input: exit %d, stderr %q", code, stderr)
	}
}

func TestReferenceAndVersion(t *testing.T) {
	code, stdout, _ := tocsin("reference")
	for _, want := range []string{"# Configuration", "## `broker`", "`detection.window_length`"} {
		if code != launch.ExitOK || !strings.Contains(stdout, want) {
			t.Errorf("exit %d; the reference does not hold %q", code, want)
		}
	}
	if code, stdout, _ := tocsin("version"); code != launch.ExitOK || !strings.HasPrefix(stdout, "tocsin ") {
		t.Errorf("version: exit %d, %q", code, stdout)
	}
}

// output can be read while it is written.
type output struct {
	mu    sync.Mutex
	b     bytes.Buffer
	ready chan struct{} // closed when the fleet says that it is
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	was := strings.Contains(o.b.String(), "Ctrl-C stops.")
	n, err := o.b.Write(p)
	if !was && strings.Contains(o.b.String(), "Ctrl-C stops.") {
		close(o.ready)
	}
	return n, err
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

func TestRunUntilCtrlC(t *testing.T) {
	dir := t.TempDir()
	var yaml strings.Builder
	yaml.WriteString("kafka: {partitions: 2}\nlog: {level: error}\nbroker: {listen: 127.0.0.1:0}\ningest_gateway: {http: {listen: 127.0.0.1:0}, grpc: {listen: 127.0.0.1:0}}\nrealtime_api: {http: {listen: 127.0.0.1:0}, grpc: {listen: 127.0.0.1:0}}\n")
	for _, s := range []string{"stream_processor", "alert_router", "cold_path_writer", "historical_api", "model_trainer", "tuning_bench"} {
		fmt.Fprintf(&yaml, "%s: {http: {listen: 127.0.0.1:0}}\n", s)
	}
	file := write(t, dir, "tocsin.yaml", yaml.String())
	stdout, stderr := &output{ready: make(chan struct{})}, &output{ready: make(chan struct{})}
	code := make(chan int, 1)
	go func() {
		code <- cli.Main([]string{"run", "--config", file, "--data-dir", filepath.Join(dir, "data"), "--simulate", "2", "--faults", "none"}, stdout, stderr)
	}()
	select {
	case <-stdout.ready:
	case c := <-code:
		t.Fatalf("exit %d: %s", c, stderr)
	case <-time.After(time.Minute):
		t.Fatalf("not ready: %s", stderr)
	}
	if err := syscall.Kill(os.Getpid(), syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	select {
	case c := <-code:
		if c != launch.ExitOK {
			t.Errorf("exit %d: %s", c, stderr)
		}
	case <-time.After(time.Minute):
		t.Fatal("it does not stop")
	}
	for _, want := range []string{"Live page", "Send frames to", "Kafka (embedded)", "True faults", "stopped\n"} {
		if !strings.Contains(stdout.String(), want) {
			t.Errorf("it does not say %q:\n%s", want, stdout)
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "data", "kafka")); err != nil {
		t.Error(err)
	}
}
