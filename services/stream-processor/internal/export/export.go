// Package export pushes window statistics and scores to VictoriaMetrics in Prometheus's text format with the window's own time.
//
// It is a courtesy to dashboards and never holds up judging: what cannot be delivered is kept within a bound and
// then the oldest is dropped and counted. Pushing a window twice changes nothing, since time and value are the same.
package export

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/pkg/network"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine"
)

// Config of the push.
type Config struct {
	URL       string        `mapstructure:"url" doc:"VictoriaMetrics, e.g. http://127.0.0.1:8428. Empty: nothing is pushed."`
	PerSensor bool          `mapstructure:"per_sensor" doc:"Push mean, stddev, min, max and score of every sensor, not only the machine's score."`
	Timeout   time.Duration `mapstructure:"timeout" doc:"Of one push."`
	Buffer    int           `mapstructure:"buffer_bytes" doc:"Bytes kept while VictoriaMetrics is away; beyond it the oldest are dropped and counted."`
}

// DefaultConfig pushes nothing.
func DefaultConfig() Config {
	return Config{PerSensor: true, Timeout: 10 * time.Second, Buffer: 64 << 20}
}

// Validate names the first field that is wrong.
func (c Config) Validate() error {
	if c.URL != "" {
		u, err := url.Parse(c.URL)
		if err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
			return fmt.Errorf("url: %q is not an http or https URL", c.URL)
		}
	}
	if c.Timeout <= 0 {
		return errors.New("timeout: must be positive")
	}
	if c.Buffer < 1<<20 {
		return fmt.Errorf("buffer_bytes: %d is less than 1 MiB", c.Buffer)
	}
	return nil
}

// maxPush bounds one request.
const maxPush = 4 << 20

// Pusher sends to one VictoriaMetrics. Export may be called from any goroutine; Run sends.
type Pusher struct {
	cfg  Config
	log  *zap.Logger
	http *http.Client

	mu     sync.Mutex
	queue  [][]byte
	queued int
	wake   chan struct{}

	pushed, dropped, failed *metrics.Counter
}

// New makes a Pusher; with an empty URL it takes nothing and its Run only waits.
func New(cfg Config, via network.Network, log *zap.Logger, set *metrics.Set) *Pusher {
	p := &Pusher{
		cfg: cfg, log: log, http: &http.Client{Timeout: cfg.Timeout, Transport: &http.Transport{DialContext: via.DialContext, MaxIdleConns: 2, IdleConnTimeout: time.Minute}}, wake: make(chan struct{}, 1),
		pushed:  set.NewCounter("tocsin_processor_export_bytes_total"),
		dropped: set.NewCounter("tocsin_processor_export_dropped_bytes_total"),
		failed:  set.NewCounter("tocsin_processor_export_failures_total"),
	}
	set.NewGauge("tocsin_processor_export_queue_bytes", func() float64 {
		p.mu.Lock()
		defer p.mu.Unlock()
		return float64(p.queued)
	})
	return p
}

// Append encodes one window. Its time is the window's end.
func (p *Pusher) Append(dst []byte, w *machine.Window) []byte {
	if p.cfg.URL == "" {
		return dst
	}
	ms := w.EndUS / 1000
	machine := `{equipment_id="` + escape(w.EquipmentID) + `"`
	if !w.Learning {
		dst = line(dst, "tocsin_machine_score", machine, "", w.Score, ms)
	}
	if !p.cfg.PerSensor {
		return dst
	}
	for i := range w.Sensors {
		s := &w.Sensors[i]
		sensor := `,sensor="` + escape(s.Sensor) + `"`
		if s.Count > 0 {
			dst = line(dst, "tocsin_window_mean", machine, sensor, s.Mean, ms)
			dst = line(dst, "tocsin_window_stddev", machine, sensor, s.Stddev, ms)
			dst = line(dst, "tocsin_window_min", machine, sensor, s.Min, ms)
			dst = line(dst, "tocsin_window_max", machine, sensor, s.Max, ms)
		}
		if !w.Learning {
			dst = line(dst, "tocsin_sensor_score", machine, sensor, s.Score, ms)
		}
	}
	return dst
}

