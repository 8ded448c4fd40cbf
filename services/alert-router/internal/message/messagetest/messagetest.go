// Package messagetest has notifications for tests of what is made of them.
package messagetest

import (
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/prometheus/common/model"

	"github.com/tocsin-io/tocsin/services/alert-router/internal/message"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/notification"
)

var now = time.Date(2026, 11, 21, 2, 3, 48, 300e6, time.UTC)

// Now is when the notifications are sent.
func Now() time.Time { return now }

// Fault is one critical alert with everything known of it: a bearing that runs hot.
func Fault() notification.Notification {
	began := now.Add(-26 * time.Second)
	a := notification.Alert{
		ID: "press-07/behaviour/1795226602000000", Key: "5f0d1c6a9be24d0f8a6c1f1d3b0c7e21", Status: notification.Firing, Severity: "critical",
		EquipmentID: "press-07", GatewayID: "gw-hall-3", Cause: "behaviour",
		Summary: "bearing_temp 92.4 is above the expected 61 to 68.5; vibration_x has a spread (standard deviation) of 4.91, above the expected 0.8 to 1.6",
		Labels: notification.Set{
			"alertname": "TocsinBehaviour", "equipment_id": "press-07", "cause": "behaviour", "severity": "critical", "gateway_id": "gw-hall-3",
			"alert_id": "press-07/behaviour/1795226602000000",
		},
		Annotations: notification.Set{
			"summary": "bearing_temp 92.4 is above the expected 61 to 68.5", "score": "0.9997", "runbook_url": "https://wiki.example.com/runbooks/press#bearing",
			"earlier": "3 Nov 2026, 21:14 UTC, for 4 h 10 min; the same sensors in the same proportion (94 %)", "regime": "full load, known for 31 days",
			"cohort": "the other 11 presses of hall 3 run as usual",
		},
		StartsAt: now.Add(-1200 * time.Millisecond), Started: began, Score: 0.9997, Confidence: 0.93, State: "unacknowledged",
		Detectors: []string{"ewma", "spread"},
		Evidence: []notification.Evidence{
			{Sensor: "bearing_temp", Share: 0.62, Observed: 92.4, ExpectedLow: 61, ExpectedHigh: 68.5, Detector: "ewma", Statistic: "mean", Unit: "°C", Series: Rising(began)},
			{Sensor: "vibration_x", Share: 0.27, Observed: 4.91, ExpectedLow: 0.8, ExpectedHigh: 1.6, Detector: "spread", Statistic: "stddev", Unit: "mm/s"},
			{Sensor: "motor_current", Share: 0.11, Observed: 41.8, ExpectedLow: 36.2, ExpectedHigh: 39.9, Detector: "ewma", Statistic: "mean", Unit: "A"},
		},
		Path: []notification.Hop{
			{Name: "sensor to gateway", Took: 640 * time.Millisecond},
			{Name: "gateway to Kafka", Took: 31 * time.Millisecond},
			{Name: "Kafka to judge", Took: 212 * time.Millisecond},
			{Name: "judge to router", Took: 18 * time.Millisecond},
			{Name: "router to here", Took: 4 * time.Millisecond},
		},
		Links: notification.Links{Machine: "https://tocsin.example.com/#/machine/press-07"},
	}
	return group(notification.First, a)
}

// Ended is Fault when it is over.
func Ended() notification.Notification {
	n := Fault()
	a := n.Alerts[0]
	a.Status, a.EndsAt, a.Ended, a.State = notification.Resolved, now.Add(-time.Second), now.Add(-2*time.Second), "returned"
	a.Summary = "back to usual after 24s; it was: bearing_temp 92.4 is above the expected 61 to 68.5"
	n = group(notification.AllResolved, a)
	n.Key = "9d4a30c27c0c4b7c2d5c86d7c3b6f7aa5f0d1c6a9be24d0f8a6c1f1d3b0c7e21"
	return n
}

