package load

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/tocsin-io/tocsin/deploy/local/stack"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
)

// BurstConfig sizes the scenario.
type BurstConfig struct {
	Alerts, Groups int
	// Routers are the settings to run, each on a stack of its own.
	Routers []RouterSetting
	// Peer is Alertmanager's program; empty: prometheus-alertmanager or alertmanager, where one is installed. PeerNeeded: without one the run fails.
	Peer       string
	PeerNeeded bool
	Patience   time.Duration
	Profile    string `json:"-"`
}

// DefaultBurst is what is recorded.
func DefaultBurst() BurstConfig {
	return BurstConfig{
		Alerts: 100_000, Groups: 1000, Routers: []RouterSetting{{SQLite, true}, {PostgreSQL, true}, {SQLite, false}}, PeerNeeded: true, Patience: 5 * time.Minute,
	}
}

// BurstMeasured is what came out of one run: the router with one setting, or the peer.
type BurstMeasured struct {
	Program    string           `json:"program"`
	Setting    *RouterSetting   `json:"setting,omitempty"`
	Alerts     int              `json:"alerts"`
	Groups     int              `json:"groups"`
	Untold     int              `json:"alerts_nobody_was_told_of"`
	EndsUntold int              `json:"ends_nobody_was_told_of"`
	FedS       float64          `json:"fed_s"`
	ToldS      float64          `json:"all_told_after_s"`
	EndsS      float64          `json:"all_ends_told_after_s"`
	JournalS   float64          `json:"journal_complete_after_s,omitempty"`
	EndsJS     float64          `json:"journal_complete_after_the_ends_s,omitempty"`
	Messages   int              `json:"messages"`
	MessagesMB float64          `json:"messages_mb"`
	CPUS       float64          `json:"cpu_s"`
	PeakMB     int64            `json:"peak_mb"`
	StandingMB int64            `json:"resident_while_all_stand_mb"`
	OthersCPU  float64          `json:"others_cpu_percent"`
	Journal    *JournalMeasured `json:"journal,omitempty"`
}

func (m *BurstMeasured) name() string {
	if m.Setting == nil {
		return m.Program
	}
	return m.Program + " (" + m.Setting.String() + ")"
}

// burstRouting groups by line, as somebody with 100 machines a line does.
func burstRouting(url string) string {
	return `route:
  receiver: people
  group_by: [gateway_id]
  group_wait: 1s
  group_interval: 5s
  repeat_interval: 4h
receivers:
  - name: people
    webhook_configs:
      - {url: "` + url + `", send_resolved: true}
`
}

// Burst has all alerts of a large plant begin within seconds, and end. Alertmanager is given the same alerts in the same run.
func Burst(ctx context.Context, fresh Fresh, cfg BurstConfig) (*Report, error) {
	r := newReport("burst", fmt.Sprintf("%d alerts in %d groups at once: all told, all ended, each transition once in the journal", cfg.Alerts, cfg.Groups), cfg)
	var out []*BurstMeasured
	for i, s := range cfg.Routers {
		m, err := onFresh(ctx, fresh, s.Journal, func(w *World) (*BurstMeasured, error) { return w.burst(ctx, cfg, s, fmt.Sprintf("b%d", i)) })
		if err != nil {
			return nil, fmt.Errorf("burst: %s: %w", s, err)
		}
		out = append(out, m)
	}
	switch m, err := peer(ctx, cfg); {
	case errors.Is(err, errNoPeer) && !cfg.PeerNeeded:
		r.row("Alertmanager", "NOT MEASURED: "+err.Error())
	case err != nil:
		return nil, fmt.Errorf("burst: Alertmanager: %w", err)
	default:
		out = append(out, m)
	}
	for _, m := range out {
		r.brokenIf(m.Untold > 0, "%s: nobody was told of %d alerts", m.name(), m.Untold)
		r.brokenIf(m.EndsUntold > 0, "%s: nobody was told of the end of %d alerts", m.name(), m.EndsUntold)
		row := []any{
			m.name(), fmt.Sprintf("fed %.1f s", m.FedS), fmt.Sprintf("told %.1f s", m.ToldS), fmt.Sprintf("ends told %.1f s", m.EndsS),
			fmt.Sprintf("%d messages, %.0f MB", m.Messages, m.MessagesMB), fmt.Sprintf("CPU %.0f s", m.CPUS), fmt.Sprintf("peak %d MB", m.PeakMB), fmt.Sprintf("standing %d MB", m.StandingMB),
		}
		if j := m.Journal; j != nil {
			r.brokenIf(j.Held > 0, "%s: %d alerts were held back", m.name(), j.Held)
			j.judge(r, m.name())
			row = append(row, fmt.Sprintf("journal %.1f and %.1f s, %d rows of %d", m.JournalS, m.EndsJS, j.Rows, j.Events))
		}
		r.row(row...)
		r.Machine.OthersCPU = max(r.Machine.OthersCPU, m.OthersCPU)
	}
	r.end(out)
	return r, nil
}

