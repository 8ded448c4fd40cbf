package journal

import (
	"fmt"
	"testing"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/lifecycle"
)

// BenchmarkSave writes the openings of a burst: 4,000 transitions in a batch, each of another machine, into a journal that has more of them each time.
func BenchmarkSave(b *testing.B) {
	s, err := Open(b.Context(), "", b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = s.Close() })
	const perBatch = 4000
	l := lifecycle.New(lifecycle.Policy{})
	n := int64(0)
	for b.Loop() {
		b.StopTimer()
		var told []Told
		for range perBatch {
			n++
			id := fmt.Sprintf("press-%06d/limit/%d", n, 1_700_000_000_000_000+n)
			ev := &eventv1.AlertEvent{
				EventId: id + "/opened", AlertId: id, EquipmentId: fmt.Sprintf("press-%06d", n), Cause: "limit", Transition: eventv1.AlertTransition_ALERT_TRANSITION_OPENED,
				Severity: eventv1.Severity_SEVERITY_WARNING, AtMs: n, Summary: "spindle temperature is 91.4, above 85.0 for 20 s; bearing vibration and motor current rise with it",
				Labels: map[string]string{"gateway_id": "line-a", "equipment_id": "press", "cause": "limit"}, Annotations: map[string]string{"summary": "spindle temperature is 91.4"},
				Contributions: []*eventv1.Contribution{{Sensor: "spindle_temperature", Share: 0.7}, {Sensor: "bearing_vibration", Share: 0.2}, {Sensor: "motor_current", Share: 0.1}},
			}
			_ = l.Apply(lifecycle.At{Offset: n, MS: n}, ev)
			told = append(told, Told{ID: fmt.Sprintf("%032x", n*7919), MessageKey: fmt.Sprintf("%032x", n/100), AlertID: id, EquipmentID: ev.GetEquipmentId(), Receiver: "people", Integration: "webhook", Attempts: 1})
		}
		batch := Batch{Changes: l.Take(), Next: map[int32]int64{0: n + 1}}
		b.StartTimer()
		if err := s.Save(b.Context(), batch); err != nil {
			b.Fatal(err)
		}
		if err := s.SaveTold(b.Context(), told); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "transitions/s")
}
