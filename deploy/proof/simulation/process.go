package simulation

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/tocsin-io/tocsin/deploy/proof/simulation/memnet"
	"github.com/tocsin-io/tocsin/pkg/service"
)

// logLines is how many of its last log lines a process keeps for a diagnosis.
const logLines = 60

// process is one instance of a service under an orchestrator: it is started again whenever it ends.
type process struct {
	w    *World
	kind string // gateway, processor, writer, router
	name string
	// make builds one incarnation.
	make func(*incarnation) (service.Runner, error)
	log  *tail

	mu      sync.Mutex
	current *incarnation
	count   int
	paused  bool // not to be started again until start
	wake    chan struct{}
}

// incarnation is one life of a process.
type incarnation struct {
	p      *process
	number int
	node   *memnet.Node
	log    *zap.Logger
	cancel context.CancelFunc
	runner service.Runner
	done   chan struct{}
	err    error // of Run, once done is closed

	mu     sync.Mutex
	killed bool
	onKill []func()
}

func (w *World) spawn(kind, name string, build func(*incarnation) (service.Runner, error)) *process {
	p := &process{w: w, kind: kind, name: name, make: build, log: &tail{who: name, trace: w.trace}, wake: make(chan struct{}, 1)}
	w.processes = append(w.processes, p)
	w.running.Go(func() { p.supervise(w.ctx) })
	return p
}

// supervise keeps the process running until ctx ends, and then drains it.
func (p *process) supervise(ctx context.Context) {
	for {
		p.mu.Lock()
		paused := p.paused
		p.mu.Unlock()
		if paused {
			select {
			case <-p.wake:
				continue
			case <-ctx.Done():
				return
			}
		}
		inc := p.begin()
		select {
		case <-inc.done:
		case <-ctx.Done():
			inc.cancel()
			<-inc.done
			return
		}
		if ctx.Err() != nil {
			return
		}
		select {
		case <-p.wake:
		case <-time.After(p.w.restartDelay()):
		case <-ctx.Done():
			return
		}
	}
}

// begin starts an incarnation. Its done is closed when Run has returned, or when it was killed: who was killed is not waited for.
func (p *process) begin() *incarnation {
	p.mu.Lock()
	p.count++
	inc := &incarnation{p: p, number: p.count, node: p.w.net.Node(p.name), done: make(chan struct{})}
	p.current = inc
	p.mu.Unlock()
	inc.log = zap.New(p.log.core(fmt.Sprintf("%s#%d", p.name, inc.number)))
	ctx, cancel := context.WithCancel(context.WithoutCancel(p.w.ctx))
	inc.cancel = cancel
	began := time.Now()
	p.w.running.Go(func() {
		err := inc.run(ctx)
		inc.mu.Lock()
		killed := inc.killed
		inc.err = err
		if !killed {
			close(inc.done)
		}
		inc.mu.Unlock()
		if err != nil && !killed {
			p.w.exited(p, time.Since(began), err)
		}
	})
	p.w.running.Go(func() { p.w.watchReady(inc, began) })
	return inc
}

func (inc *incarnation) run(ctx context.Context) error {
	r, err := inc.p.make(inc)
	if err != nil {
		return fmt.Errorf("new: %w", err)
	}
	inc.mu.Lock()
	inc.runner = r
	inc.mu.Unlock()
	err = r.Run(ctx)
	_ = r.Close()
	inc.node.Close() // a process that has ended keeps no connections
	return err
}

func (inc *incarnation) ready() error {
	inc.mu.Lock()
	r := inc.runner
	inc.mu.Unlock()
	if r == nil {
		return errors.New("not made yet")
	}
	return r.Ready()
}

// atKill has f called when the incarnation is killed.
func (inc *incarnation) atKill(f func()) {
	inc.mu.Lock()
	defer inc.mu.Unlock()
	if inc.killed {
		f()
		return
	}
	inc.onKill = append(inc.onKill, f)
}

// kill is a kill -9: nothing that this incarnation still does is seen by anybody. It is started again after the restart delay.
func (p *process) kill() bool {
	p.mu.Lock()
	inc := p.current
	p.mu.Unlock()
	return inc != nil && inc.kill()
}

func (inc *incarnation) kill() bool {
	inc.mu.Lock()
	defer inc.mu.Unlock()
	select {
	case <-inc.done:
		return false
	default:
	}
	if inc.killed {
		return false
	}
	inc.killed = true
	inc.node.Kill()
	for _, f := range inc.onKill {
		f()
	}
	inc.cancel()
	inc.p.w.killed(inc.p, inc.node)
	close(inc.done)
	return true
}

// stop ends the process gracefully; it stays away until start when it is to stay.
func (p *process) stop(stay bool) {
	p.mu.Lock()
	p.paused = stay
	inc := p.current
	p.mu.Unlock()
	if inc != nil {
		inc.cancel()
	}
}

// start lets it begin again, at once.
func (p *process) start() {
	p.mu.Lock()
	p.paused = false
	p.mu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

func (p *process) ready() error {
	p.mu.Lock()
	inc := p.current
	p.mu.Unlock()
	if inc == nil {
		return errors.New("not started")
	}
	return inc.ready()
}

// tail keeps the last lines of a process's log.
type tail struct {
	who   string
	trace *trace
	mu    sync.Mutex
	lines []string
}

// Write implements io.Writer; each call is one line.
func (t *tail) Write(b []byte) (int, error) {
	t.trace.add(t.who, "%s", strings.TrimSuffix(string(b), "\n"))
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.lines) >= logLines {
		copy(t.lines, t.lines[1:])
		t.lines = t.lines[:logLines-1]
	}
	t.lines = append(t.lines, strings.TrimSuffix(string(b), "\n"))
	return len(b), nil
}

// Sync implements zapcore.WriteSyncer.
func (t *tail) Sync() error { return nil }

func (t *tail) last(n int) []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return append([]string(nil), t.lines[max(0, len(t.lines)-n):]...)
}

func (t *tail) core(who string) zapcore.Core {
	enc := zapcore.NewConsoleEncoder(zapcore.EncoderConfig{
		TimeKey: "t", LevelKey: "l", MessageKey: "m", NameKey: "n",
		EncodeTime: func(at time.Time, e zapcore.PrimitiveArrayEncoder) {
			e.AppendString(at.UTC().Format("15:04:05.000") + " " + who)
		},
		EncodeLevel:    zapcore.LowercaseLevelEncoder,
		EncodeDuration: zapcore.StringDurationEncoder,
		EncodeName:     zapcore.FullNameEncoder,
	})
	level := zapcore.InfoLevel
	if debugLogs {
		level = zapcore.DebugLevel
	}
	return zapcore.NewCore(enc, t, level)
}