// subject is a program under the burst.
type subject struct {
	m        *BurstMeasured
	pid      int
	hook     *hook
	list     []*episode
	patience time.Duration
	w        *World // its clock and voice; of the peer: no stack
	begin    func() error
	end      func() error
	between  func(fed time.Time) error // after all have been told
}

// measure lets all begin, waits until all have been told, lets all end, and waits again.
func (s *subject) measure(ctx context.Context) error {
	cpu := startShare(map[string]int{s.m.Program: s.pid})
	ticks := cpuTicks(s.pid)
	t0 := time.Now()
	if err := s.begin(); err != nil {
		return err
	}
	s.m.FedS = time.Since(t0).Seconds()
	if err := s.w.toldAll(ctx, s.hook, s.list, s.patience, false); err != nil {
		return err
	}
	s.m.ToldS = s.last(false).Sub(t0).Seconds()
	if s.between != nil {
		if err := s.between(t0); err != nil {
			return err
		}
	}
	s.m.StandingMB = residentMB(s.pid)
	t1 := time.Now()
	if err := s.end(); err != nil {
		return err
	}
	if err := s.w.toldAll(ctx, s.hook, s.list, s.patience, true); err != nil {
		return err
	}
	s.m.EndsS = s.last(true).Sub(t1).Seconds()
	s.m.CPUS = float64(cpuTicks(s.pid)-ticks) / ticksPerSecond
	s.m.PeakMB = peakMB(s.pid)
	s.m.OthersCPU = cpu.end()["others"]
	s.m.Messages, s.m.MessagesMB = s.hook.traffic()
	for _, e := range s.list {
		if _, ok := s.hook.told(e, false); !ok {
			s.m.Untold++
		} else if _, ok := s.hook.told(e, true); !ok {
			s.m.EndsUntold++
		}
	}
	return nil
}

// last is when the last alert was told of.
func (s *subject) last(resolved bool) (at time.Time) {
	for _, e := range s.list {
		if t, ok := s.hook.told(e, resolved); ok && t.After(at) {
			at = t
		}
	}
	return at
}

func (w *World) burst(ctx context.Context, cfg BurstConfig, setting RouterSetting, prefix string) (m *BurstMeasured, err error) {
	m = &BurstMeasured{Program: "alert-router", Setting: &setting, Alerts: cfg.Alerts, Groups: cfg.Groups}
	h, err := startHook()
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, h.close()) }()
	undo, err := w.router(burstRouting(h.url()), setting)
	if err != nil {
		return m, err
	}
	defer undo()
	if err := w.Stack.Up(ctx); err != nil {
		return m, err
	}
	pids, err := w.pids(ctx, "alert-router")
	if err != nil {
		return m, err
	}
	w.watch(pids)
	defer w.watch(nil)
	cl, err := w.producer(5 * time.Millisecond)
	if err != nil {
		return m, err
	}
	defer cl.Close()
	s := &subject{m: m, pid: pids["alert-router"], hook: h, patience: cfg.Patience, w: w}
	write := func(phase eventv1.Phase) error {
		var p produced
		for n := range cfg.Alerts {
			now := time.Now()
			if phase == eventv1.Phase_PHASE_STARTED {
				s.list = append(s.list, newEpisode(prefix, n, cfg.Groups, now))
			}
			r, err := s.list[n].report(phase, now)
			if err != nil {
				return err
			}
			cl.Produce(ctx, r, p.promise)
		}
		return errors.Join(cl.Flush(ctx), p.err())
	}
	s.begin = func() error { return write(eventv1.Phase_PHASE_STARTED) }
	var t1 time.Time
	s.end = func() error { t1 = time.Now(); return write(eventv1.Phase_PHASE_ENDED) }
	s.between = func(t0 time.Time) (err error) {
		m.JournalS, err = w.journalHas(ctx, setting.Journal, prefix, cfg.Alerts, t0, cfg.Patience)
		return err
	}
	stop := w.profile(ctx, cfg.Profile, prefix, 20*time.Second)
	defer stop()
	if err := s.measure(ctx); err != nil {
		return m, err
	}
	if m.EndsJS, err = w.journalHas(ctx, setting.Journal, prefix, 2*cfg.Alerts, t1, cfg.Patience); err != nil {
		return m, err
	}
	stop()
	if err := w.Stack.Stop(ctx, "alert-router"); err != nil {
		return m, err
	}
	j, err := w.compareJournal(ctx, setting.Journal, prefix)
	m.Journal = &j
	return m, err
}

var errNoPeer = &stack.MissingError{Component: "alertmanager", What: "Prometheus Alertmanager", Install: "apt-get install -y --no-install-recommends prometheus-alertmanager"}

