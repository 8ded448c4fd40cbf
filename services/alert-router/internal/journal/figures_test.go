package journal

import (
	"fmt"
	"reflect"
	"testing"
	"time"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/lifecycle"
)

// A day of three machines, written by hand and counted by hand.
//
//	pump     three alerts an hour apart, acknowledged after 10 s, 20 s and 90 s; said to be real, false, false
//	fan      one alert that has stood for 30 hours, of which nobody has said anything; one that was the sensor's
//	storm-*  eleven alerts within ten minutes; one of them known work
func testFiguresOfADayByHand(t *testing.T, open func() *Store) {
	s := open()
	day := time.UnixMilli(t0).UTC().Truncate(24 * time.Hour)
	l, offset := lifecycle.New(lifecycle.Policy{Keep: 1000 * time.Hour}), int64(0)
	event := func(machine, id string, at time.Time, tr eventv1.AlertTransition, fill func(*eventv1.AlertEvent)) {
		ms := at.UnixMilli()
		ev := &eventv1.AlertEvent{EventId: id + "/" + lifecycle.TransitionName(tr), AlertId: id, EquipmentId: machine, Cause: "limit", Transition: tr, Severity: 2, AtMs: ms, StartedUs: ms * 1000}
		if fill != nil {
			fill(ev)
		}
		offset++
		_ = l.Apply(lifecycle.At{Offset: offset, MS: ms}, ev)
	}
	alert := func(machine, id string, at time.Time, acked time.Duration, v eventv1.AlertVerdict, stands bool) {
		event(machine, id, at, eventv1.AlertTransition_ALERT_TRANSITION_OPENED, nil)
		if acked > 0 {
			event(machine, id, at.Add(acked), eventv1.AlertTransition_ALERT_TRANSITION_ACKNOWLEDGED, func(ev *eventv1.AlertEvent) { ev.Actor = "ada" })
		}
		if v != 0 {
			event(machine, id, at.Add(100*time.Second), eventv1.AlertTransition_ALERT_TRANSITION_VERDICT, func(ev *eventv1.AlertEvent) { ev.Actor, ev.Verdict = "ada", v })
		}
		if !stands {
			event(machine, id, at.Add(2*time.Minute), eventv1.AlertTransition_ALERT_TRANSITION_CLOSED, func(ev *eventv1.AlertEvent) { ev.EndedUs = ev.GetAtMs() * 1000 })
		}
	}
	const genuine, wrong, known, sensor = eventv1.AlertVerdict_ALERT_VERDICT_REAL, eventv1.AlertVerdict_ALERT_VERDICT_FALSE, eventv1.AlertVerdict_ALERT_VERDICT_KNOWN, eventv1.AlertVerdict_ALERT_VERDICT_SENSOR
	alert("fan", "fan/1", day.Add(-6*time.Hour), 0, 0, true) // before the day, and stands in it
	alert("pump", "pump/1", day.Add(1*time.Hour), 10*time.Second, genuine, false)
	alert("pump", "pump/2", day.Add(2*time.Hour), 20*time.Second, wrong, false)
	alert("pump", "pump/3", day.Add(3*time.Hour), 90*time.Second, wrong, false)
	alert("fan", "fan/2", day.Add(9*time.Hour), 0, sensor, false)
	for i := range 11 {
		m, v := fmt.Sprintf("storm-%02d", i), eventv1.AlertVerdict(0)
		if i == 0 {
			v = known
		}
		alert(m, m+"/1", day.Add(17*time.Hour+time.Duration(i)*30*time.Second), 0, v, false)
	}
	save(t, s, Batch{Changes: l.Take(), Next: map[int32]int64{0: offset + 1}})

	told := func(id, key, receiver, integration, status, outcome string, at time.Time) Told {
		return Told{ID: id, MessageKey: key, AlertID: "pump/1", EquipmentID: "pump", Receiver: receiver, Integration: integration, Status: status, Outcome: outcome, Attempts: 1, AtMS: at.UnixMilli()}
	}
	// Three shifts of eight hours. A message of two alerts is one page; what did not arrive, an end, and the log are none.
	if err := s.SaveTold(t.Context(), []Told{
		told("1", "k1", "ada", "email", "firing", "sent", day.Add(time.Hour)),
		told("2", "k1", "ada", "email", "firing", "sent", day.Add(time.Hour)),
		told("3", "k2", "ada", "email", "firing", "sent", day.Add(2*time.Hour)),
		told("4", "k3", "ada", "email", "resolved", "sent", day.Add(2*time.Hour)),
		told("5", "k4", "ada", "email", "firing", "failed", day.Add(3*time.Hour)),
		told("6", "k5", "ada", "log", "firing", "sent", day.Add(3*time.Hour)),
		told("7", "k6", "bo", "email", "firing", "sent", day.Add(17*time.Hour)),
		told("8", "k7", "bo", "email", "firing", "sent", day.Add(24*time.Hour)), // the next day's
	}); err != nil {
		t.Fatal(err)
	}

	got, err := s.Figures(t.Context(), Filter{}, day, day.Add(24*time.Hour), day.Add(24*time.Hour), 8*time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	for i := range got.Pages {
		got.Pages[i].Begin = got.Pages[i].Begin.UTC()
	}
	want := Figures{
		From: day, To: day.Add(24 * time.Hour), Alerts: map[string]int{"warning": 15}, States: map[string]int{"unacknowledged": 1},
		Pages:        []Shift{{"ada", day, 2}, {"bo", day.Add(16 * time.Hour), 1}},
		Acknowledged: 3, AckMedian: 20 * time.Second, AckP90: 20 * time.Second, AckMost: 90 * time.Second,
		Precision: []Precision{
			{EquipmentID: "fan", Sensor: 1}, {EquipmentID: "pump", Real: 1, False: 2, Share: 1.0 / 3}, {EquipmentID: "storm-00", Known: 1, Share: 1},
		},
		Stale:      []Standing{{"fan/1", "fan", "limit", "unacknowledged", day.Add(-6 * time.Hour)}},
		Chattering: []Chatter{{"pump", "limit", 3}},
		Floods:     1,
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// To acknowledge an incident is one act of somebody, however many machines are part of it: they are acknowledged, and the figures count the act once.
func testTimeToAcknowledgeAnIncident(t *testing.T, open func() *Store) {
	s := open()
	l, offset := lifecycle.New(lifecycle.Policy{Keep: time.Hour, Holds: lifecycle.Holds{Gateways: true}}), int64(0)
	event := func(machine string, ms int64, tr eventv1.AlertTransition, actor string) {
		offset++
		ev := &eventv1.AlertEvent{
			EventId: machine + "/" + lifecycle.TransitionName(tr), AlertId: machine, EquipmentId: machine, Cause: "silence", Transition: tr, Severity: 2, AtMs: ms, StartedUs: ms * 1000,
			Labels: map[string]string{"gateway_id": "gw"}, Origin: eventv1.Origin_ORIGIN_GATEWAY, Actor: actor,
		}
		if err := l.Apply(lifecycle.At{Offset: offset, MS: ms}, ev); err != nil {
			t.Fatal(err)
		}
	}
	for _, m := range []string{"a", "b", "c"} {
		event(m, t0, eventv1.AlertTransition_ALERT_TRANSITION_OPENED, "")
	}
	event("a", t0+30_000, eventv1.AlertTransition_ALERT_TRANSITION_ACKNOWLEDGED, "ada")
	save(t, s, Batch{Changes: l.Take(), Next: map[int32]int64{0: offset + 1}})
	at := time.UnixMilli(t0)
	got, err := s.Figures(t.Context(), Filter{}, at, at.Add(time.Hour), at.Add(time.Hour), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	if got.States["acknowledged"] != 3 || got.Acknowledged != 1 || got.AckMost != 30*time.Second {
		t.Errorf("%v, %d acknowledged after %s at most; want 3 in that state, of one act after 30 s", got.States, got.Acknowledged, got.AckMost)
	}
}
