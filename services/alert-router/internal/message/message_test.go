package message_test

import (
	"math"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/prometheus/common/model"
	"golang.org/x/net/html"
	"pgregory.net/rapid"

	"github.com/tocsin-io/tocsin/services/alert-router/internal/message"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/message/messagetest"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/notification"
)

func TestNumber(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0", 92.4: "92.4", 92.4321: "92.43", 0.012345: "0.01235", 1483.25: "1483", 12345.6: "12346", 123456789: "123456789", 1e9: "1e+09", 1.5e-7: "1.5e-07", -3.5: "-3.5",
		math.Inf(1): "beyond measure", 999.96: "1000", 61: "61", 0.1: "0.1",
	} {
		if got := message.Number(v); got != want {
			t.Errorf("%v: %q, want %q", v, got, want)
		}
	}
	if message.Number(math.NaN()) != "no value" || message.Quantity(math.NaN(), "V") != "no value" || message.Quantity(230, "V") != "230 V" {
		t.Error("no value")
	}
}

func TestDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0 µs", 850 * time.Millisecond: "850 ms", 1200 * time.Millisecond: "1.2 s", 2 * time.Second: "2 s", 59*time.Second + 999*time.Millisecond: "59 s", time.Minute: "1 min",
		252 * time.Second: "4 min 12 s", 125 * time.Minute: "2 h 5 min", 76 * time.Hour: "3 d 4 h", -1500 * time.Millisecond: "-1.5 s", 9990 * time.Millisecond: "9.9 s",
	} {
		if got := message.Duration(d); got != want {
			t.Errorf("%v: %q, want %q", d, got, want)
		}
	}
}

func TestClean(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, limit := rapid.String().Draw(t, "s"), rapid.IntRange(0, 40).Draw(t, "limit")
		got := message.Clean(s, limit)
		if utf8.RuneCountInString(got) > limit || !utf8.ValidString(got) || strings.Contains(got, "  ") {
			t.Fatalf("%q", got)
		}
		for _, r := range got {
			if unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == '\u2028' || r == '\u2029' {
				t.Fatalf("%U in %q", r, got)
			}
		}
		if again := message.Clean(got, limit); again != got {
			t.Fatalf("cleaned again %q becomes %q", got, again)
		}
	})
	for in, want := range map[string]string{
		"press-07\r\nBcc: x": "press-07 Bcc: x", "a\u202eb": "ab", " a \t b ": "a b", "a\xffb": "a\ufffdb", "Prüfstand 3 – 92 °C": "Prüfstand 3 – 92 °C",
	} {
		if got := message.Clean(in, 100); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	if got := message.Clean("abcdef", 4); got != "abc…" {
		t.Errorf("%q", got)
	}
}

func TestLink(t *testing.T) {
	for _, s := range []string{"https://a.example/x?y=1#z", "http://127.0.0.1:8080/#/machine/press%2007"} {
		if message.Link(s) != s {
			t.Errorf("%q refused", s)
		}
	}
	for _, s := range []string{
		"", "javascript:alert(1)", "JaVaScRiPt:alert(1)", "data:text/html,x", "//a.example", "/x", "https://", "https://a@b.example", "https://a.example/\r\nx", "https://a.example/<b>", `https://a.example/"x`,
		"https://a.example/x y", "https://a.example/x|y", "vbscript:x", "https://a.example/\u202ex", "file:///etc/passwd", "https://a.example/`x`", "https://" + strings.Repeat("a", 3000),
	} {
		if got := message.Link(s); got != "" {
			t.Errorf("%q gives %q", s, got)
		}
	}
}

