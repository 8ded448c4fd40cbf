package intake

import "github.com/VictoriaMetrics/metrics"

// Metrics count what becomes of frames. Every series exists from the start, so that rates are right from the first event.
type Metrics struct {
	frames  map[Cause]*metrics.Counter
	bytes   *metrics.Counter
	produce *metrics.Histogram
	refused map[string]*metrics.Counter
}

// Transports that requests come in by.
const (
	HTTP = "http"
	GRPC = "grpc"
)

// NewMetrics registers the metrics in set; inFlight gives what waits for Kafka.
func NewMetrics(set *metrics.Set, inFlight func() (records, bytes int64)) *Metrics {
	m := &Metrics{
		frames:  map[Cause]*metrics.Counter{},
		bytes:   set.NewCounter(`tocsin_ingest_frame_bytes_total`),
		produce: set.NewHistogram(`tocsin_ingest_produce_seconds`),
		refused: map[string]*metrics.Counter{},
	}
	for c, outcome := range map[Cause]string{
		Taken: "acknowledged", Malformed: "invalid", Invalid: "invalid", TooLarge: "invalid", NotAllowed: "forbidden",
		RateLimited: "retry", Overloaded: "retry", KafkaAway: "retry", KafkaTimeout: "retry", Behind: "retry",
	} {
		m.frames[c] = set.NewCounter(`tocsin_ingest_frames_total{outcome="` + outcome + `",reason="` + string(c) + `"}`)
	}
	for _, t := range []string{HTTP, GRPC} {
		for _, r := range []string{"unauthenticated", "too_many_requests", "bad_request", "too_large", "unsupported"} {
			m.refused[t+r] = set.NewCounter(`tocsin_ingest_requests_refused_total{transport="` + t + `",reason="` + r + `"}`)
		}
	}
	set.NewGauge(`tocsin_ingest_in_flight_records`, func() float64 { n, _ := inFlight(); return float64(n) })
	set.NewGauge(`tocsin_ingest_in_flight_bytes`, func() float64 { _, n := inFlight(); return float64(n) })
	return m
}

// RequestRefused counts a request that was refused as a whole; reason is one of those that NewMetrics lists.
func (m *Metrics) RequestRefused(transport, reason string) {
	if c := m.refused[transport+reason]; c != nil {
		c.Inc()
	}
}

func (m *Metrics) count(c Cause) {
	if ctr := m.frames[c]; ctr != nil {
		ctr.Inc()
	}
}
