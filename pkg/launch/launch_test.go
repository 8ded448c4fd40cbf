package launch_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/pkg/launch"
	"github.com/tocsin-io/tocsin/pkg/service"
)

// helper says that this process is the service, not the test.
const helper = "LAUNCH_TEST_HELPER"

func TestMain(m *testing.M) {
	if os.Getenv(helper) != "" {
		os.Exit(launch.Main(launch.Service[config]{
			Name: "bell", Section: "bell", Short: "Rings", Default: config{Rate: 1},
			New: func(c config, d service.Deps) (service.Runner, error) { return &bell{c, d}, nil },
		}, os.Args[1:], os.Stdout, os.Stderr))
	}
	goleak.VerifyTestMain(m)
}

type config struct {
	Rate int  `mapstructure:"rate" doc:"How often."`
	Fail bool `mapstructure:"fail" doc:"Break at once."`
}

func (c config) Validate() error {
	if c.Rate < 1 {
		return errors.New("rate: must be 1 or more")
	}
	return nil
}

type bell struct {
	cfg  config
	deps service.Deps
}

func (b *bell) Run(ctx context.Context) error {
	if b.cfg.Fail {
		return errors.New("the rope is torn")
	}
	b.deps.Log.Info("ringing", zap.Int("rate", b.cfg.Rate), zap.String("client", b.deps.Kafka.ClientID))
	<-ctx.Done()
	b.deps.Log.Info("drained")
	return nil
}

func (b *bell) Ready() error  { return nil }
func (b *bell) Close() error  { return nil }
func (b *bell) Reload() error { return errors.New("no new rope") }

func command(t *testing.T, yaml string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if yaml != "" {
		file := filepath.Join(t.TempDir(), "tocsin.yaml")
		if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, "--config", file)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Env = append(os.Environ(), helper+"=1")
	return cmd
}

func TestExitCodes(t *testing.T) {
	for _, c := range []struct {
		name, yaml string
		args       []string
		code       int
		says       []string
	}{
		{"a value out of range", "kafka: {}\nbell:\n  rate: 0\n", nil, launch.ExitConfig, []string{"tocsin.yaml:3", "rate: must be 1 or more"}},
		{"an unknown key", "bell:\n  rate: 2\n  tone: c\n", nil, launch.ExitConfig, []string{"tocsin.yaml:3", "tone"}},
		{"an unknown flag", "", []string{"--loud"}, launch.ExitConfig, []string{"--loud"}},
		{"a service that breaks", "bell: {fail: true}\n", nil, launch.ExitFailed, []string{"the rope is torn"}},
		{"help", "", []string{"--help"}, launch.ExitOK, []string{"Rings", "--config"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, err := command(t, c.yaml, c.args...).CombinedOutput()
			code := 0
			var exit *exec.ExitError
			if errors.As(err, &exit) {
				code = exit.ExitCode()
			} else if err != nil {
				t.Fatal(err)
			}
			if code != c.code {
				t.Errorf("exit code %d, want %d: %s", code, c.code, out)
			}
			for _, part := range c.says {
				if !strings.Contains(string(out), part) {
					t.Errorf("does not say %q: %s", part, out)
				}
			}
		})
	}
}

// A failed reload changes nothing; SIGTERM drains.
func TestSignals(t *testing.T) {
	cmd := command(t, "bell: {rate: 3}\n")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	lines := bufio.NewScanner(io.TeeReader(stderr, &log))
	await := func(part string) {
		t.Helper()
		for lines.Scan() {
			if strings.Contains(lines.Text(), part) {
				return
			}
		}
		_ = cmd.Wait()
		t.Fatalf("never said %q: %s", part, log.String())
	}
	signal := func(s os.Signal) {
		t.Helper()
		if err := cmd.Process.Signal(s); err != nil {
			t.Fatal(err)
		}
	}
	await(`"msg":"ringing","service":"bell","rate":3,"client":"bell"`)
	signal(syscall.SIGHUP)
	await("the old configuration stays")
	signal(syscall.SIGTERM)
	await("drained")
	await("stopped")
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v: %s", err, log.String())
	}
}
