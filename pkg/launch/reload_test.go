package launch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/tocsin-io/tocsin/pkg/service"
)

type clockwork struct {
	Every int `mapstructure:"every"`
}

func (c clockwork) Validate() error {
	if c.Every < 0 {
		return errors.New("every: must not be negative")
	}
	return nil
}

// clock is a service that takes a configuration while it runs.
type clock struct {
	running chan struct{}
	took    chan clockwork
}

func (c *clock) Run(ctx context.Context) error {
	close(c.running)
	<-ctx.Done()
	return nil
}
func (c *clock) Ready() error { return nil }
func (c *clock) Close() error { return nil }
func (c *clock) Reconfigure(cfg clockwork) error {
	c.took <- cfg
	return nil
}

// SIGHUP gives a service its section of the file anew; a file that is wrong gives it nothing.
func TestReloadReadsTheFileAgain(t *testing.T) {
	file := filepath.Join(t.TempDir(), "tocsin.yaml")
	write := func(yaml string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("clock: {every: 1}\n")
	c := &clock{running: make(chan struct{}), took: make(chan clockwork, 1)}
	done := make(chan int, 1)
	go func() {
		done <- Main(Service[clockwork]{
			Name: "clock", Section: "clock", New: func(clockwork, service.Deps) (service.Runner, error) { return c, nil },
		}, []string{"--config", file}, io.Discard, io.Discard)
	}()
	<-c.running
	signal := func(s os.Signal) {
		t.Helper()
		self, err := os.FindProcess(os.Getpid())
		if err == nil {
			err = self.Signal(s)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []int{2, 3} {
		write(fmt.Sprintf("clock: {every: %d}\n", want))
		signal(syscall.SIGHUP)
		select {
		case got := <-c.took:
			if got.Every != want {
				t.Errorf("took %d, want %d", got.Every, want)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("nothing came")
		}
	}
	r := &reloading[clockwork]{Runner: c, to: c, reread: func() (clockwork, error) { return clockwork{}, errors.New("every: is wrong") }}
	if err := r.Reload(); err == nil || len(c.took) != 0 {
		t.Errorf("%v, %d taken", err, len(c.took))
	}
	signal(syscall.SIGTERM)
	if code := <-done; code != ExitOK {
		t.Errorf("exit code %d", code)
	}
}