// What a page must say of a fault, in every form that has room for it.
func TestPageSaysEverything(t *testing.T) {
	p := messagetest.Composer().Page(messagetest.Fault(), "anna@example.com")
	h, err := message.HTML(p, message.Pictures(p, time.UTC))
	if err != nil {
		t.Fatal(err)
	}
	for form, text := range map[string]string{"text": message.Text(p), "HTML": html.UnescapeString(string(h))} {
		for what, want := range map[string]string{
			"machine": "press-07", "sensor": "bearing_temp", "observed": "92.4 °C", "expected": "61 to 68.5 °C", "how far": "23.9 °C above", "since when": "02:03:22 UTC", "how long": "26 s ago",
			"severity": "critical", "confidence": "93 %", "p-value in words": "once in 3,300 windows", "p-value": "p 0.0003", "other sensor": "vibration_x", "its share": "27 %", "like it before": "3 Nov 2026",
			"regime": "full load", "cohort": "the other 11 presses", "latency of a hop": "gateway to Kafka", "latency in all": "905 ms", "runbook": "https://wiki.example.com/runbooks/press#bearing",
			"chart": "https://tocsin.example.com/#/machine/press-07", "acknowledge": "https://tocsin.example.com/v/A", "shelve": "https://tocsin.example.com/v/S",
			"real": "https://tocsin.example.com/v/real", "false": "https://tocsin.example.com/v/false", "known": "https://tocsin.example.com/v/known", "sensor fault": "https://tocsin.example.com/v/sensor",
			"key": messagetest.Fault().Key,
		} {
			if !strings.Contains(text, want) {
				t.Errorf("%s does not say %s: %q", form, what, want)
			}
		}
	}
	if s := message.SMS(p, 2); !strings.Contains(s, "CRITICAL press-07: bearing_temp 92.4 C, expected 61 to 68.5 C") || !strings.Contains(s, "https://tocsin.example.com/v/A") {
		t.Error(s)
	}
}

