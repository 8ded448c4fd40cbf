package learning

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// trainer is a model-trainer of its own: the service in a process, on a free port of loopback, over a folder that is removed at the end.
type trainer struct {
	base string
	dir  string // holds the files to train from and to predict
	root string
	cmd  *exec.Cmd
	http *http.Client
	done chan struct{} // closed when nothing more comes from the process
}

const startWithin = time.Minute

// start runs `binary run --target model-trainer` until stop.
func start(ctx context.Context, binary string) (*trainer, error) {
	root, err := os.MkdirTemp("", "tocsin-learning-")
	if err != nil {
		return nil, err
	}
	t := &trainer{root: root, dir: filepath.Join(root, "train"), http: &http.Client{Transport: &http.Transport{}}, done: make(chan struct{})}
	config := filepath.Join(root, "tocsin.yaml")
	const text = "log: {format: json}\nmodel_trainer: {http: {listen: \"127.0.0.1:0\"}}\n"
	if err := errors.Join(os.Mkdir(t.dir, 0o700), os.WriteFile(config, []byte(text), 0o600)); err != nil {
		return nil, errors.Join(err, os.RemoveAll(root))
	}
	// stop ends it, not ctx: its folder has to go too. The trainer needs no Kafka; naming a broker keeps the embedded one from being started.
	t.cmd = exec.CommandContext(context.WithoutCancel(ctx), binary, "run", "--target", "model-trainer", "--brokers", "127.0.0.1:9", "--config", config, "--data-dir", root) //nolint:gosec // the binary that was asked for
	out, err := t.cmd.StderrPipe()
	if err == nil {
		err = t.cmd.Start()
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(root))
	}
	found := make(chan string, 1)
	go func() {
		defer close(t.done)
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			var line struct{ Msg, Service, Addr string }
			if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "listening" && line.Service == "model-trainer" {
				select {
				case found <- line.Addr:
				default:
				}
			}
		}
		_, _ = io.Copy(io.Discard, out) // a line that is too long must not stop the process
	}()
	wait, cancel := context.WithTimeout(ctx, startWithin)
	defer cancel()
	select {
	case addr := <-found:
		t.base = "http://" + addr
	case <-t.done:
		return nil, errors.Join(fmt.Errorf("%s run --target model-trainer ended at once", binary), t.stop())
	case <-wait.Done():
		return nil, errors.Join(fmt.Errorf("the model-trainer: %w", wait.Err()), t.stop())
	}
	for {
		err := t.call(wait, http.MethodGet, "/health/ready", nil, nil)
		if err == nil {
			return t, nil
		}
		select {
		case <-wait.Done():
			return nil, errors.Join(fmt.Errorf("the model-trainer does not get ready: %w", err), t.stop())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// stop ends the process and removes its folder.
func (t *trainer) stop() error {
	t.http.CloseIdleConnections()
	_ = t.cmd.Process.Signal(syscall.SIGTERM) // fails when it has ended
	kill := time.AfterFunc(20*time.Second, func() { _ = t.cmd.Process.Kill() })
	<-t.done
	err := t.cmd.Wait()
	kill.Stop()
	return errors.Join(err, os.RemoveAll(t.root))
}

// call sends body as JSON and reads the answer into v.
func (t *trainer) call(ctx context.Context, method, path string, body, v any) error {
	var in bytes.Buffer
	if body != nil {
		if err := json.NewEncoder(&in).Encode(body); err != nil {
			return err
		}
	}
	r, err := http.NewRequestWithContext(ctx, method, t.base+path, &in)
	if err != nil {
		return err
	}
	a, err := t.http.Do(r)
	if err != nil {
		return err
	}
	defer a.Body.Close()
	b, err := io.ReadAll(a.Body)
	if err != nil {
		return err
	}
	if a.StatusCode >= 300 {
		return fmt.Errorf("%s %s: %s %s", method, path, a.Status, bytes.TrimSpace(b))
	}
	if v == nil {
		return nil
	}
	return json.Unmarshal(b, v)
}

// prediction is what the trainer says of a row.
type prediction struct {
	Row    int     `json:"row"`
	Entity string  `json:"entity"`
	Value  float64 `json:"value"`
	Low    float64 `json:"low"`
	High   float64 `json:"high"`
	Class  string  `json:"class"`
}

// learn trains a model on one table and predicts another, through files as a user does.
func (t *trainer) learn(ctx context.Context, name string, parameters map[string]any, train, test *table, last bool) ([]prediction, error) {
	for file, tab := range map[string]*table{"train.csv": train, "test.csv": test} {
		if err := tab.write(filepath.Join(t.dir, file)); err != nil {
			return nil, err
		}
	}
	var made struct{ Model string }
	request := map[string]any{"name": name, "algorithm": "gbdt", "file": "train.csv", "parameters": parameters}
	if err := t.call(ctx, http.MethodPost, "/v1/models", request, &made); err != nil {
		return nil, err
	}
	var said struct{ Results []prediction }
	err := t.call(ctx, http.MethodPost, "/v1/models/"+made.Model+"/predict", map[string]any{"file": "test.csv", "last": last}, &said)
	return said.Results, err
}