// Gateway is one incident of many machines: all behind a gateway are silent.
func Gateway(machines int) notification.Notification {
	var list []notification.Alert
	for i := range machines {
		id := fmt.Sprintf("press-%02d", i+1)
		list = append(list, notification.Alert{
			ID: id + "/silence/1795226590000000", Key: fmt.Sprintf("%032x", i+1), Status: notification.Firing, Severity: "warning", EquipmentID: id, GatewayID: "gw-hall-3", Cause: "silence",
			Summary:  "no data arrives from this machine any more; nothing about it can be judged",
			Labels:   notification.Set{"alertname": "TocsinSilence", "equipment_id": model.LabelValue(id), "cause": "silence", "severity": "warning", "gateway_id": "gw-hall-3"},
			StartsAt: now.Add(-4 * time.Second), Started: now.Add(-38 * time.Second), Confidence: 1, Score: 1,
			Links: notification.Links{Machine: "https://tocsin.example.com/#/machine/" + id},
		})
	}
	n := group(notification.First, list...)
	n.Incident = notification.Incident{
		ID: "gw-hall-3/silence", Title: fmt.Sprintf("%d machines behind gateway gw-hall-3 send no data any more", machines), Cause: "silence", Severity: "warning",
		Scope: "gateway", ScopeID: "gw-hall-3", Machines: machines, Since: now.Add(-38 * time.Second),
	}
	n.Links = notification.Links{Machine: "https://tocsin.example.com/#/?search=gw-hall-3"}
	return n
}

// Several is two alerts that have nothing in common but that one receiver is told of them together.
func Several() notification.Notification {
	n := group(notification.NewAlerts, Fault().Alerts[0], Gateway(1).Alerts[0])
	n.Incident = notification.Incident{Severity: "critical", Machines: 2, Since: now.Add(-38 * time.Second)}
	return n
}

// Posted is an alert that came through the API: labels and annotations are all that is known.
func Posted() notification.Notification {
	return group(notification.Repeat, notification.Alert{
		ID: "", Key: "00000000000000000000000000000abc", Status: notification.Firing, Severity: "warning", Cause: "",
		Labels:      notification.Set{"alertname": "DiskAlmostFull", "instance": "db-1:9100", "severity": "warning"},
		Annotations: notification.Set{"summary": "Less than 5 % free on /var", "description": "Less than 5 % free on /var", "dashboard": "https://grafana.example.com/d/1"},
		Summary:     "Less than 5 % free on /var", StartsAt: now.Add(-4 * time.Hour),
	})
}

// Named is Fault with text of somebody's choice wherever text of others gets to.
func Named(text string) notification.Notification {
	n := Fault()
	a := n.Alerts[0]
	a.ID, a.EquipmentID, a.GatewayID, a.Summary, a.AcknowledgedBy = text, text, text, text, text
	a.Evidence = []notification.Evidence{a.Evidence[0]}
	a.Evidence[0].Sensor, a.Evidence[0].Unit, a.Evidence[0].Detector = text, text, text
	a.Evidence[0].Series = nil // its picture has the same texts, and takes its time
	said := model.LabelValue(text)
	a.Labels = notification.Set{"alertname": said, "equipment_id": said, "severity": said}
	a.Annotations = notification.Set{"runbook_url": said, "note": said, "summary": said}
	a.Detectors = []string{text}
	a.Path[0].Name = text
	a.Links = notification.Links{Machine: text, Acknowledge: text, Runbook: text, Verdict: map[string]string{"real": text}}
	n = group(notification.First, a)
	n.Receiver, n.GroupKey, n.Incident.Title, n.Incident.ScopeID = text, text, text, text
	return n
}

func plain(set notification.Set) map[string]string {
	out := make(map[string]string, len(set))
	for k, v := range set {
		out[string(k)] = string(v)
	}
	return out
}

func group(why notification.Reason, list ...notification.Alert) notification.Notification {
	first := list[0]
	return notification.Notification{
		Key: "5f0d1c6a9be24d0f8a6c1f1d3b0c7e219d4a30c27c0c4b7c2d5c86d7c3b6f7aa", GroupKey: `{}:{cause="` + first.Cause + `", equipment_id="` + first.EquipmentID + `"}`,
		Receiver: "on-call", Status: first.Status, Reason: why, At: now, Alerts: list, ExternalURL: "https://tocsin.example.com",
		Incident: notification.Incident{
			ID: first.ID, Title: first.EquipmentID + ": " + first.Cause, Cause: first.Cause, Severity: first.Severity, Scope: "machine", ScopeID: first.EquipmentID, Machines: 1,
			Since: first.Started,
		},
		GroupLabels:       map[string]string{"equipment_id": first.EquipmentID, "cause": first.Cause},
		CommonLabels:      plain(first.Labels),
		CommonAnnotations: plain(first.Annotations),
	}
}