func TestTitles(t *testing.T) {
	c := messagetest.Composer()
	silent := messagetest.Gateway(1)
	silent.Incident.Title = ""
	escalated := messagetest.Fault()
	escalated.Reason = notification.Escalation
	unnamed := messagetest.Gateway(3)
	unnamed.Incident.Title = ""
	lead := messagetest.Gateway(1)
	lead.Incident.Title, lead.Incident.Machines = "", 200
	back := lead
	back.Status, back.Alerts = notification.Resolved, []notification.Alert{lead.Alerts[0]}
	back.Alerts[0].Status = notification.Resolved
	mixed := messagetest.Gateway(2)
	mixed.Incident.Title, mixed.Incident.Cause = "", ""
	for want, n := range map[string]notification.Notification{
		"CRITICAL press-07: bearing_temp 92.4 °C, expected 61 to 68.5 °C":           messagetest.Fault(),
		"ESCALATED CRITICAL press-07: bearing_temp 92.4 °C, expected 61 to 68.5 °C": escalated,
		"RESOLVED press-07: behaves as usual again, after 24 s":                     messagetest.Ended(),
		"WARNING 24 machines behind gateway gw-hall-3 send no data any more":        messagetest.Gateway(24),
		"WARNING 200 machines behind gateway gw-hall-3 send no data any more":       lead,
		"RESOLVED 200 machines behind gateway gw-hall-3 send data again":            back,
		"WARNING 3 machines behind gateway gw-hall-3 send no data any more":         unnamed,
		"WARNING 2 alerts of 2 machines: press-01 sends no data any more":           mixed,
		"WARNING press-01: sends no data any more":                                  silent,
		"WARNING db-1:9100: has DiskAlmostFull (Less than 5 % free on /var)":        messagetest.Posted(),
	} {
		if got := c.Page(n, "x").Headline; got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestPatternsOfLinks(t *testing.T) {
	c := &message.Composer{Chart: "https://t.example/#/machine/{equipment_id}?sensor={sensor}", Runbook: "https://w.example/{cause}"}
	n := messagetest.Fault()
	n.Alerts[0].Links, n.Alerts[0].Annotations = notification.Links{}, nil
	n.Alerts[0].EquipmentID = "press 07/a?b#c"
	l := c.Page(n, "x").Links
	if l.Chart != "https://t.example/#/machine/press%2007%2Fa%3Fb%23c?sensor=bearing_temp" || l.Runbook != "https://w.example/behaviour" {
		t.Errorf("%+v", l)
	}
}

func TestUnits(t *testing.T) {
	c := &message.Composer{Unit: func(s string) string { return map[string]string{"motor_current": "mA"}[s] }}
	n := messagetest.Fault()
	for i := range n.Alerts[0].Evidence {
		n.Alerts[0].Evidence[i].Unit = ""
	}
	s := c.Page(n, "x").Lead().Sensors
	if s[0].Observed != "92.4" || s[2].Observed != "41.8 mA" {
		t.Errorf("%+v", s)
	}
}

func TestPageIsBounded(t *testing.T) {
	n := messagetest.Gateway(5000)
	for i := range n.Alerts {
		n.Alerts[i].Evidence = messagetest.Fault().Alerts[0].Evidence
		n.Alerts[i].Annotations = notification.Set{"a": model.LabelValue(strings.Repeat("x", 10_000)), "b": model.LabelValue(strings.Repeat("y", 10_000))}
	}
	p := messagetest.Composer().Page(n, "x")
	if len(p.Alerts) != 5 || len(p.Listed) != 20 || p.More != 4980 || len(message.Text(p)) > 20_000 {
		t.Errorf("%d in full, %d listed, %d more, %d bytes", len(p.Alerts), len(p.Listed), p.More, len(message.Text(p)))
	}
}

// Numbers that are not there, and notifications about nothing, give a page all the same.
func TestNothingIsKnown(t *testing.T) {
	nan := math.NaN()
	n := messagetest.Fault()
	n.Alerts[0].Evidence = []notification.Evidence{{Sensor: "s", Observed: nan, ExpectedLow: nan, ExpectedHigh: nan, Share: nan}, {ExpectedLow: math.Inf(-1), ExpectedHigh: math.Inf(1)}}
	n.Alerts[0].Score, n.Alerts[0].Confidence, n.Alerts[0].Started = nan, nan, time.Time{}
	c := &message.Composer{}
	for _, n := range []notification.Notification{{}, n, {Alerts: make([]notification.Alert, 2)}} {
		p := c.Page(n, "")
		if _, err := message.HTML(p, message.Pictures(p, nil)); err != nil || message.Text(p) == "" || message.SMS(p, 1) == "" {
			t.Errorf("%v", err)
		}
		if d := message.NewDocument(&n, p); len(d.Alerts) != len(n.Alerts) {
			t.Error("document")
		}
	}
}

// elements of HTML, with what their attributes lead to.
func elements(t *testing.T, b []byte) (tags []string, links []string) {
	t.Helper()
	for z := html.NewTokenizer(strings.NewReader(string(b))); ; {
		switch z.Next() {
		case html.ErrorToken:
			return tags, links
		case html.StartTagToken, html.SelfClosingTagToken:
			tok := z.Token()
			tags = append(tags, tok.Data)
			for _, a := range tok.Attr {
				if strings.HasPrefix(a.Key, "on") {
					t.Errorf("attribute %s=%q", a.Key, a.Val)
				}
				if a.Key == "href" || a.Key == "src" {
					links = append(links, a.Val)
				}
			}
		case html.CommentToken:
			t.Errorf("comment %q", z.Token().Data)
		}
	}
}

// Whatever a machine is called, the HTML has the elements that it has otherwise, and links to the web only.
func TestHTMLInjection(t *testing.T) {
	c := messagetest.Composer()
	render := func(text string) ([]string, []string) {
		p := c.Page(messagetest.Named(text), text)
		h, err := message.HTML(p, nil)
		if err != nil {
			t.Fatal(err)
		}
		if strings.ContainsAny(string(h), "\x00\x1b\u202e\u2066\u200b") {
			t.Errorf("%q: hidden characters", text)
		}
		return elements(t, h)
	}
	plain, _ := render("press-07")
	for _, a := range messagetest.Attacks() {
		tags, links := render(a.Text)
		// Text that cleans to nothing has no row of its own.
		if a.Name != "only what is hidden" && !slices.Equal(tags, plain) {
			t.Errorf("%s: %d elements, %d without it", a.Name, len(tags), len(plain))
		}
		for _, l := range links {
			if u, err := url.Parse(l); err != nil || u.Scheme != "https" || u.Host != "tocsin.example.com" {
				t.Errorf("%s: a link to %q", a.Name, l)
			}
		}
	}
}

// Lines of the text are ours: text of others can neither begin one nor end one.
func TestTextInjection(t *testing.T) {
	c := messagetest.Composer()
	plain := strings.Count(message.Text(c.Page(messagetest.Named("press-07"), "x")), "\n")
	for _, a := range messagetest.Attacks() {
		got := message.Text(c.Page(messagetest.Named(a.Text), "x"))
		if n := strings.Count(got, "\n"); a.Name != "only what is hidden" && n != plain {
			t.Errorf("%s: %d lines, %d without it", a.Name, n, plain)
		}
		if strings.ContainsAny(got, "\r\x00\x1b\u0085\u202e\u2028\u200b") || len(got) > 16<<10 {
			t.Errorf("%s: %d bytes: %q", a.Name, len(got), message.Clean(got, 100))
		}
	}
}
