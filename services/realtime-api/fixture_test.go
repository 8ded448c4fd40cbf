package realtimeapi

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"

	"github.com/tocsin-io/tocsin/pkg/frame"
	"github.com/tocsin-io/tocsin/pkg/kafka"
	"github.com/tocsin-io/tocsin/pkg/kafka/kafkatest"
	"github.com/tocsin-io/tocsin/pkg/topic"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
)

const windowUS = 5_000_000

// sensorShape is one sensor of the made-up fleet: value = base + swing*sin + noise.
type sensorShape struct {
	name                string
	base, swing, period float64
	noise               float64
}

var sensorShapes = []sensorShape{
	{"bearing_temperature_c", 61, 3, 900, 0.25},
	{"vibration_rms_mm_s", 2.1, 0.25, 300, 0.08},
	{"motor_current_a", 42, 5, 240, 0.6},
	{"discharge_pressure_bar", 6.4, 0.3, 420, 0.05},
	{"flow_m3_h", 118, 9, 360, 1.4},
	{"shaft_speed_rpm", 1480, 8, 600, 2},
	{"oil_temperature_c", 54, 2, 1200, 0.2},
	{"winding_temperature_c", 78, 4, 1500, 0.3},
}

// fixture makes records as the processor and the router would write them. It is used from one goroutine.
type fixture struct {
	t   testing.TB
	cl  *kgo.Client
	rng *rand.Rand
}

func newFixture(t testing.TB, cfg kafka.Config) *fixture {
	return &fixture{t: t, cl: kafkatest.Client(t, cfg), rng: rand.New(rand.NewPCG(1, 2))}
}

