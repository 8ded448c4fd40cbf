package topology

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"

	"github.com/tocsin-io/tocsin/pkg/frame"
	"github.com/tocsin-io/tocsin/pkg/topic"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/detection"
)

// plant is many machines behind some gateways, each sending one sample a second.
type plant struct {
	t         *testing.T
	p         *partition
	logMS     int64
	log       []*kgo.Record
	anomalies []*eventv1.Anomaly
	coverage  map[string]*eventv1.MachineCoverage
	records   int
	bad       map[string]bool // machines whose frames name an unknown schema
}

func newPlant(t *testing.T) *plant {
	return &plant{
		t: t, p: newPartition(3, detection.New(judgeConfig(), 1), 1000, resolve, exporter{}, nil),
		logMS: epochMS, coverage: map[string]*eventv1.MachineCoverage{}, bad: map[string]bool{},
	}
}

func (l *plant) write(r *kgo.Record) {
	r.Topic, r.Partition, r.Offset, r.Timestamp = topic.Frames, 3, int64(len(l.log)), time.UnixMilli(l.logMS)
	l.log = append(l.log, r)
	err := l.p.apply(context.Background(), r, func(o *kgo.Record) {
		switch topic.Type(o) {
		case topic.TypeAnomaly:
			a := new(eventv1.Anomaly)
			if err := proto.Unmarshal(o.Value, a); err != nil {
				l.t.Fatal(err)
			}
			l.anomalies = append(l.anomalies, a)
		case topic.TypeCoverage:
			c := new(eventv1.MachineCoverage)
			if err := proto.Unmarshal(o.Value, c); err != nil {
				l.t.Fatal(err)
			}
			if string(o.Key) != c.EquipmentId || o.Topic != topic.Coverage || o.Partition != 3 {
				l.t.Fatalf("coverage of %q on %s[%d] under key %q", c.EquipmentId, o.Topic, o.Partition, o.Key)
			}
			l.coverage[c.EquipmentId] = c
			l.records++
		}
	})
	if err != nil {
		l.t.Fatal(err)
	}
	l.p.arena.reset()
}

// second lets a second pass, in which the machines that alive names, by gateway, send.
func (l *plant) second(machines map[string]int, alive func(gateway string, machine int) bool) {
	for _, gateway := range sortedKeys(machines) {
		for i := range machines[gateway] {
			if !alive(gateway, i) {
				continue
			}
			l.logMS += 2
			id := fmt.Sprintf("%s-m%d", gateway, i)
			f := frame.New(id, gateway, uint64(l.logMS), time.UnixMilli(l.logMS), []string{"s0", "s1"}, []float32{float32(l.logMS%7) + 0.5, 3})
			if l.bad[id] {
				f = &frame.Frame{EquipmentID: []byte(id), GatewayID: []byte(gateway), SchemaID: []byte("unknown"), Sequence: uint64(l.logMS), BaseTimeUS: l.logMS * 1000, Values: []float32{1, 2}}
			}
			l.write(frameRecord(f))
		}
	}
	l.logMS = (l.logMS/1000 + 1) * 1000
	l.write(tickRecord())
}

func all(string, int) bool { return true }

// of is the state and reason of all sensors of a machine, which must be one.
func (l *plant) of(id string) string {
	c := l.coverage[id]
	if c == nil {
		return "none"
	}
	var parts []string
	for _, g := range c.Groups {
		parts = append(parts, strings.ToLower(strings.TrimPrefix(g.State.String(), "COVERAGE_STATE_"))+" "+g.Reason)
	}
	return strings.Join(parts, ", ")
}

func (l *plant) started(cause string) (out []*eventv1.Anomaly) {
	for _, a := range l.anomalies {
		if a.Cause == cause && a.Phase == eventv1.Phase_PHASE_STARTED {
			out = append(out, a)
		}
	}
	return out
}

