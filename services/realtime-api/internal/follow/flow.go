package follow

import (
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/tocsin-io/tocsin/pkg/topic"

	"github.com/tocsin-io/tocsin/services/realtime-api/internal/hops"
	"github.com/tocsin-io/tocsin/services/realtime-api/internal/wire"
)

// span is over how many seconds rates and delay are taken.
const span = 10

// Flow measures how records come in. It may be used from any goroutine.
type Flow struct {
	// Hops is how long records took on their way here, once the past has been read.
	Hops     hops.Recorder
	caughtUp atomic.Bool
	delay    map[string]*metrics.Histogram

	mu      sync.Mutex
	logTime int64 // ms
	seconds [span]second
}

// second is what came in during one second of the server's clock.
type second struct {
	at               int64 // unix second
	windows, reports int
	delayMS          int64
	heard            bool
}

// NewFlow makes a Flow that exposes the delay in Kafka by topic.
func NewFlow(set *metrics.Set) *Flow {
	f := &Flow{delay: map[string]*metrics.Histogram{}}
	for _, t := range []string{topic.Windows, topic.Anomalies, topic.Alerts, topic.Coverage} {
		f.delay[t] = set.GetOrCreateHistogram(fmt.Sprintf(`tocsin_api_kafka_delay_seconds{topic=%q}`, t))
	}
	set.GetOrCreateGauge(`tocsin_api_log_time_seconds`, func() float64 {
		f.mu.Lock()
		defer f.mu.Unlock()
		return float64(f.logTime) / 1e3
	})
	return f
}

// saw notes a record with the broker's time stamp at.
func (f *Flow) saw(name string, stamp, now time.Time, tick bool) {
	live := f.caughtUp.Load()
	delay := max(now.Sub(stamp), 0) // a broker's clock may be ahead
	if live {
		if h := f.delay[name]; h != nil {
			h.Update(delay.Seconds())
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.logTime = max(f.logTime, stamp.UnixMilli())
	s := &f.seconds[now.Unix()%span]
	if s.at != now.Unix() {
		*s = second{at: now.Unix()}
	}
	if !live {
		return // the past says nothing about rates
	}
	s.heard = true
	s.delayMS = max(s.delayMS, delay.Milliseconds())
	if tick {
		return
	}
	switch name {
	case topic.Windows:
		s.windows++
	case topic.Anomalies:
		s.reports++
	}
}

// Summary is the flow as of now.
func (f *Flow) Summary(now time.Time) wire.Flow {
	f.mu.Lock()
	defer f.mu.Unlock()
	out := wire.Flow{ServerTimeMS: now.UnixMilli(), LogTimeMS: f.logTime, DelayMS: -1, CaughtUp: f.caughtUp.Load()}
	windows, reports := 0, 0
	for _, s := range f.seconds {
		if s.at <= now.Unix()-span || s.at > now.Unix() || !s.heard {
			continue
		}
		windows, reports = windows+s.windows, reports+s.reports
		out.DelayMS = max(out.DelayMS, s.delayMS)
	}
	out.WindowsPerSecond, out.ReportsPerSecond = float64(windows)/span, float64(reports)/span
	return out
}
