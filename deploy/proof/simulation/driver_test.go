package simulation_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/tocsin-io/tocsin/deploy/proof/simulation"
)

// A child process plays one task: its environment holds the task and where the result goes.
const (
	envTask   = "TOCSIN_SIM_TASK"
	envResult = "TOCSIN_SIM_RESULT"
)

// TestChild plays the task of a child process. In the parent there is nothing to do.
func TestChild(t *testing.T) {
	spec := os.Getenv(envTask)
	if spec == "" {
		return
	}
	var task simulation.Task
	if err := json.Unmarshal([]byte(spec), &task); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		simulation.Play(task, func(r *simulation.Result) {
			b, err := json.Marshal(r)
			if err == nil {
				err = os.WriteFile(os.Getenv(envResult), b, 0o600)
			}
			if err != nil {
				t.Error(err)
			}
		})
	})
}

// driver starts children.
type driver struct {
	binary  string
	dir     string
	timeout time.Duration // of one child, on the host's clock
}

var building struct {
	sync.Once
	binary string
	err    error
}

// newDriver finds the binary for children: this one, or the same tests built with the tag that they need.
func newDriver(t *testing.T) *driver {
	t.Helper()
	d := &driver{dir: scratch(t), timeout: 5 * time.Minute}
	if raceDetector {
		d.timeout = 15 * time.Minute
	}
	if inBubbles {
		var err error
		if d.binary, err = os.Executable(); err != nil {
			t.Fatal(err)
		}
		return d
	}
	building.Do(func() {
		dir, err := os.MkdirTemp("", "tocsin-simulation-")
		if err != nil {
			building.err = err
			return
		}
		building.binary = filepath.Join(dir, "simulation.test")
		args := []string{"test", "-c", "-tags", "synctests", "-o", building.binary}
		if raceDetector {
			args = append(args, "-race")
		}
		out, err := exec.Command("go", append(args, ".")...).CombinedOutput()
		if err != nil {
			building.err = fmt.Errorf("go %v: %w\n%s", args, err, out)
		}
	})
	if building.err != nil {
		t.Fatal(building.err)
	}
	d.binary = building.binary
	return d
}

// scratch is a directory in memory where there is one: lakes are synced to disk file by file.
func scratch(t *testing.T) string {
	t.Helper()
	root := ""
	if info, err := os.Stat("/dev/shm"); err == nil && info.IsDir() {
		root = "/dev/shm"
	}
	dir, err := os.MkdirTemp(root, "tocsin-simulation-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// play runs the task in a child. What went wrong with the child itself is in the result too.
func (d *driver) play(ctx context.Context, task simulation.Task) *simulation.Result {
	broken := func(format string, args ...any) *simulation.Result {
		return &simulation.Result{Seed: task.Seed, Scenario: task.Scenario, Broken: fmt.Sprintf(format, args...)}
	}
	dir, err := os.MkdirTemp(d.dir, "run-")
	if err != nil {
		return broken("%v", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	task.Dir = filepath.Join(dir, "world")
	if err := os.Mkdir(task.Dir, 0o700); err != nil {
		return broken("%v", err)
	}
	result := filepath.Join(dir, "result.json")
	spec, err := json.Marshal(task)
	if err != nil {
		return broken("%v", err)
	}
	ctx, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, d.binary, "-test.run=^TestChild$", "-test.timeout=0", "-test.count=1")
	cmd.Env = append(os.Environ(), envTask+"="+string(spec), envResult+"="+result, "GOMAXPROCS=1", "GOGC=400", "GOTRACEBACK=all")
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGQUIT) } // its stacks tell where it hangs
	cmd.WaitDelay = 10 * time.Second
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	runErr := cmd.Run()
	b, err := os.ReadFile(result)
	r := new(simulation.Result)
	if err == nil {
		err = json.Unmarshal(b, r)
	}
	switch {
	case errors.Is(ctx.Err(), context.DeadlineExceeded) && r.Broken == "":
		name := filepath.Join(os.TempDir(), fmt.Sprintf("tocsin-simulation-hang-%s-%d.txt", task.Scenario, task.Seed))
		_ = os.WriteFile(name, out.Bytes(), 0o600)
		if err != nil {
			r = broken("")
		}
		r.Broken = fmt.Sprintf("the bubble hangs (no end within %s on the host's clock); stacks: %s", d.timeout, name)
	case err != nil:
		return broken("the child ended with %v and no result: %s", runErr, tail(out.Bytes()))
	case runErr != nil && r.Broken == "":
		r.Broken = fmt.Sprintf("the child ended with %v: %s", runErr, tail(out.Bytes()))
	}
	return r
}

func tail(b []byte) []byte { return b[:min(len(b), 3000)] }

// playAll runs tasks side by side and gives each result to each as it comes, one at a time.
func (d *driver) playAll(ctx context.Context, until <-chan time.Time, tasks []simulation.Task, each func(*simulation.Result)) {
	next := make(chan simulation.Task)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for t := range next {
				r := d.play(ctx, t)
				mu.Lock()
				each(r)
				mu.Unlock()
			}
		})
	}
	defer wg.Wait()
	defer close(next)
	for _, t := range tasks {
		select {
		case next <- t:
		case <-until:
			return
		}
	}
}
