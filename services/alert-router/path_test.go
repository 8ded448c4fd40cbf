package alertrouter

import (
	"strings"
	"testing"
	"time"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/lifecycle"
	words "github.com/tocsin-io/tocsin/services/alert-router/internal/message"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/notification"
)

// What a page says of the way it came: each step of which the event has the time, and nothing that nobody could use.
func TestPathOfAPage(t *testing.T) {
	const start = int64(1_767_225_600_000)
	whole := func() *lifecycle.Alert {
		return &lifecycle.Alert{
			OpenedMS: start + 700, StartedUS: (start - 60_000) * 1000, EventMS: start + 800,
			Event: &eventv1.AlertEvent{ObservedUs: start * 1000, ReceivedAtMs: start + 650, AtMs: start + 700, AnomalyAtMs: start + 780},
		}
	}
	now := time.UnixMilli(start + 815)
	for name, c := range map[string]struct {
		change func(*lifecycle.Alert)
		now    time.Time
		want   string
	}{
		"every step": {func(*lifecycle.Alert) {}, now, "sensor to gateway 650 ms > gateway to Kafka 50 ms > Kafka to judge 80 ms > judge to router 20 ms > router to here 15 ms, in all 815 ms"},
		"judged by a tick, which no gateway has sent": {
			func(a *lifecycle.Alert) { a.Event.ReceivedAtMs = 0 }, now,
			"sensor to Kafka 700 ms > Kafka to judge 80 ms > judge to router 20 ms > router to here 15 ms, in all 815 ms",
		},
		"an event of before": {func(a *lifecycle.Alert) {
			a.StartedUS, a.Event = start*1000, &eventv1.AlertEvent{AtMs: start + 700}
		}, now, "sensor to Kafka 700 ms > Kafka to here, judged and routed 115 ms, in all 815 ms"},
		"a gateway's clock that is ahead": {
			func(a *lifecycle.Alert) { a.Event.ReceivedAtMs = start + 710 }, now,
			"sensor to gateway 710 ms > gateway to Kafka -10 ms > Kafka to judge 80 ms > judge to router 20 ms > router to here 15 ms, in all 815 ms",
		},
		"a gateway's clock that is wrong":  {func(a *lifecycle.Alert) { a.Event.ReceivedAtMs = 1 }, now, ""},
		"history that is judged again":     {func(a *lifecycle.Alert) { a.Event.ObservedUs = 1 }, now, ""},
		"told again the next day":          {func(*lifecycle.Alert) {}, now.Add(24 * time.Hour), ""},
		"the end of it":                    {func(a *lifecycle.Alert) { a.ClosedMS = start + 900 }, now, ""},
		"nothing is known of its judgment": {func(a *lifecycle.Alert) { a.Event.AtMs = 0 }, now, ""},
	} {
		t.Run(name, func(t *testing.T) {
			a := whole()
			c.change(a)
			n := notification.Notification{
				At: c.now, Alerts: []notification.Alert{{ID: "m/limit/1", EquipmentID: "m", Cause: "limit", Status: notification.Firing, Path: path(a, c.now)}},
			}
			page := (&words.Composer{}).Page(n, "")
			got := ""
			if lead := page.Lead(); len(lead.Path) > 0 {
				got = words.PathLine(lead) + ", in all " + lead.Took
			}
			if got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			if text := words.Text(page); strings.Contains(text, "On the way") != (c.want != "") {
				t.Error(text)
			}
		})
	}
}
