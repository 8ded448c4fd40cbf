package load

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"

	"github.com/tocsin-io/tocsin/pkg/topic"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
)

// episode is one anomaly of a machine from its beginning to its end: one alert.
type episode struct {
	n        int
	id       string
	machine  string
	gateway  string
	severity eventv1.Severity
	started  time.Time // when its beginning was handed to the Kafka client
	ended    time.Time // its end; zero: it stands
}

// newEpisode is the n-th one: of a machine of its own, behind one of so many gateways. One in five is critical.
func newEpisode(prefix string, n, gateways int, at time.Time) *episode {
	e := &episode{n: n, machine: fmt.Sprintf("%s-%06d", prefix, n), gateway: fmt.Sprintf("%s-line-%04d", prefix, n%gateways), severity: eventv1.Severity_SEVERITY_WARNING, started: at}
	if n%5 == 0 {
		e.severity = eventv1.Severity_SEVERITY_CRITICAL
	}
	e.id = fmt.Sprintf("%s/limit/%d", e.machine, at.UnixMicro())
	return e
}

// report is the record of a beginning or an end, as the stream-processor writes it.
func (e *episode) report(phase eventv1.Phase, at time.Time) (*kgo.Record, error) {
	name := map[eventv1.Phase]string{eventv1.Phase_PHASE_STARTED: "started", eventv1.Phase_PHASE_ENDED: "ended"}[phase]
	a := &eventv1.Anomaly{
		AnomalyId: fmt.Sprintf("%s/%d/%s", e.id, at.UnixMicro(), name), EpisodeId: e.id, EquipmentId: e.machine, Cause: "limit", Phase: phase, Severity: e.severity,
		Score: 0.97, Confidence: 0.9, StartedUs: e.started.UnixMicro(), ObservedUs: at.UnixMicro(), JudgedAtMs: at.UnixMilli(), GatewayId: e.gateway,
		Summary: "spindle temperature is 91.4, above 85.0 for 20 s; bearing vibration and motor current rise with it", Detectors: []string{"limits", "ewma"},
		Contributions: []*eventv1.Contribution{
			{Sensor: "spindle_temperature", Share: 0.7, Observed: 91.4, ExpectedLow: 60.5, ExpectedHigh: 85, Detector: "limits", Statistic: "mean"},
			{Sensor: "bearing_vibration", Share: 0.2, Observed: 4.1, ExpectedLow: 1.2, ExpectedHigh: 2.9, Detector: "ewma", Statistic: "mean"},
			{Sensor: "motor_current", Share: 0.1, Observed: 18.8, ExpectedLow: 11.2, ExpectedHigh: 16.4, Detector: "ewma", Statistic: "stddev"},
		},
	}
	value, err := proto.Marshal(a)
	if err != nil {
		return nil, fmt.Errorf("anomaly of %s: %w", e.id, err)
	}
	return &kgo.Record{
		Topic: topic.Anomalies, Key: []byte(e.machine), Value: value, Timestamp: at,
		Headers: []kgo.RecordHeader{{Key: topic.HeaderType, Value: []byte(topic.TypeAnomaly)}, {Key: topic.HeaderID, Value: []byte(a.GetAnomalyId())}},
	}, nil
}

// begin and end write an episode's reports; promise is told what became of each record.
func (e *episode) begin(ctx context.Context, cl *kgo.Client, p *produced) error {
	r, err := e.report(eventv1.Phase_PHASE_STARTED, e.started)
	if err == nil {
		cl.Produce(ctx, r, p.promise)
	}
	return err
}

func (e *episode) end(ctx context.Context, cl *kgo.Client, p *produced, at time.Time) error {
	e.ended = at
	r, err := e.report(eventv1.Phase_PHASE_ENDED, at)
	if err == nil {
		cl.Produce(ctx, r, p.promise)
	}
	return err
}

// ticking has each partition's time pass, as the stream-processor does once a second, until ctx ends.
func (w *World) ticking(ctx context.Context) error {
	cl, err := w.client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	if err != nil {
		return err
	}
	defer cl.Close()
	to, err := ends(ctx, cl, topic.Anomalies)
	if err != nil {
		return err
	}
	every := time.NewTicker(time.Second)
	defer every.Stop()
	var p produced
	for ctx.Err() == nil {
		for i := range to {
			cl.Produce(context.WithoutCancel(ctx), &kgo.Record{
				Topic: topic.Anomalies, Partition: i, Value: binary.AppendUvarint([]byte{1 << 3}, uint64(uint32(i))),
				Headers: []kgo.RecordHeader{{Key: topic.HeaderType, Value: []byte(topic.TypeTick)}},
			}, p.promise)
		}
		select {
		case <-ctx.Done():
		case <-every.C:
		}
	}
	return p.err()
}
