package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/deploy/local/stack"
	"github.com/tocsin-io/tocsin/pkg/kafka"
)

// World is the stack that a scenario runs on. The scenario brings it up; the caller made it and takes it down.
type World struct {
	Stack *stack.Stack
	// Bin is the folder of the built binaries; the stack's.
	Bin     string
	watched map[string]int // processes that must stay the ones they are

	// Progress gets a line for each step. nil: silent.
	Progress func(string)
}

// NewWorld is a world on s, whose binaries are in bin (empty: the repository's).
func NewWorld(s *stack.Stack, bin string, progress func(string)) (*World, error) {
	if bin == "" {
		dir, err := os.Getwd()
		if err != nil {
			return nil, err
		}
		for !exists(filepath.Join(dir, "go.work")) {
			parent := filepath.Dir(dir)
			if parent == dir {
				return nil, errors.New("no go.work in this folder or above it")
			}
			dir = parent
		}
		bin = filepath.Join(dir, "bin")
	}
	bin, err := filepath.Abs(bin)
	return &World{Stack: s, Bin: bin, Progress: progress}, err
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func (w *World) say(format string, args ...any) {
	if w.Progress != nil {
		w.Progress(fmt.Sprintf(format, args...))
	}
}

// withEnv sets environment variables, which services started from now on see, until undo is called.
func withEnv(vars map[string]string) (undo func(), err error) {
	old := map[string]*string{}
	undo = func() {
		for k, v := range old {
			if v == nil {
				err = errors.Join(err, os.Unsetenv(k))
			} else {
				err = errors.Join(err, os.Setenv(k, *v))
			}
		}
	}
	for k, v := range vars {
		if was, ok := os.LookupEnv(k); ok {
			old[k] = &was
		} else {
			old[k] = nil
		}
		if err := os.Setenv(k, v); err != nil {
			undo()
			return nil, err
		}
	}
	return undo, nil
}

func (w *World) client(opts ...kgo.Opt) (*kgo.Client, error) {
	base, err := kafka.Config{Brokers: w.Stack.Brokers()}.Options(zap.NewNop())
	if err != nil {
		return nil, err
	}
	return kgo.NewClient(append(base, opts...)...)
}

// producer is a client for pre-made records: large batches, so that it takes little of the machine.
func (w *World) producer(linger time.Duration) (*kgo.Client, error) {
	return w.client(kgo.ProducerBatchCompression(kgo.Lz4Compression()), kgo.ProducerLinger(linger), kgo.MaxBufferedRecords(50_000),
		kgo.ProducerBatchMaxBytes(8<<20))
}

func (w *World) url(service, path string) string { return "http://" + w.Stack.Addr(service) + path }

func get(ctx context.Context, url string) (int, []byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return 0, nil, err
	}
	// No idle connection keeps a stopping server waiting.
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 30 * time.Second}
	res, err := client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(res.Body, 32<<20))
	return res.StatusCode, body, err
}

// metrics reads a service's metrics whose names begin with prefix.
func (w *World) metrics(ctx context.Context, service, prefix string) (map[string]float64, error) {
	_, body, err := get(ctx, w.url(service, "/metrics"))
	if err != nil {
		return nil, fmt.Errorf("metrics of %s: %w", service, err)
	}
	out := map[string]float64{}
	for _, line := range strings.Split(string(body), "\n") {
		if !strings.HasPrefix(line, prefix) {
			continue
		}
		at := strings.LastIndexByte(line, ' ')
		var v float64
		if _, err := fmt.Sscan(line[at+1:], &v); err == nil {
			out[line[:at]] = v
		}
	}
	return out, nil
}

// watch notes the services' processes: a wait ends at once when one of them is no longer there.
func (w *World) watch(pids map[string]int) { w.watched = pids }

// gone names a watched process that has ended.
func (w *World) gone() error {
	for name, pid := range w.watched {
		if !exists(fmt.Sprintf("/proc/%d/stat", pid)) {
			var b strings.Builder
			_ = w.Stack.Logs(context.Background(), &b, name, 2, false) // only to say why
			return fmt.Errorf("%s has ended: %s", name, strings.TrimSpace(b.String()))
		}
	}
	return nil
}

// until polls done until it says true; the error says what was waited for.
func (w *World) until(ctx context.Context, patience time.Duration, what string, done func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		ok, err := done()
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		if ok {
			return nil
		}
		if err := w.gone(); err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("after %s still not: %s: %w", patience, what, ctx.Err())
		case <-tick.C:
		}
	}
}

// ends are the offsets behind the last record of each partition, aborted or open ones included.
func ends(ctx context.Context, cl *kgo.Client, topic string) (map[int32]int64, error) {
	list, err := kadm.NewClient(cl).ListEndOffsets(ctx, topic)
	if err != nil {
		return nil, fmt.Errorf("ends of %s: %w", topic, err)
	}
	out := map[int32]int64{}
	list.Each(func(o kadm.ListedOffset) { err = errors.Join(err, o.Err); out[o.Partition] = o.Offset })
	return out, err
}

// consumed tells whether the group has committed up to the ends of the topic.
func consumed(ctx context.Context, cl *kgo.Client, group, topic string, to map[int32]int64) (bool, error) {
	at, err := kadm.NewClient(cl).FetchOffsets(ctx, group)
	if err != nil {
		return false, nil //nolint:nilerr // a coordinator that moves or loads is asked again
	}
	for p, end := range to {
		o, ok := at.Lookup(topic, p)
		if end > 0 && (!ok || o.At < end) {
			return false, nil
		}
	}
	return true, nil
}

// scan reads a topic's committed records from the given offsets (nil: the start) to where it ends now, a partition's in order. each gets
// control records too.
func (w *World) scan(ctx context.Context, topic string, from map[int32]int64, each func(*kgo.Record) error) error {
	cl, err := w.client()
	if err != nil {
		return err
	}
	defer cl.Close()
	to, err := ends(ctx, cl, topic)
	if err != nil {
		return err
	}
	starts, err := kadm.NewClient(cl).ListStartOffsets(ctx, topic)
	if err != nil {
		return err
	}
	parts := map[int32]kgo.Offset{}
	for p, end := range to {
		at := from[p]
		if o, ok := starts.Lookup(topic, p); ok {
			at = max(at, o.Offset)
		}
		if at < end {
			parts[p] = kgo.NewOffset().At(at)
		}
	}
	if len(parts) == 0 {
		return nil
	}
	reader, err := w.client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: parts}), kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.KeepControlRecords(), kgo.FetchMaxBytes(32<<20), kgo.FetchMaxPartitionBytes(8<<20), kgo.FetchMaxWait(100*time.Millisecond))
	if err != nil {
		return err
	}
	defer reader.Close()
	left := len(parts)
	for left > 0 {
		fs := reader.PollFetches(ctx)
		if err := fs.Err0(); err != nil {
			return err
		}
		for _, e := range fs.Errors() {
			return fmt.Errorf("%s[%d]: %w", e.Topic, e.Partition, e.Err)
		}
		var failed error
		fs.EachRecord(func(r *kgo.Record) {
			if failed != nil || r.Offset >= to[r.Partition] {
				return
			}
			failed = each(r)
			if r.Offset == to[r.Partition]-1 {
				left--
			}
		})
		if failed != nil {
			return failed
		}
	}
	return nil
}

// lakeDir is where the S3 server keeps the objects as plain files.
func (w *World) lakeDir() string {
	return filepath.Join(filepath.Dir(w.Stack.ConfigFile()), "data", "s3", "buckets", stack.Bucket)
}
