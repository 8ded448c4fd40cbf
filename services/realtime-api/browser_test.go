package realtimeapi

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/tocsin-io/tocsin/pkg/kafka/kafkatest"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
)

// browserTools finds node, a Chromium and the driver, or skips; TOCSIN_REQUIRE_REAL=1 makes a missing one a failure.
func browserTools(t *testing.T) (node, chromium string) {
	t.Helper()
	missing := func(format string, args ...any) {
		t.Helper()
		msg := "THE PAGE IS NOT TESTED IN A BROWSER: " + fmt.Sprintf(format, args...)
		if os.Getenv("TOCSIN_REQUIRE_REAL") == "1" {
			t.Fatal(msg)
		}
		t.Skip(msg)
	}
	node, err := exec.LookPath("node")
	if err != nil {
		missing("node is not installed")
	}
	for _, name := range []string{os.Getenv("TOCSIN_CHROMIUM"), "chromium", "chromium-browser", "google-chrome"} {
		if p, err := exec.LookPath(name); name != "" && err == nil {
			chromium = p
			break
		}
	}
	if chromium == "" {
		missing("no Chromium is installed (Debian: apt-get install chromium); TOCSIN_CHROMIUM may name one")
	}
	if _, err := os.Stat("web/node_modules/playwright-core"); err != nil {
		missing("playwright-core is not installed: run npm ci in services/realtime-api/web")
	}
	return node, chromium
}

// evil would run, were it ever taken for markup.
const evil = `<img src=x onerror=window.pwned=1>`

func TestBrowser(t *testing.T) {
	node, chromium := browserTools(t)
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
	drive(t, node, chromium, r.url, steps)
}

// drive runs the script and does the steps that it asks for.
func drive(t *testing.T, node, chromium, base string, steps map[string]func()) {
	t.Helper()
	if _, err := url.Parse(base); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 8*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, node, "e2e/page.mjs", base, chromium, t.TempDir())
	cmd.Dir = "web"
	cmd.Stderr = os.Stderr
	cmd.WaitDelay = 5 * time.Second
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	passed := false
	for lines := bufio.NewScanner(out); lines.Scan(); {
		line := lines.Text()
		t.Log(line)
		name, isStep := strings.CutPrefix(line, "STEP ")
		if isStep {
			do, ok := steps[name]
			if !ok {
				t.Fatalf("the script asks for %q", name)
			}
			do()
			_, _ = io.WriteString(in, "done\n") // a script that is gone fails below
		}
		passed = passed || line == "PASS"
	}
	if err := cmd.Wait(); err != nil || !passed {
		t.Fatalf("browser: %v", err)
	}
}
