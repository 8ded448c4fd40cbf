package export

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"pgregory.net/rapid"

	"github.com/tocsin-io/tocsin/pkg/network"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 90 * time.Second

func pusher(url string, edit func(*Config)) *Pusher {
	cfg := DefaultConfig()
	cfg.URL = url
	if edit != nil {
		edit(&cfg)
	}
	return New(cfg, network.OS{}, zap.NewNop(), metrics.NewSet())
}

// sample is one line of the exposition format.
type sample struct {
	name   string
	labels map[string]string
	value  float64
	ms     int64
}

// parse reads Prometheus's text format: name{label="value",...} value milliseconds.
func parse(text string) ([]sample, error) {
	var out []sample
	for text != "" {
		line, rest, ended := strings.Cut(text, "\n")
		if !ended {
			return nil, fmt.Errorf("%q does not end with a line feed", line)
		}
		text = rest
		s := sample{labels: map[string]string{}}
		var ok bool
		if s.name, line, ok = strings.Cut(line, "{"); !ok {
			return nil, fmt.Errorf("no labels in %q", line)
		}
		for {
			var label string
			if label, line, ok = strings.Cut(line, `="`); !ok {
				return nil, fmt.Errorf("no label in %q", line)
			}
			var value strings.Builder
			closed := false
			for i := 0; i < len(line) && !closed; i++ {
				switch c := line[i]; {
				case c == '"':
					line, closed = line[i+1:], true
				case c == '\\':
					i++
					if i == len(line) {
						return nil, errors.New("a backslash ends the line")
					}
					switch line[i] {
					case 'n':
						value.WriteByte('\n')
					case '\\', '"':
						value.WriteByte(line[i])
					default:
						return nil, fmt.Errorf("escape \\%c", line[i])
					}
				default:
					value.WriteByte(c)
				}
			}
			if !closed {
				return nil, fmt.Errorf("label %q is not closed", label)
			}
			s.labels[label] = value.String()
			if rest, more := strings.CutPrefix(line, ","); more {
				line = rest
				continue
			}
			break
		}
		fields := strings.Split(line, " ")
		if len(fields) != 3 || fields[0] != "}" {
			return nil, fmt.Errorf("%q is not a value and a time", line)
		}
		var err, err2 error
		s.value, err = strconv.ParseFloat(fields[1], 64)
		s.ms, err2 = strconv.ParseInt(fields[2], 10, 64)
		if err = errors.Join(err, err2); err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

func TestWhatIsAppendedReadsBack(t *testing.T) {
	hostile := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{`"`, `\`, "\n", `\n`, `a"} 1 2` + "\n" + `up{x="`, "", "\xff", "a\r", `\"`, "{},= "}))
	rapid.Check(t, func(t *rapid.T) {
		p := pusher("http://127.0.0.1:1", func(c *Config) { c.PerSensor = rapid.Bool().Draw(t, "per sensor") })
		w := machine.Window{
			EquipmentID: hostile.Draw(t, "id"), EndUS: rapid.Int64Range(-1<<52, 1<<52).Draw(t, "end"),
			Score: rapid.Float64().Draw(t, "score"), Learning: rapid.Bool().Draw(t, "learning"),
		}
		number := rapid.OneOf(rapid.Float64(), rapid.SampledFrom([]float64{math.NaN(), math.Inf(1), math.Inf(-1), math.Copysign(0, -1), 5e-324, math.MaxFloat64}))
		var want []sample
		add := func(name, sensor string, v float64) {
			if math.IsNaN(v) || math.IsInf(v, 0) {
				return
			}
			l := map[string]string{"equipment_id": w.EquipmentID}
			if name != "tocsin_machine_score" {
				l["sensor"] = sensor
			}
			want = append(want, sample{name, l, v, w.EndUS / 1000})
		}
		if !w.Learning {
			add("tocsin_machine_score", "", w.Score)
		}
		for range rapid.IntRange(0, 4).Draw(t, "sensors") {
			s := machine.SensorWindow{
				Sensor: hostile.Draw(t, "sensor"), Count: rapid.Uint32Range(0, 2).Draw(t, "count"),
				Mean: number.Draw(t, "mean"), Stddev: number.Draw(t, "sd"), Min: number.Draw(t, "min"), Max: number.Draw(t, "max"), Score: number.Draw(t, "sensor score"),
			}
			w.Sensors = append(w.Sensors, s)
			if !p.cfg.PerSensor {
				continue
			}
			if s.Count > 0 {
				add("tocsin_window_mean", s.Sensor, s.Mean)
				add("tocsin_window_stddev", s.Sensor, s.Stddev)
				add("tocsin_window_min", s.Sensor, s.Min)
				add("tocsin_window_max", s.Sensor, s.Max)
			}
			if !w.Learning {
				add("tocsin_sensor_score", s.Sensor, s.Score)
			}
		}
		text := string(p.Append([]byte("before{a=\"b\"} 1 2\n"), &w))
		got, err := parse(text)
		if err != nil {
			t.Fatalf("%v in:\n%s", err, text)
		}
		if got = got[1:]; len(got) != len(want) {
			t.Fatalf("%d lines, want %d:\n%s", len(got), len(want), text)
		}
		for i := range want {
			if fmt.Sprint(got[i]) != fmt.Sprint(want[i]) {
				t.Fatalf("line %d reads back as %+v, want %+v", i, got[i], want[i])
			}
		}
	})
}

func TestWithoutURLNothingIsMade(t *testing.T) {
	p := pusher("", nil)
	if got := p.Append(nil, &machine.Window{EquipmentID: "a", Score: 1}); got != nil {
		t.Errorf("appended %q", got)
	}
	p.Export(nil)
	if p.take() != nil {
		t.Error("something is queued")
	}
}

func TestAFullBufferDropsTheOldestAndCountsThem(t *testing.T) {
	p := pusher("http://127.0.0.1:1", func(c *Config) { c.Buffer = 1 << 20 })
	chunk := make([]byte, 100<<10)
	for i := range 25 {
		for j := range chunk {
			chunk[j] = byte(i) // Export keeps a copy
		}
		p.Export(chunk)
		if p.queued > p.cfg.Buffer {
			t.Fatalf("%d bytes queued", p.queued)
		}
	}
	const kept = 10
	if got := p.dropped.Get(); got != uint64(25-kept)*uint64(len(chunk)) {
		t.Errorf("%d bytes counted as dropped", got)
	}
	batch := p.take()
	if len(batch) != kept*len(chunk) || batch[0] != 25-kept || batch[len(batch)-1] != 24 {
		t.Errorf("%d bytes are left, from %d to %d", len(batch), batch[0], batch[len(batch)-1])
	}
	// What comes back when there is no room is the oldest.
	p.Export(make([]byte, 900<<10))
	p.putBack(batch)
	if left := p.take(); len(left) != 900<<10 {
		t.Errorf("%d bytes queued", len(left))
	}
	p.Export(make([]byte, 2<<20))
	if p.take() != nil || p.queued != 0 {
		t.Error("more than the whole buffer was kept")
	}
}

// server answers each push as told and notes what came.
type server struct {
	*httptest.Server
	mu     sync.Mutex
	bodies []string
	got    chan struct{}
}

func serve(t *testing.T, answer func(n int, w http.ResponseWriter, r *http.Request)) *server {
	t.Helper()
	s := &server{got: make(chan struct{}, 1000)}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		s.mu.Lock()
		if r.URL.Path != "/api/v1/import/prometheus" {
			b = []byte("at " + r.URL.Path)
		}
		s.bodies = append(s.bodies, string(b))
		n := len(s.bodies)
		s.mu.Unlock()
		s.got <- struct{}{}
		answer(n, w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *server) wait(t *testing.T, n int) {
	t.Helper()
	for range n {
		select {
		case <-s.got:
		case <-time.After(patience):
			t.Fatal("nothing was pushed")
		}
	}
}

// run runs p until the returned function is called, which waits for Run to end.
func run(t *testing.T, p *Pusher) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); p.Run(ctx) }()
	stop = func() {
		t.Helper()
		cancel()
		select {
		case <-done:
		case <-time.After(patience):
			t.Fatal("Run does not end")
		}
	}
	t.Cleanup(stop)
	return stop
}

func TestAPushThatFailsIsTriedAgainAndDeliveredOnce(t *testing.T) {
	s := serve(t, func(n int, w http.ResponseWriter, _ *http.Request) {
		if n == 1 {
			http.Error(w, "away", http.StatusServiceUnavailable)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
	p := pusher(s.URL+"/", nil)
	stop := run(t, p)
	p.Export([]byte("a 1\n"))
	s.wait(t, 2)
	p.Export([]byte("b 2\n"))
	s.wait(t, 1)
	stop()
	if got := strings.Join(s.bodies, "|"); got != "a 1\n|a 1\n|b 2\n" {
		t.Errorf("pushed %q", got)
	}
	if p.failed.Get() != 1 || p.pushed.Get() != 8 || p.dropped.Get() != 0 {
		t.Errorf("%d failures, %d bytes pushed, %d dropped", p.failed.Get(), p.pushed.Get(), p.dropped.Get())
	}
}

func TestWhatIsRefusedIsNotTriedAgain(t *testing.T) {
	s := serve(t, func(n int, w http.ResponseWriter, _ *http.Request) {
		if n == 1 {
			http.Error(w, "cannot parse", http.StatusBadRequest)
		}
	})
	p := pusher(s.URL, nil)
	stop := run(t, p)
	p.Export([]byte("bad\n"))
	s.wait(t, 1)
	p.Export([]byte("good 1\n"))
	s.wait(t, 1)
	stop()
	if got := strings.Join(s.bodies, "|"); got != "bad\n|good 1\n" || p.dropped.Get() != 4 {
		t.Errorf("pushed %q, dropped %d bytes", got, p.dropped.Get())
	}
}

func TestWhatIsQueuedIsStillSentAtTheEnd(t *testing.T) {
	s := serve(t, func(int, http.ResponseWriter, *http.Request) {})
	p := pusher(s.URL, nil)
	p.Export([]byte("a 1\n"))
	p.Export([]byte("b 1\n"))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	p.Run(ctx)
	if got := strings.Join(s.bodies, ""); got != "a 1\nb 1\n" {
		t.Errorf("pushed %q", got)
	}
}

func TestAServerThatHangsHoldsUpNobody(t *testing.T) {
	release := make(chan struct{})
	s := serve(t, func(_ int, _ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	})
	defer close(release)
	p := pusher(s.URL, func(c *Config) { c.Timeout, c.Buffer = time.Hour, 1<<20 })
	stop := run(t, p)
	p.Export([]byte("a 1\n"))
	s.wait(t, 1)
	exported := make(chan struct{})
	go func() {
		defer close(exported)
		for range 10_000 {
			p.Export(make([]byte, 1000))
		}
	}()
	select {
	case <-exported:
	case <-time.After(patience):
		t.Fatal("Export blocks")
	}
	if p.dropped.Get() == 0 {
		t.Error("ten times the buffer fits into it")
	}
	began := time.Now()
	stop()
	if took := time.Since(began); took > 3*drainTimeout {
		t.Errorf("Run ended after %s", took)
	}
}

func TestValidateNamesTheField(t *testing.T) {
	for want, edit := range map[string]func(*Config){
		"url": func(c *Config) { c.URL = "localhost:8428" }, "timeout": func(c *Config) { c.Timeout = 0 }, "buffer_bytes": func(c *Config) { c.Buffer = 1 },
	} {
		c := DefaultConfig()
		edit(&c)
		if err := c.Validate(); err == nil || !strings.HasPrefix(err.Error(), want+": ") {
			t.Errorf("%s: %v", want, err)
		}
	}
	if err := DefaultConfig().Validate(); err != nil {
		t.Error(err)
	}
}