func line(dst []byte, name, machine, sensor string, v float64, ms int64) []byte {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return dst
	}
	dst = append(dst, name...)
	dst = append(dst, machine...)
	dst = append(dst, sensor...)
	dst = append(dst, "} "...)
	dst = strconv.AppendFloat(dst, v, 'g', -1, 64)
	dst = append(dst, ' ')
	dst = strconv.AppendInt(dst, ms, 10)
	return append(dst, '\n')
}

var escaper = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

func escape(s string) string { return escaper.Replace(s) }

// Export queues what Append made. It keeps a copy, and never blocks.
func (p *Pusher) Export(encoded []byte) {
	if len(encoded) == 0 {
		return
	}
	p.mu.Lock()
	p.queue = append(p.queue, bytes.Clone(encoded))
	p.queued += len(encoded)
	for p.queued > p.cfg.Buffer {
		p.dropped.Add(len(p.pop()))
	}
	p.mu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// drainTimeout is how long Run still sends once it is asked to stop.
const drainTimeout = 2 * time.Second

// errRefused: the same bytes would be refused again.
var errRefused = errors.New("refused")

// Run sends until ctx ends, then tries once more to send what is left, for no longer than drainTimeout.
func (p *Pusher) Run(ctx context.Context) {
	defer p.http.CloseIdleConnections()
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var timer *time.Timer
	hooked := make(chan struct{})
	unhook := context.AfterFunc(ctx, func() {
		defer close(hooked)
		timer = time.AfterFunc(drainTimeout, stop)
	})
	defer func() {
		if !unhook() {
			<-hooked
			timer.Stop()
		}
	}()
	down := false
	for {
		batch := p.take()
		if batch == nil {
			select {
			case <-ctx.Done():
				return
			case <-p.wake:
			}
			continue
		}
		err := p.push(work, batch)
		switch {
		case errors.Is(err, errRefused):
			p.failed.Inc()
			p.dropped.Add(len(batch))
			p.log.Warn("VictoriaMetrics refuses metrics; they are dropped", zap.Int("bytes", len(batch)), zap.Error(err))
		case err == nil && down:
			p.log.Info("VictoriaMetrics takes metrics again")
			down = false
		case err == nil:
		default:
			p.failed.Inc()
			if !down {
				p.log.Warn("VictoriaMetrics does not take metrics; keeping them and trying again", zap.Error(err))
				down = true
			}
			p.putBack(batch)
			select {
			case <-ctx.Done():
				return
			case <-time.After(time.Second):
			}
		}
	}
}

func (p *Pusher) take() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.queue) == 0 {
		return nil
	}
	var out []byte
	for len(p.queue) > 0 && (len(out) == 0 || len(out)+len(p.queue[0]) <= maxPush) {
		out = append(out, p.pop()...)
	}
	return out
}

// pop takes the oldest. The caller holds the lock and knows that there is one.
func (p *Pusher) pop() []byte {
	b := p.queue[0]
	p.queue[0] = nil // the array behind the queue lives on
	p.queue = p.queue[1:]
	p.queued -= len(b)
	return b
}

func (p *Pusher) putBack(b []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.queued+len(b) > p.cfg.Buffer {
		p.dropped.Add(len(b))
		return
	}
	p.queue = append([][]byte{b}, p.queue...)
	p.queued += len(b)
}

func (p *Pusher) push(ctx context.Context, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(p.cfg.URL, "/")+"/api/v1/import/prometheus", bytes.NewReader(body))
	if err != nil {
		return err
	}
	res, err := p.http.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	answer, _ := io.ReadAll(io.LimitReader(res.Body, 512))
	switch res.StatusCode {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
		return fmt.Errorf("%w: %s: %s", errRefused, res.Status, answer)
	}
	if res.StatusCode/100 != 2 {
		return fmt.Errorf("%s: %s", res.Status, answer)
	}
	p.pushed.Add(len(body))
	return nil
}