// Rising is ten minutes of a temperature that leaves its band at began.
func Rising(began time.Time) []notification.Point {
	var out []notification.Point
	for i := range 121 {
		at := now.Add(time.Duration(i-120) * 5 * time.Second)
		v := 64.8 + 1.6*math.Sin(float64(i)/9) + 0.7*math.Sin(float64(i)*1.7)
		if d := at.Sub(began.Add(-20 * time.Second)).Seconds(); d > 0 {
			v += 27 * (1 - math.Exp(-d/18))
		}
		if i >= 50 && i < 54 {
			v = math.NaN()
		}
		out = append(out, notification.Point{At: at, Value: v})
	}
	out[len(out)-1].Value = 92.4
	return out
}

// Attack is text that somebody could give a machine or a sensor as its name, and what it is meant to do.
type Attack struct{ Name, Text string }

// Attacks on headers, markup, logs and eyes.
func Attacks() []Attack {
	return []Attack{
		{"a header", "press-07\r\nBcc: everybody@example.com"},
		{"a header, bare LF", "press-07\nX-Evil: 1"},
		{"a header, bare CR", "press-07\rX-Evil: 1"},
		{"a body", "press-07\r\n\r\n<h1>hello</h1>"},
		{"an end of message", "press-07\r\n.\r\nMAIL FROM:<evil@example.com>"},
		{"a folded header", "press-07\r\n Bcc: everybody@example.com"},
		{"other line ends", "press-07\u2028Bcc: a\u2029b\u0085c\u000bd\u000ce"},
		{"an encoded word", "=?utf-8?Q?=0D=0ABcc:_everybody@example.com?="},
		{"a script", "<script>alert(1)</script>"},
		{"an attribute", `" onmouseover="alert(1)`},
		{"an image", "<img src=x onerror=alert(1)>"},
		{"an Outlook condition", "<![endif]--><script>alert(1)</script><!--[if mso]>"},
		{"a script address", "javascript:alert(1)"},
		{"a data address", "data:text/html;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg=="},
		{"a style", "</style><script>alert(1)</script>"},
		{"a template", `{{ .GroupKey }}{{ template "x" . }}`},
		{"a Slack mention", "<!channel> <@U024BE7LH> <https://evil.example.com|press-07>"},
		{"Slack marks", "*bold* _it_ ~no~ `code` &lt;!here&gt;"},
		{"Markdown", "[press-07](https://evil.example.com) **bold** ![x](https://evil.example.com/x.png)"},
		{"backwards", "press-\u202e70-sserp\u202c"},
		{"isolates", "press\u2066-\u206907\u200f\u200e\u061c"},
		{"without width", "pr\u200bess\u200d-0\ufeff7\u2060\u00ad"},
		{"tags", "press\U000e0041\U000e007f"},
		{"a terminal", "\x1b[2J\x1b]0;owned\x07press-07\x9b31m"},
		{"a log line", "press-07\n{\"level\":\"info\",\"msg\":\"all is well\"}"},
		{"NUL", "press\x00-07"},
		{"not UTF-8", "press\xff\xfe-07\xc0\xaf"},
		{"long", strings.Repeat("A", 100_000)},
		{"long without spaces in many bytes", strings.Repeat("😀", 20_000)},
		{"only what is hidden", "\u200b\u202e\r\n\x00"},
		{"short message parts", "press-07\nFROM: bank\n€€€^^^{}"},
		{"CSV", "=HYPERLINK(\"https://evil.example.com\")"},
		{"JSON", `","x":{"$gt":""},"y":"`},
		{"a path", "../../../../etc/passwd"},
		{"a percent path", "%2e%2e%2f%0d%0aSet-Cookie:x"},
	}
}

// Composer makes pages with links that look like the real ones and are the same each time.
func Composer() *message.Composer {
	return &message.Composer{Actions: func(id, recipient string, _ time.Time) message.Links {
		h := sha256.Sum256([]byte(id + "\x00" + recipient))
		link := func(what string) string {
			return "https://tocsin.example.com/v/" + what + base64.RawURLEncoding.EncodeToString(append(h[:], h[:24]...))
		}
		l := message.Links{Acknowledge: link("A"), Shelve: link("S")}
		for _, v := range []string{"real", "false", "known", "sensor"} {
			l.Verdicts = append(l.Verdicts, message.Verdict{Name: v, Label: message.VerdictLabel(v), URL: link(v)})
		}
		return l
	}, All: func(ids []string, recipient string, _ time.Time) string {
		h := sha256.Sum256([]byte(strings.Join(ids, "\x00") + "\x00" + recipient))
		return "https://tocsin.example.com/v/G" + base64.RawURLEncoding.EncodeToString(h[:])
	}}
}