// peer gives the same alerts to Alertmanager through its API.
func peer(ctx context.Context, cfg BurstConfig) (m *BurstMeasured, err error) {
	path := cfg.Peer
	for _, name := range []string{"prometheus-alertmanager", "alertmanager"} {
		if found, err := exec.LookPath(name); path == "" && err == nil {
			path = found
		}
	}
	if path == "" {
		return nil, errNoPeer
	}
	version, err := exec.CommandContext(ctx, path, "--version").CombinedOutput() //nolint:gosec // a program of this machine
	if err != nil {
		return nil, err
	}
	name, _, _ := strings.Cut(string(version), " (")
	m = &BurstMeasured{Program: name, Alerts: cfg.Alerts, Groups: cfg.Groups}
	dir, err := os.MkdirTemp("", "tocsin-peer-")
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	h, err := startHook()
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, h.close()) }()
	file := filepath.Join(dir, "routing.yml")
	if err := os.WriteFile(file, []byte(burstRouting(h.url())), 0o600); err != nil {
		return m, err
	}
	addr, err := freeAddr(ctx)
	if err != nil {
		return m, err
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return m, err
	}
	defer func() { _ = log.Close() }()
	cmd := exec.Command(path, "--config.file="+file, "--storage.path="+filepath.Join(dir, "data"), "--web.listen-address="+addr, "--cluster.listen-address=") //nolint:gosec,noctx // as above; it is stopped below
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return m, err
	}
	defer func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait() // that a signal ended it
	}()
	w := &World{watched: map[string]int{name: cmd.Process.Pid}}
	if err := w.until(ctx, time.Minute, "Alertmanager is ready", func() (bool, error) {
		code, _, err := get(ctx, "http://"+addr+"/-/ready")
		return err == nil && code == http.StatusOK, nil
	}); err != nil {
		return m, err
	}
	s := &subject{m: m, pid: cmd.Process.Pid, hook: h, patience: cfg.Patience, w: w}
	began := time.Now()
	for n := range cfg.Alerts {
		s.list = append(s.list, newEpisode("a", n, cfg.Groups, began))
	}
	s.begin = func() error { return postAlerts(ctx, addr, s.list, began, time.Time{}) }
	s.end = func() error { return postAlerts(ctx, addr, s.list, began, time.Now()) }
	return m, s.measure(ctx)
}

func freeAddr(ctx context.Context) (string, error) {
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return ln.Addr().String(), ln.Close()
}

// perPost is how many alerts Prometheus sends at once at most.
const perPost = 256

// postAlerts sends alerts with the labels and texts that the router gives them, one request after the other as Prometheus does.
func postAlerts(ctx context.Context, addr string, list []*episode, starts, ends time.Time) error {
	client := &http.Client{Timeout: time.Minute}
	defer client.CloseIdleConnections()
	type alert struct {
		Labels       map[string]string `json:"labels"`
		Annotations  map[string]string `json:"annotations"`
		StartsAt     time.Time         `json:"startsAt"`
		EndsAt       time.Time         `json:"endsAt"`
		GeneratorURL string            `json:"generatorURL"`
	}
	for len(list) > 0 {
		n := min(perPost, len(list))
		var batch []alert
		for _, e := range list[:n] {
			severity := "warning"
			if e.severity == eventv1.Severity_SEVERITY_CRITICAL {
				severity = "critical"
			}
			a := alert{
				Labels: map[string]string{
					"alertname": "TocsinLimit", "equipment_id": e.machine, "cause": "limit", "severity": severity, "alert_id": e.id, "gateway_id": e.gateway,
				},
				Annotations: map[string]string{
					"summary": "spindle temperature is 91.4, above 85.0 for 20 s; bearing vibration and motor current rise with it", "score": "0.970", "confidence": "0.90",
					"sensors": "spindle_temperature (70 %), bearing_vibration (20 %), motor_current (10 %)", "started": e.started.UTC().Format(time.RFC3339Nano),
					"description": "spindle_temperature: mean 91.4, expected 60.5 to 85 (limits); bearing_vibration: mean 4.1, expected 1.2 to 2.9 (ewma); motor_current: stddev 18.8, expected 11.2 to 16.4 (ewma)",
				},
				StartsAt: starts, EndsAt: ends, GeneratorURL: "http://127.0.0.1:8080/?machine=" + e.machine,
			}
			if ends.IsZero() {
				a.EndsAt = starts.Add(24 * time.Hour)
			}
			batch = append(batch, a)
		}
		body, err := json.Marshal(batch)
		if err != nil {
			return err
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+addr+"/api/v2/alerts", bytes.NewReader(body))
		if err != nil {
			return err
		}
		req.Header.Set("Content-Type", "application/json")
		res, err := client.Do(req)
		if err != nil {
			return err
		}
		answer, _ := io.ReadAll(io.LimitReader(res.Body, 4096))
		_ = res.Body.Close()
		if res.StatusCode != http.StatusOK {
			return fmt.Errorf("post alerts: %s: %s", res.Status, answer)
		}
		list = list[n:]
	}
	return nil
}