// 200 machines fall silent with their gateway: each report says so and carries what the router groups by, while a machine that falls silent alone is told apart.
func TestDeadGatewayIsToldFromDeadMachine(t *testing.T) {
	l := newPlant(t)
	machines := map[string]int{"gw-7": 200, "gw-8": 10}
	for range 40 {
		l.second(machines, all)
	}
	if got := l.of("gw-7-m3"); got != "learning new_machine" || l.coverage["gw-7-m3"].LearningLeftUs <= 0 {
		t.Fatalf("at first: %s, %v", got, l.coverage["gw-7-m3"])
	}
	for range 30 { // the gateway dies; so does one machine behind the other
		l.second(machines, func(gateway string, i int) bool { return gateway == "gw-8" && i != 4 })
	}
	silences := l.started("silence")
	if len(silences) != 201 {
		t.Fatalf("%d silences, want 201", len(silences))
	}
	for _, a := range silences {
		if a.EquipmentId == "gw-8-m4" {
			if a.Origin != eventv1.Origin_ORIGIN_MACHINE || !strings.HasPrefix(a.Summary, "no data arrives from this machine") || a.GatewayId != "gw-8" {
				t.Fatalf("%v", a)
			}
			continue
		}
		if a.Origin != eventv1.Origin_ORIGIN_GATEWAY || a.GatewayId != "gw-7" || a.Machines != 200 || !strings.HasPrefix(a.Summary, `gateway "gw-7" is silent: 200 machines behind it`) {
			t.Fatalf("%v", a)
		}
	}
	if a, b := l.of("gw-7-m3"), l.of("gw-8-m4"); a != "gateway_down " || b != "silent machine" {
		t.Fatalf("coverage %q and %q", a, b)
	}
	l.p.takeCensus()
	c := &l.p.census
	if c.sensors[eventv1.CoverageState_COVERAGE_STATE_SILENT] != 402 || c.sensors[eventv1.CoverageState_COVERAGE_STATE_LEARNING] != 18 {
		t.Fatalf("%v", c.sensors)
	}
	records := l.records
	for range 600 { // nothing more to say of what stays silent, but for the escalation
		l.second(machines, func(gateway string, i int) bool { return gateway == "gw-8" && i != 4 })
	}
	if n := l.records - records; n > 201+18 {
		t.Errorf("%d records of coverage in ten minutes in which nothing changed", n)
	}
	for range 40 {
		l.second(machines, all)
	}
	ended := 0
	for _, a := range l.anomalies {
		if a.Cause == "silence" && a.Phase == eventv1.Phase_PHASE_ENDED {
			ended++
		}
	}
	if ended != 201 {
		t.Errorf("%d silences ended, want 201", ended)
	}
	if got := l.of("gw-7-m3"); got != "learning new_machine" && got != "judged " {
		t.Errorf("after its return: %s", got)
	}
}

// Two machines of many that stop at once do not make their gateway silent: the others are heard.
func TestGatewayOfWhichSomeAreHeardIsNotSilent(t *testing.T) {
	l := newPlant(t)
	machines := map[string]int{"gw-7": 30}
	for range 20 {
		l.second(machines, all)
	}
	for range 30 {
		l.second(machines, func(_ string, i int) bool { return i >= 2 })
	}
	silences := l.started("silence")
	if len(silences) != 2 {
		t.Fatalf("%d silences", len(silences))
	}
	for _, a := range silences {
		if a.Origin != eventv1.Origin_ORIGIN_MACHINE || a.Machines != 0 {
			t.Fatalf("%v", a)
		}
	}
}

// A machine whose frames are all refused is not called silent, before and after a restore.
func TestRefusedFramesAreNotSilence(t *testing.T) {
	l := newPlant(t)
	machines := map[string]int{"gw": 3}
	for range 20 {
		l.second(machines, all)
	}
	l.bad["gw-m1"] = true
	for range 30 {
		l.second(machines, all)
	}
	silences := l.started("silence")
	if len(silences) != 1 || silences[0].EquipmentId != "gw-m1" || !strings.Contains(silences[0].Summary, "are refused (") {
		t.Fatalf("%v", silences)
	}
	if got := l.of("gw-m1"); got != "dead_lettered " {
		t.Fatalf("coverage %q", got)
	}
	l.bad["gw-m1"] = false
	for range 20 {
		l.second(machines, all)
	}
	if got := l.of("gw-m1"); got != "learning new_machine" {
		t.Fatalf("coverage %q after the end", got)
	}
}
