package trial

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"

	"github.com/tocsin-io/tocsin/pkg/frame"
	"github.com/tocsin-io/tocsin/pkg/topic"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	streamprocessor "github.com/tocsin-io/tocsin/services/stream-processor"
)

// longestGap is what a stretch without data counts at most.
const longestGap = time.Hour

// machine is one machine under all trials.
type machine struct {
	Machine
	r      *runner
	judges []*judge
	labels labels
	offset int64
	rows   int       // with those that are only learned from
	at     time.Time // of the newest record, broker time
	value  []byte
}

// judge is one machine under one trial.
type judge struct {
	replayer *streamprocessor.Replayer
	pages    []*Page
	open     map[string]*Page
	scores   *Series
}

func newMachine(r *runner, id string, detailed bool) *machine {
	m := &machine{Machine: Machine{ID: id}, r: r}
	for _, c := range r.opt.Configs {
		cfg := streamprocessor.DefaultConfig()
		cfg.Detection, cfg.MaxMachines = c.Detection, 1
		j := &judge{replayer: streamprocessor.NewReplayer(cfg, 0, r.opt.Schemas), open: map[string]*Page{}}
		if detailed {
			j.scores = new(Series)
			j.replayer.Explain(true)
			m.Scores = append(m.Scores, j.scores)
		}
		m.judges = append(m.judges, j)
	}
	return m
}

// row judges one row of a file. Broker time is the row's own, as if each row had reached the broker at once; between rows time passes in ticks.
func (m *machine) row(ctx context.Context, at time.Time, sensors []string, values []float32, training bool) error {
	if err := m.pass(ctx, at, training); err != nil {
		return err
	}
	m.rows++
	f := frame.New(m.ID, "backtest", uint64(m.rows), at, sensors, values)
	m.value = f.AppendTo(m.value[:0])
	if !training {
		m.note(at)
		m.envelope(at, sensors, values)
	}
	rec := &kgo.Record{Topic: topic.Frames, Key: []byte(m.ID), Value: m.value, Timestamp: at, Headers: []kgo.RecordHeader{{Key: topic.HeaderType, Value: []byte(topic.TypeFrame)}}}
	return m.apply(ctx, rec, training)
}

// note counts a row that is not only learned from.
func (m *machine) note(at time.Time) {
	m.Rows++
	if m.From.IsZero() || at.Before(m.From) {
		m.From = at
	}
	if at.After(m.To) {
		if !m.To.IsZero() {
			m.Observed += min(at.Sub(m.To), longestGap)
		}
		m.To = at
	}
}

// end counts the time that went by in ticks after the last row: a machine that is silent was watched all the same. Broker time says nothing of history that was sent long
// after it happened.
func (m *machine) end() {
	if d := m.at.Sub(m.To); !m.From.IsZero() && d > 0 && d < 24*time.Hour {
		m.Observed += min(d, longestGap)
		m.To = m.at.UTC()
	}
}

// pass lets time go by to the next row: a tick every second at first, as in production, then fewer, since nothing happens any more that a few seconds would
// matter to.
func (m *machine) pass(ctx context.Context, to time.Time, training bool) error {
	const ticks = time.Second
	if m.at.IsZero() {
		return nil
	}
	from := m.at
	for at := from.Add(ticks); at.Before(to); {
		rec := &kgo.Record{Topic: topic.Frames, Timestamp: at, Headers: []kgo.RecordHeader{{Key: topic.HeaderType, Value: []byte(topic.TypeTick)}}}
		if err := m.apply(ctx, rec, training); err != nil {
			return err
		}
		switch gone := at.Sub(from); {
		case gone < time.Minute:
			at = at.Add(ticks)
		case gone < 10*time.Minute:
			at = at.Add(10 * ticks)
		case gone < 24*time.Hour:
			at = at.Add(time.Minute)
		default:
			return nil
		}
	}
	return nil
}

