package lakeday

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// api is a historical-api that runs as a process of its own.
type api struct {
	cmd  *exec.Cmd
	addr string
	dir  string // the lake
	out  *bytes.Buffer
}

// startAPI runs the program over the lake in dir, without its cache of answers, and waits until it is ready.
func startAPI(ctx context.Context, program, dir, scratch string) (*api, error) {
	conf := filepath.Join(scratch, "historical-api.yaml")
	body := fmt.Sprintf("historical_api:\n  http: {listen: \"127.0.0.1:0\"}\n  lake: {url: \"file://%s\"}\n  data_dir: %q\n  queries: {cache_bytes: 0, memory_bytes: 2147483648}\n", dir, filepath.Join(scratch, "history"))
	if err := os.WriteFile(conf, []byte(body), 0o600); err != nil {
		return nil, err
	}
	a := &api{cmd: exec.CommandContext(ctx, program, "--config", conf), dir: dir, out: &bytes.Buffer{}} //nolint:gosec // the caller names the program
	a.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + scratch, "TOCSIN_LOG_FORMAT=json"}
	log, err := a.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := a.cmd.Start(); err != nil {
		return nil, err
	}
	addr := make(chan string, 1)
	go func() {
		lines := bufio.NewScanner(io.TeeReader(log, a.out))
		for lines.Scan() {
			var l struct{ Msg, Addr string }
			if json.Unmarshal(lines.Bytes(), &l) == nil && l.Msg == "listening" {
				select {
				case addr <- l.Addr:
				default:
				}
			}
		}
	}()
	select {
	case a.addr = <-addr:
	case <-time.After(time.Minute):
		return nil, errors.Join(fmt.Errorf("%s does not listen: %s", program, a.out), a.stop())
	}
	for deadline := time.Now().Add(time.Minute); ; {
		resp, err := http.Get("http://" + a.addr + "/health/ready") //nolint:noctx // bounded by the deadline
		if err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return a, nil
			}
		}
		if time.Now().After(deadline) {
			return nil, errors.Join(fmt.Errorf("%s is not ready: %w", program, err), a.stop())
		}
		<-time.After(50 * time.Millisecond)
	}
}

func (a *api) stop() error {
	_ = a.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	err := a.cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return fmt.Errorf("historical-api: %w: %s", err, a.out)
	}
	return err
}

// Asked is one question, asked several times.
type Asked struct {
	Stage    string `json:"stage"` // raw, hours or day: what the lake consists of
	Question string `json:"question"`
	// ColdMS is each time with no page of the lake in the kernel's cache; WarmMS with those of the question before.
	ColdMS []float64 `json:"cold_ms"`
	WarmMS []float64 `json:"warm_ms,omitempty"`
	Rows   int       `json:"rows"`
	// KeptBytes were still in the kernel's cache, at most, when a cold question was asked.
	KeptBytes int64 `json:"kept_bytes"`
	// Failed is why there is no answer, such as the time-out of a minute.
	Failed   string  `json:"failed,omitempty"`
	MedianMS float64 `json:"cold_median_ms"`
	WorstMS  float64 `json:"cold_worst_ms"`
}

// question makes the i-th request.
type question struct {
	name string
	slow bool // asked twice only
	make func(base string, i int) (*http.Request, error)
}

func (s Scale) questions(withRollups bool) []question {
	from, to := Day().Format(time.RFC3339), Day().Add(24*time.Hour).Format(time.RFC3339)
	sql := func(text string, named bool) func(string, int) (*http.Request, error) {
		return func(base string, i int) (*http.Request, error) {
			ask := map[string]any{"sql": strings.ReplaceAll(text, "$machine", Machine(s.pick(i))), "from": from, "to": to, "format": "arrow"}
			if named {
				ask["equipment_id"] = []string{Machine(s.pick(i))}
			}
			body, err := json.Marshal(ask)
			if err != nil {
				return nil, err
			}
			return http.NewRequest(http.MethodPost, base+"/v1/sql", bytes.NewReader(body)) //nolint:noctx // the client bounds it
		}
	}
	out := []question{
		{"one machine's day, all its values, SQL that names it in equipment_id", false, sql("SELECT ts, sensor, value FROM readings ORDER BY sensor, ts", true)},
		{"one machine's day, all its values, SQL that names it in WHERE", false, sql("SELECT ts, sensor, value FROM readings WHERE equipment_id = '$machine' ORDER BY sensor, ts", false)},
		{"one sensor's day, for a chart of 1,000 points, /v1/series", false, func(base string, i int) (*http.Request, error) {
			q := url.Values{"equipment_id": {Machine(s.pick(i))}, "sensor": {"sensor_00"}, "from": {from}, "to": {to}}
			return http.NewRequest(http.MethodGet, base+"/v1/series?"+q.Encode(), http.NoBody) //nolint:noctx // the client bounds it
		}},
		{"fleet-wide hourly means of each sensor, from readings", true, sql("SELECT sensor, date_trunc('hour', ts) AS hour, avg(value) AS mean, count(*) AS n FROM readings GROUP BY ALL ORDER BY ALL", false)},
	}
	if withRollups {
		out = append(out, question{"fleet-wide hourly means of each sensor, from readings_1h", false, sql("SELECT sensor, ts AS hour, sum(sum) / sum(count) AS mean, sum(count) AS n FROM readings_1h GROUP BY ALL ORDER BY ALL", false)})
	}
	return out
}

// pick spreads the machines asked for over the fleet.
func (s Scale) pick(i int) int { return (i*7919 + 17) % s.Machines }

// ask asks every question times times, each time about another machine.
func (a *api) ask(stage string, s Scale, rollups bool, times int) ([]Asked, error) {
	client := &http.Client{Timeout: 2 * time.Minute}
	defer client.CloseIdleConnections()
	var out []Asked
	for _, q := range s.questions(rollups) {
		got := Asked{Stage: stage, Question: q.name}
		for i := range times {
			if q.slow && i == 2 {
				break
			}
			if err := a.once(client, q, i, &got); err != nil {
				return nil, err
			}
			if got.Failed != "" {
				break
			}
		}
		if got.Failed != "" {
			out = append(out, got)
			continue
		}
		sorted := slices.Sorted(slices.Values(got.ColdMS))
		got.MedianMS, got.WorstMS = sorted[len(sorted)/2], sorted[len(sorted)-1]
		out = append(out, got)
	}
	return out, nil
}

// once asks a question cold, and again.
func (a *api) once(client *http.Client, q question, i int, got *Asked) error {
	kept, err := forget(a.dir)
	if err != nil {
		return err
	}
	got.KeptBytes = max(got.KeptBytes, kept)
	for _, to := range []*[]float64{&got.ColdMS, &got.WarmMS} {
		req, err := q.make("http://"+a.addr, i)
		if err != nil {
			return err
		}
		began := time.Now()
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		body, err := io.ReadAll(resp.Body)
		took := time.Since(began)
		if err := errors.Join(err, resp.Body.Close()); err != nil {
			return err
		}
		if resp.StatusCode != http.StatusOK {
			got.Failed = fmt.Sprintf("%s after %.1f s: %s", resp.Status, took.Seconds(), body)
			return nil
		}
		if _, err := fmt.Sscan(resp.Header.Get("X-Rows"), &got.Rows); err != nil || got.Rows == 0 {
			return fmt.Errorf("%s: no rows: %w", q.name, err)
		}
		*to = append(*to, float64(took.Microseconds())/1000)
	}
	return nil
}
