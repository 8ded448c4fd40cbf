package worker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"sync"
	"time"
)

// ErrBusy: as many queries as may run are under way, and one more had to wait too long.
var ErrBusy = errors.New("as many queries as may run are under way")

// ErrNoEngine: the worker's program cannot be started.
var ErrNoEngine = errors.New("the SQL engine cannot be started")

// Answer of a query.
type Answer struct {
	Body []byte
	End
	Peak int64 // most memory that its process held, bytes; 0: not known
}

// Pool starts processes for queries: one each, and one in advance once there has been a query. Safe for concurrent use.
type Pool struct {
	command []string
	env     []string
	slots   chan struct{}
	wait    time.Duration

	ctx    context.Context // ends with Close: every process with it
	cancel context.CancelFunc
	mu     sync.Mutex
	spare  *process
	closed bool
	wg     sync.WaitGroup
}

// NewPool runs at most queries at once; a further one waits for so long. command is the worker's program and its arguments, env its whole environment.
func NewPool(command, env []string, queries int, wait time.Duration) *Pool {
	ctx, cancel := context.WithCancel(context.Background())
	return &Pool{command: command, env: env, slots: make(chan struct{}, queries), wait: wait, ctx: ctx, cancel: cancel}
}

// Close ends all processes and waits for them. Queries under way fail.
func (p *Pool) Close() error {
	p.mu.Lock()
	p.closed = true
	spare := p.spare
	p.spare = nil
	p.mu.Unlock()
	p.cancel()
	if spare != nil {
		spare.end()
	}
	p.wg.Wait()
	return nil
}

// Query runs one query. find gives the files of the tables that it reads; what find's release gives back is held as long as the query runs. An *Error says how the query failed;
// ErrBusy, ErrNoEngine, ctx's error and what find returns come as they are.
func (p *Pool) Query(ctx context.Context, ask Ask, find func(ctx context.Context, tables []string) (files Files, release func(), err error)) (Answer, error) {
	waiting, stop := context.WithTimeout(ctx, p.wait)
	defer stop()
	select {
	case p.slots <- struct{}{}:
	case <-waiting.Done():
		if ctx.Err() != nil {
			return Answer{}, ctx.Err()
		}
		return Answer{}, ErrBusy
	}
	defer func() { <-p.slots }()
	proc, err := p.take()
	if err != nil {
		return Answer{}, err
	}
	defer p.wg.Done()
	p.refill()
	limited, stopLimit := context.WithTimeout(ctx, ask.Limits.Timeout)
	defer stopLimit()
	spare := context.AfterFunc(limited, proc.kill)
	defer spare()
	answer, err := proc.query(limited, ask, find)
	proc.end() // nothing of the query is left after this
	answer.Peak = proc.peak()
	switch {
	case err == nil:
		return answer, nil
	case ctx.Err() != nil:
		return Answer{}, ctx.Err()
	case limited.Err() != nil:
		return answer, &Error{TimedOut, fmt.Sprintf("the query took longer than %s", ask.Limits.Timeout)}
	case p.ctx.Err() != nil:
		return Answer{}, &Error{Broken, "the service is stopping"}
	}
	return answer, err
}

// take gives the process that waits, or a new one; the caller says Done to p.wg.
func (p *Pool) take() (*process, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return nil, fmt.Errorf("%w: the service is stopping", ErrNoEngine)
	}
	if s := p.spare; s != nil && !s.gone() {
		p.spare = nil
		p.wg.Add(1)
		return s, nil
	}
	s, err := p.start()
	if err == nil {
		p.wg.Add(1)
	}
	return s, err
}

// refill starts the next one.
func (p *Pool) refill() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.spare != nil {
		return
	}
	if s, err := p.start(); err == nil { // the next query will say why not
		p.spare = s
	}
}

type process struct {
	cmd    *exec.Cmd
	cancel context.CancelFunc
	in     io.WriteCloser
	out    io.ReadCloser
	errs   *tail
	exited chan struct{}
}

func (p *Pool) start() (*process, error) {
	ctx, cancel := context.WithCancel(p.ctx)
	cmd := exec.CommandContext(ctx, p.command[0], p.command[1:]...) //nolint:gosec // the program is named by the configuration
	s := &process{cmd: cmd, cancel: cancel, errs: &tail{}, exited: make(chan struct{})}
	cmd.Env = p.env
	cmd.Stderr = s.errs
	cmd.WaitDelay = 5 * time.Second
	var err error
	if s.in, err = cmd.StdinPipe(); err == nil {
		s.out, err = cmd.StdoutPipe()
	}
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		cancel()
		return nil, fmt.Errorf("%w: %w", ErrNoEngine, err)
	}
	return s, nil
}

func (s *process) kill() { s.cancel() }

// gone tells whether a process that waits has ended already. It never answers before it is asked, so that can be seen only by its state.
func (s *process) gone() bool { return s.cmd.ProcessState != nil }

// end kills the process and waits for its end. Idempotent.
func (s *process) end() {
	s.cancel()
	_ = s.in.Close()
	_ = s.cmd.Wait() // it was killed
}

func (s *process) peak() int64 { return peakBytes(s.cmd.ProcessState) }

func (s *process) query(ctx context.Context, ask Ask, find func(context.Context, []string) (Files, func(), error)) (Answer, error) {
	if err := sendJSON(s.in, msgAsk, ask); err != nil {
		return Answer{}, s.crashed(err)
	}
	var a Answer
	release := func() {}
	defer func() { release() }()
	for {
		typ, body, err := receive(s.out)
		if err != nil {
			return a, s.crashed(err)
		}
		switch typ {
		case msgTables:
			var tables []string
			if err := unmarshal(body, &tables); err != nil {
				return a, err
			}
			files, done, err := find(ctx, tables)
			if err != nil {
				return a, err
			}
			release = done
			if err := sendJSON(s.in, msgFiles, files); err != nil {
				return a, s.crashed(err)
			}
		case msgData:
			if a.Body = append(a.Body, body...); int64(len(a.Body)) > ask.Limits.Bytes+(1<<20) {
				return a, &Error{TooMuch, "the answer is larger than allowed"}
			}
		case msgEnd:
			if err := unmarshal(body, &a.End); err != nil {
				return a, err
			}
			if a.Error != nil {
				return a, a.Error
			}
			return a, nil
		default:
			return a, &Error{Broken, fmt.Sprintf("message %q from the engine", typ)}
		}
	}
}

// crashed says why a process that ended by itself did so.
func (s *process) crashed(err error) error {
	s.end()
	said := s.errs.String()
	for _, sign := range []string{"out of memory", "bad_alloc", "cannot allocate", "Cannot allocate", "pthread_create failed", "Resource temporarily unavailable"} {
		if strings.Contains(said, sign) {
			return &Error{TooMuch, "the query needs more memory than it may take"}
		}
	}
	return fmt.Errorf("%w (%w): %s", &Error{Crashed, "the query brought the engine down"}, err, said)
}

// tail keeps the beginning of what a process says before it dies: a Go program's first line tells why.
type tail struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.b.Write(p[:min(len(p), max(0, 4096-t.b.Len()))])
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.b.String()
}
