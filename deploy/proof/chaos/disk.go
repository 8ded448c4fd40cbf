package chaos

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/tocsin-io/tocsin/deploy/proof/history"
)

// fill takes all space of the file system that holds dir, until the returned function gives it back.
func fill(dir string) (free func() error, err error) {
	path := filepath.Join(dir, "filler")
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	free = func() error { return os.Remove(path) }
	block := make([]byte, 1<<20)
	for len(block) > 0 {
		if _, err := f.Write(block); errors.Is(err, syscall.ENOSPC) {
			block = block[:len(block)/2] // to the last byte
			continue
		} else if err != nil {
			return nil, errors.Join(err, f.Close(), free())
		}
	}
	return free, f.Close()
}

// fullBrokerDisk fills the broker's disk. Kafka ends itself then; the gateway must refuse, clearly. When there is space again the
// broker starts again, and everything must flow.
func (w *world) fullBrokerDisk() fault {
	var free func() error
	f := fault{row: "disk full: broker", what: "disk of kafka-1 is full", hold: 5 * time.Second, target: 30 * time.Second}
	f.inject = func(context.Context) (err error) {
		free, err = fill(filepath.Dir(w.disks["kafka-1"]))
		return err
	}
	f.during = func() []condition { return []condition{w.refuses()} }
	f.heal = func(ctx context.Context) error {
		if err := free(); err != nil {
			return err
		}
		if err := w.stack.Kill("kafka-1", syscall.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return err
		}
		return w.stack.Start(ctx, "kafka-1")
	}
	f.recovered = w.flows
	return f
}

// fullLakeDisk fills the S3 server's disk: puts fail, nothing is lost, and what waited is stored when there is space.
func (w *world) fullLakeDisk() fault {
	var free func() error
	f := fault{row: "disk full: S3", what: "disk of s3 is full", hold: 10 * time.Second, target: 30 * time.Second}
	f.inject = func(context.Context) (err error) {
		free, err = fill(filepath.Dir(w.disks["s3"]))
		return err
	}
	f.during = func() []condition { return []condition{w.writerComplains()} }
	f.heal = func(context.Context) error { return free() }
	f.recovered = func() []condition { return w.serves(writer) }
	return f
}

// writerComplains holds when a writer is not ready, and says why.
func (w *world) writerComplains() condition {
	return func(ctx context.Context) string {
		for _, name := range pair(writer) {
			if err := ready(ctx, w.watch.http, w.stack.Addr(name)); err != nil {
				return ""
			}
		}
		return "both writers call themselves ready although nothing can be stored"
	}
}

// refuses holds when the gateway answers a frame with 503 or 429 and says when to come again.
func (w *world) refuses() condition {
	// A gateway_id of its own: the frame may come to stand in Kafka although nobody was told so, as the ledger knows.
	probe := &edge{id: "probe"}
	m := &machine{id: "probe-1", seq: uint64(time.Now().UnixNano())}
	client := &http.Client{Timeout: 15 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	return func(ctx context.Context) string {
		m.seq++
		body, err := proto.Marshal(measure(probe, m, time.Now(), 0, w.cfg.Fleet))
		if err != nil {
			return err.Error()
		}
		ref := history.FrameRef{Gateway: probe.id, Equipment: m.id, Sequence: m.seq}
		w.ledger.Sent(ref)
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+w.stack.Addr(gateway)+"/v1/frames", bytes.NewReader(body))
		if err != nil {
			return err.Error()
		}
		req.Header.Set("Content-Type", "application/x-protobuf")
		resp, err := client.Do(req)
		if err != nil {
			return fmt.Sprintf("the gateway does not answer: %v", err)
		}
		defer resp.Body.Close()
		_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, 1<<20))
		switch {
		case resp.StatusCode/100 == 2:
			w.ledger.Acked(ref)
			return "the gateway still takes frames"
		case resp.StatusCode != http.StatusServiceUnavailable && resp.StatusCode != http.StatusTooManyRequests:
			return "the gateway answers " + resp.Status
		case resp.Header.Get("Retry-After") == "":
			return "the gateway refuses without Retry-After"
		}
		return ""
	}
}

// smallDisk mounts a file system of its own on dir; needs root.
func smallDisk(dir string, bytes int) (unmount func() error, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	if err := mountMemory(dir, bytes); err != nil {
		return nil, fmt.Errorf("NOT PROVEN HERE: a small disk cannot be mounted (it takes root): %w", err)
	}
	return func() error { return unmountMemory(dir) }, nil
}
