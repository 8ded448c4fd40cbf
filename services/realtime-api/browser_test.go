package realtimeapi

import (
	"fmt"
	"testing"
	"time"

	"github.com/tocsin-io/tocsin/pkg/browsertest"
	"github.com/tocsin-io/tocsin/pkg/kafka/kafkatest"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
)

// evil would run, were it ever taken for markup.
const evil = `<img src=x onerror=window.pwned=1>`

func TestBrowser(t *testing.T) {
	browser := browsertest.Find(t, "web")
	k := kafkatest.Start(t, 3)
	f := newFixture(t, k)
	now := time.Now().UnixMicro() / windowUS * windowUS
	history := func(id string, end int64) {
		var ws []*eventv1.Window
		for at := end - 60*windowUS; at < end; at += windowUS {
			ws = append(ws, f.window(id, at, 4, nil, false))
		}
		f.windows(ws...)
	}
	for i := range 11 {
		history(fmt.Sprintf("pump-%02d", i+1), now)
	}
	history("replay-2014", time.Date(2014, 4, 2, 14, 5, 0, 0, time.UTC).UnixMicro())
	f.coverage("pump-04", "gw-1", "judged  a b c", "bad_quality stuck d")
	f.coverage("pump-09", "gw-7", "gateway_down  a b")
	f.coverage(evil, evil, "learning new_machine "+evil)
	r := start(t, k, nil)
	addr := r.svc.Addr()
	sender := newFrames(t, k)

	hot := alertOf("pump-03", "behaviour", eventv1.Severity_SEVERITY_CRITICAL, now-20*windowUS, "Bearing temperature 71 °C, expected 58 to 64.",
		&eventv1.Contribution{Sensor: "bearing_temperature_c", Share: 1, Observed: 71, ExpectedLow: 58, ExpectedHigh: 64, Detector: "ewma"})
	steps := map[string]func(){
		"alert": func() {
			f.anomaly(reportOf(hot, eventv1.Phase_PHASE_STARTED, hot.StartedUs))
			f.alert(hot)
		},
		"window":       func() { f.windows(f.window("pump-03", now, 4, nil, false)) },
		"frames begin": sender.begin,
		"frames end":   sender.end,
		"their window": func() {
			f.windows(f.window("pump-04", time.Now().UnixMicro()/windowUS*windowUS+windowUS, 4, nil, false))
		},
		"evil": func() {
			w := f.window(evil, now, 2, nil, false)
			w.Sensors[0].Sensor = evil
			f.windows(w)
			a := alertOf(evil, evil, eventv1.Severity_SEVERITY_CRITICAL, now, evil, &eventv1.Contribution{Sensor: evil, Share: 1, Observed: 1, Detector: evil})
			a.Labels[evil], a.Annotations = evil, map[string]string{"link": "javascript:window.pwned=1"}
			f.anomaly(reportOf(a, eventv1.Phase_PHASE_STARTED, now))
			f.alert(a)
		},
		"stop":  func() { r.stop() },
		"start": func() { r = startAt(t, k, addr, nil) },
		"start with people": func() {
			r = startAt(t, k, addr, func(c *Config) {
				c.Auth.People = []Person{{Name: "ada", Token: "the-token-of-ada-1234567890", Equipment: []string{"pump-*"}}}
			})
		},
		"alert after restart": func() {
			f.alert(alertOf("pump-05", "limit", eventv1.Severity_SEVERITY_WARNING, now, "Flow is down."))
		},
		"close": func() { f.alert(closed(hot, now)) },
	}
	browser.Run(t, 8*time.Minute, steps, "e2e/page.mjs", r.url, browser.Chromium, t.TempDir())
}