// apply has one record judged under all trials.
func (m *machine) apply(ctx context.Context, rec *kgo.Record, training bool) error {
	if rec.Timestamp.After(m.at) {
		m.at = rec.Timestamp
	}
	rec.Offset = m.offset
	m.offset++
	for _, j := range m.judges {
		out, err := j.replayer.Apply(ctx, rec)
		if err != nil {
			return fmt.Errorf("machine %q at %s: %w", m.ID, rec.Timestamp.UTC().Format(time.RFC3339), err)
		}
		if j.scores != nil {
			for _, x := range j.replayer.Explanations() {
				if !training {
					j.scores.add(time.UnixMicro(x.EndUS), x.Final, x.Demand, x.Learning)
				}
			}
		}
		for _, o := range out {
			if !topic.Is(o, topic.TypeAnomaly) {
				continue
			}
			var a eventv1.Anomaly
			if err := proto.Unmarshal(o.Value, &a); err != nil {
				return fmt.Errorf("machine %q: %w", m.ID, err)
			}
			if err := m.report(j, &a, training); err != nil {
				return err
			}
		}
	}
	return nil
}

// report lets an anomaly open, raise or end a page. One that opened while it was only learned is nobody's.
func (m *machine) report(j *judge, a *eventv1.Anomaly, training bool) error {
	switch p := j.open[a.GetEpisodeId()]; {
	case a.GetPhase() == eventv1.Phase_PHASE_STARTED:
		if training {
			return nil
		}
		if m.r.pages++; m.r.pages > maxPages {
			return fmt.Errorf("more than %d pages: this configuration calls all the time", maxPages)
		}
		p = pageOf(m.ID, a)
		j.pages = append(j.pages, p)
		j.open[a.GetEpisodeId()] = p
	case p == nil:
	case a.GetPhase() == eventv1.Phase_PHASE_ENDED:
		p.Ended = saidAt(a)
		delete(j.open, a.GetEpisodeId())
	default:
		p.Severity, p.Score = severity(a.GetSeverity()), max(p.Score, a.GetScore())
	}
	return nil
}

func pageOf(machine string, a *eventv1.Anomaly) *Page {
	p := &Page{
		Machine: machine, Episode: a.GetEpisodeId(), Cause: a.GetCause(), Severity: severity(a.GetSeverity()), Said: saidAt(a), Score: a.GetScore(),
		Summary: a.GetSummary(), Detectors: a.GetDetectors(),
	}
	for _, c := range a.GetContributions() {
		p.Contributions = append(p.Contributions, Contribution{
			Sensor: c.GetSensor(), Share: c.GetShare(), Observed: c.GetObserved(), Low: c.GetExpectedLow(), High: c.GetExpectedHigh(), Detector: c.GetDetector(), Statistic: c.GetStatistic(),
		})
	}
	return p
}

// saidAt is when people would have been told, in the time of the data: broker time, where that is of the same day; for history that was sent long after it happened,
// the end of the window.
func saidAt(a *eventv1.Anomaly) time.Time {
	observed, judged := time.UnixMicro(a.GetObservedUs()), time.UnixMilli(a.GetJudgedAtMs())
	if d := judged.Sub(observed); d >= -longestGap && d <= longestGap {
		return judged.UTC()
	}
	return observed.UTC()
}

func severity(s eventv1.Severity) string {
	return strings.ToLower(strings.TrimPrefix(s.String(), "SEVERITY_"))
}

// maxSensors is of how many sensors of a machine the course is kept.
const maxSensors = 64

// envelope keeps the course of the values, of machines whose details are.
func (m *machine) envelope(at time.Time, sensors []string, values []float32) {
	if m.Scores == nil {
		return
	}
	for i, s := range sensors[:min(len(sensors), maxSensors)] {
		if i == len(m.Sensors) {
			m.Sensors = append(m.Sensors, &Envelope{Sensor: s})
		}
		if m.Sensors[i].Sensor == s {
			m.Sensors[i].add(at, float64(values[i]))
		}
	}
}
