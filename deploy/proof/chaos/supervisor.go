package chaos

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"sync"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/deploy/local/stack"
)

// supervisor does what an orchestrator does: a service that has ended, for whatever reason, is started again at once.
type supervisor struct {
	stack *stack.Stack
	log   *zap.Logger
	wg    sync.WaitGroup
	stop  context.CancelFunc

	mu        sync.Mutex
	instances map[string]*instance
}

type instance struct {
	held    chan struct{} // not nil: must not run until it is closed
	killed  int           // deaths that were asked for
	deaths  int
	reasons []string
}

// restartPause keeps a service that cannot start from using up the machine.
const restartPause = 100 * time.Millisecond

func supervise(s *stack.Stack, log *zap.Logger, names []string) *supervisor {
	ctx, stop := context.WithCancel(context.Background())
	v := &supervisor{stack: s, log: log, stop: stop, instances: map[string]*instance{}}
	for _, name := range names {
		v.instances[name] = &instance{}
	}
	for _, name := range names { // the map changes no more
		v.wg.Go(func() { v.keep(ctx, name) })
	}
	return v
}

// keep starts one service whenever it does not run.
func (v *supervisor) keep(ctx context.Context, name string) {
	for ctx.Err() == nil {
		v.mu.Lock()
		held := v.instances[name].held
		v.mu.Unlock()
		if held != nil {
			select {
			case <-held:
			case <-ctx.Done():
				return
			}
		}
		err := v.stack.Start(ctx, name)
		// Start's error says that it is not healthy yet, or died on the way. Either is told by Wait.
		if werr := v.stack.Wait(ctx, name); werr != nil {
			return
		}
		v.died(name, err)
		select {
		case <-ctx.Done():
		case <-time.After(restartPause):
		}
	}
}

func (v *supervisor) died(name string, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	in := v.instances[name]
	in.deaths++
	if in.deaths > in.killed {
		in.killed = in.deaths // the next one asked for must not hide one that is not
		reason := fmt.Sprintf("%s ended by itself at %s", name, time.Now().UTC().Format("15:04:05.000"))
		in.reasons = append(in.reasons, reason)
		v.log.Info("a service ended by itself and is started again", zap.String("name", name), zap.Error(err))
	}
}

// signal sends a signal that ends the service, kill -9 or an orderly stop.
func (v *supervisor) signal(name string, sig syscall.Signal) error {
	v.mu.Lock()
	v.instances[name].killed++
	v.mu.Unlock()
	err := v.stack.Kill(name, sig)
	if err != nil {
		v.mu.Lock()
		v.instances[name].killed--
		v.mu.Unlock()
	}
	if errors.Is(err, os.ErrProcessDone) {
		return nil // it was dying anyway
	}
	return err
}

// hold stops a service and keeps it stopped until the returned function is called.
func (v *supervisor) hold(name string, sig syscall.Signal) (release func(), err error) {
	held := make(chan struct{})
	v.mu.Lock()
	v.instances[name].held = held
	v.mu.Unlock()
	var once sync.Once
	release = func() {
		once.Do(func() {
			v.mu.Lock()
			v.instances[name].held = nil
			v.mu.Unlock()
			close(held)
		})
	}
	if err := v.signal(name, sig); err != nil {
		release()
		return nil, err
	}
	return release, nil
}

// exits counts deaths that nobody asked for.
func (v *supervisor) exits() (reasons []string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, in := range v.instances {
		reasons = append(reasons, in.reasons...)
	}
	return reasons
}

// close lets go; the services run on.
func (v *supervisor) close() {
	v.mu.Lock()
	for _, in := range v.instances {
		in.held = nil
	}
	v.mu.Unlock()
	v.stop()
	v.wg.Wait()
}

// ready asks a service.
func ready(ctx context.Context, client *http.Client, addr string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/health/ready", http.NoBody)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", addr, resp.Status)
	}
	return nil
}