// send writes the messages and waits until they stand in the log.
func (f *fixture) send(name string, key string, typ string, ms ...proto.Message) {
	f.t.Helper()
	recs := make([]*kgo.Record, len(ms))
	for i, m := range ms {
		b, err := proto.Marshal(m)
		if err != nil {
			f.t.Fatal(err)
		}
		recs[i] = &kgo.Record{Topic: name, Key: []byte(key), Value: b, Headers: []kgo.RecordHeader{{Key: topic.HeaderType, Value: []byte(typ)}}}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := f.cl.ProduceSync(ctx, recs...).FirstErr(); err != nil {
		f.t.Fatalf("produce to %s: %v", name, err)
	}
}

func (f *fixture) windows(ws ...*eventv1.Window) {
	f.t.Helper()
	ms := make([]proto.Message, len(ws))
	for i, w := range ws {
		ms[i] = w
	}
	f.send(topic.Windows, ws[0].EquipmentId, topic.TypeWindow, ms...)
}

func (f *fixture) alert(a *eventv1.AlertEvent) {
	f.t.Helper()
	f.send(topic.Alerts, a.EquipmentId, topic.TypeAlert, a)
}

func (f *fixture) anomaly(a *eventv1.Anomaly) {
	f.t.Helper()
	f.send(topic.Anomalies, a.EquipmentId, topic.TypeAnomaly, a)
}

// coverage writes what is judged of a machine: groups of state, reason and sensors, apart by spaces.
func (f *fixture) coverage(id, gateway string, groups ...string) {
	f.t.Helper()
	c := &eventv1.MachineCoverage{EquipmentId: id, GatewayId: gateway, AtMs: time.Now().UnixMilli(), Health: eventv1.Health_HEALTH_HEALTHY}
	for _, g := range groups {
		part := strings.SplitN(g, " ", 3)
		names := []string{part[2]}
		if !strings.Contains(part[2], "<") {
			names = strings.Fields(part[2])
		}
		c.Groups = append(c.Groups, &eventv1.CoverageGroup{
			State: eventv1.CoverageState(eventv1.CoverageState_value["COVERAGE_STATE_"+strings.ToUpper(part[0])]), Reason: part[1],
			Count: uint32(len(names)), Sensors: names, JudgedUntilUs: make([]int64, len(names)),
		})
	}
	f.send(topic.Coverage, id, topic.TypeCoverage, c)
}

// window is the machine's window that starts at startUS. fault pushes the sensors named in it away from what is
// expected, by that many times the usual width.
func (f *fixture) window(id string, startUS int64, sensors int, fault map[string]float64, learning bool) *eventv1.Window {
	w := &eventv1.Window{
		WindowId: fmt.Sprintf("%s/%d/0", id, startUS), EquipmentId: id, StartUs: startUS, EndUs: startUS + windowUS,
		Learning: learning, ClosedAtMs: time.Now().UnixMilli(),
	}
	phase := 0.0
	for _, c := range id {
		phase += float64(c) * 37
	}
	for i := range sensors {
		s := sensorShapes[i%len(sensorShapes)]
		name := s.name
		if i >= len(sensorShapes) {
			name = fmt.Sprintf("%s_%d", s.name, i/len(sensorShapes)+1)
		}
		t := float64(startUS)/1e6 + phase
		center := s.base + s.swing*math.Sin(2*math.Pi*t/s.period)
		width := 3*s.noise + 0.15*s.swing
		mean := center + s.noise*f.rng.NormFloat64()*0.6 + fault[name]*width
		spread := s.noise * (1.6 + math.Abs(fault[name])*0.5)
		score := f.rng.Float64() * 0.9
		if d := math.Abs(fault[name]); d > 0.8 {
			score = 1 - math.Pow(10, -1-d)
		}
		sw := &eventv1.SensorWindow{
			Sensor: name, Count: 5, Mean: mean, Stddev: spread / 2, Min: mean - spread*(0.7+0.6*f.rng.Float64()),
			Max: mean + spread*(0.7+0.6*f.rng.Float64()), Last: mean + spread*0.4*f.rng.NormFloat64(), Score: min(score, 0.99999),
			ExpectedLow: center - width, ExpectedHigh: center + width,
		}
		if learning {
			sw.ExpectedLow, sw.ExpectedHigh, sw.Score = math.NaN(), math.NaN(), 0
		}
		w.Score = max(w.Score, sw.Score)
		w.Sensors = append(w.Sensors, sw)
	}
	return w
}

// alertOf opens an alert on a machine.
func alertOf(id, cause string, sev eventv1.Severity, startedUS int64, summary string, cs ...*eventv1.Contribution) *eventv1.AlertEvent {
	alertID := fmt.Sprintf("%s/%s/%d", id, cause, startedUS)
	return &eventv1.AlertEvent{
		EventId: alertID + "/opened", AlertId: alertID, EquipmentId: id, Cause: cause, Severity: sev, Score: 0.9991,
		Transition: eventv1.AlertTransition_ALERT_TRANSITION_OPENED, StartedUs: startedUS, AtMs: time.Now().UnixMilli(),
		Summary: summary, Labels: map[string]string{"site": "north"}, Contributions: cs,
	}
}

func closed(a *eventv1.AlertEvent, endedUS int64) *eventv1.AlertEvent {
	c := proto.Clone(a).(*eventv1.AlertEvent)
	c.EventId, c.Transition, c.EndedUs = a.AlertId+"/closed", eventv1.AlertTransition_ALERT_TRANSITION_CLOSED, endedUS
	c.AtMs++
	return c
}

func reportOf(a *eventv1.AlertEvent, phase eventv1.Phase, observedUS int64) *eventv1.Anomaly {
	return &eventv1.Anomaly{
		AnomalyId: fmt.Sprintf("%s/%d/%d", a.AlertId, observedUS, phase), EpisodeId: a.AlertId, EquipmentId: a.EquipmentId,
		Cause: a.Cause, Phase: phase, Severity: a.Severity, Score: a.Score, Confidence: 0.92, StartedUs: a.StartedUs,
		ObservedUs: observedUS, JudgedAtMs: a.AtMs, Contributions: a.Contributions, Summary: a.Summary, GatewayId: "gw-north-1",
	}
}

// frames sends values as a gateway would, ten times a second: of pump-04, of new-01, which no window is of, and of new-02, whose are an hour old.
type frames struct {
	t    *testing.T
	cl   *kgo.Client
	stop context.CancelFunc
	wg   sync.WaitGroup
	seq  uint64
}

func newFrames(t *testing.T, cfg kafka.Config) *frames {
	f := &frames{t: t, cl: kafkatest.Client(t, cfg), stop: func() {}}
	t.Cleanup(f.end)
	return f
}

func (f *frames) begin() {
	ctx, cancel := context.WithCancel(context.Background())
	f.stop = cancel
	f.wg.Go(func() {
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case now := <-tick.C:
				f.seq++
				var recs []*kgo.Record
				for id, at := range map[string]time.Time{"pump-04": now, "new-01": now, "new-02": now.Add(-time.Hour)} {
					names := []string{sensorShapes[0].name, "stuck"}
					x := frame.New(id, "gw-1", f.seq, at, names, []float32{4321, 1})
					x.Qualities = []uint8{frame.QualityGood, frame.QualityBad}
					recs = append(recs, &kgo.Record{Topic: topic.Frames, Key: []byte(id), Value: x.AppendTo(nil), Headers: []kgo.RecordHeader{{Key: topic.HeaderType, Value: []byte(topic.TypeFrame)}}})
				}
				if err := f.cl.ProduceSync(ctx, recs...).FirstErr(); err != nil && ctx.Err() == nil {
					f.t.Errorf("frames: %v", err)
					return
				}
			}
		}
	})
}

func (f *frames) end() {
	f.stop()
	f.wg.Wait()
}

// start runs a service on a free port until the test ends, and waits until it is ready.
func start(t testing.TB, k kafka.Config, change func(*Config)) *running {
	t.Helper()
	return startAt(t, k, "127.0.0.1:0", change)
}
