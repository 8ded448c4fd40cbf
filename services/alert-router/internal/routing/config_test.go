package routing

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"testing"

	"github.com/VictoriaMetrics/metrics"
	amconfig "github.com/prometheus/alertmanager/config"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/services/alert-router/internal/egress"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/message/messagetest"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/receivers"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func file(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "routing.yml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func options(t testing.TB, path string) Options {
	t.Helper()
	return Options{File: path, DataDir: t.TempDir(), Retention: 120 * 3600e9, LogNotifications: true, Log: zap.NewNop(), Metrics: metrics.NewSet()}
}

func TestRefusalNamesTheLine(t *testing.T) {
	for _, c := range []struct {
		name, text string
		line       int
		says       string
	}{
		{"unknown key", "route:\n  receiver: a\n  grup_wait: 0s\nreceivers:\n  - name: a\n", 3, "grup_wait"},
		{"not YAML", "route:\n  receiver: a\n\treceivers: x\n", 3, "line 3"},
		{"wrong type", "route:\n  receiver: a\n  group_wait: soon\nreceivers:\n  - name: a\n", 3, "soon"},
		{"undefined receiver", "route:\n  receiver: a\n  routes:\n    - receiver: nobody\nreceivers:\n  - name: a\n", 4, "nobody"},
		{"two receivers of one name", "route:\n  receiver: a\nreceivers:\n  - name: a\n  - name: a\n", 5, "not unique"},
		{"no smarthost", "route:\n  receiver: a\nreceivers:\n  - name: a\n    email_configs:\n      - to: x@y.example\n", 5, "smarthost"},
		{"zero group_interval", "route:\n  receiver: a\n  group_interval: 0s\nreceivers:\n  - name: a\n", 3, "group_interval"},
		{"empty webhook", "route:\n  receiver: a\nreceivers:\n  - name: a\n    webhook_configs:\n      - send_resolved: true\n", 0, "url"},
		{"empty file", "", 1, "no route"},
		{"bad matcher", "route:\n  receiver: a\n  routes:\n    - matchers: ['severity=~\"[\"']\nreceivers:\n  - name: a\n", 0, ""},
		{"no such zone", "route:\n  receiver: a\nreceivers:\n  - name: a\ntime_intervals:\n  - name: n\n    time_intervals:\n      - location: Mars/Phobos\n", 8, "Mars/Phobos"},
		{"missing template", "route:\n  receiver: a\nreceivers:\n  - name: a\ntemplates: ['[']\n", 5, "syntax error in pattern"},
		{"unreadable client certificate", "route:\n  receiver: a\nreceivers:\n  - name: a\n    webhook_configs:\n      - url: http://127.0.0.1:1/\n        http_config:\n          tls_config: {ca_file: missing.pem}\n", 0, "missing.pem"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, err := New(options(t, file(t, c.text)))
			var bad *ConfigError
			if !errors.As(err, &bad) {
				if e != nil {
					_ = e.Close()
				}
				t.Fatalf("got %v", err)
			}
			if c.line != 0 && bad.Line != c.line || bad.Line < 1 {
				t.Errorf("line %d, want %d: %v", bad.Line, c.line, err)
			}
			if !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), "routing.yml: line ") {
				t.Errorf("says %q", err)
			}
		})
	}
}

func TestMissingRoutingFile(t *testing.T) {
	if _, err := New(options(t, filepath.Join(t.TempDir(), "none.yml"))); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

type pages struct {
	*receivers.File
	*receivers.Builder
}

// What Alertmanager's own tests call good and bad, we do too, and name a line of what is bad.
func TestAlertmanagersOwnFiles(t *testing.T) {
	library()
	source, _ := runtime.FuncForPC(reflect.ValueOf(amconfig.Load).Pointer()).FileLine(0)
	var files []string
	for _, pattern := range []string{"testdata/*.yml", "../doc/examples/*.yml"} {
		found, err := filepath.Glob(filepath.Join(filepath.Dir(source), pattern))
		if err != nil || len(found) == 0 {
			t.Fatalf("no files beside %s: %v", source, err)
		}
		files = append(files, found...)
	}
	good := 0
	for _, name := range files {
		_, theirs := amconfig.LoadFile(name)
		o := options(t, name)
		o.Pages = func() (Pages, error) {
			f := receivers.Default()
			return pages{f, &receivers.Builder{File: f, Composer: messagetest.Composer(), Dialer: &egress.Dialer{}}}, nil
		}
		e, err := New(o)
		if err == nil {
			good++
			_ = e.Close()
		}
		if errors.Is(err, os.ErrNotExist) {
			continue // a token's file of theirs: Alertmanager does not start either
		}
		var bad *ConfigError
		if (err == nil) != (theirs == nil) || err != nil && (!errors.As(err, &bad) || bad.Line < 1) {
			t.Errorf("%s: Alertmanager says %v, we %v", filepath.Base(name), theirs, err)
		}
	}
	if good < 8 || good == len(files) {
		t.Errorf("%d of %d load", good, len(files))
	}
}

// amtool warns of any other version than its own.
func TestEngineVersion(t *testing.T) {
	mod, err := os.ReadFile("../../go.mod")
	if err != nil || !strings.Contains(string(mod), "github.com/prometheus/alertmanager v"+engineVersion+"\n") {
		t.Errorf("go.mod has another release than %s: %v", engineVersion, err)
	}
}

// The built-in routing keeps the promises made of it.
func TestBuiltIn(t *testing.T) {
	conf, _, err := load("")
	if err != nil {
		t.Fatal(err)
	}
	crit := conf.Route.Routes[1]
	if crit.GroupWait == nil || *crit.GroupWait != 0 {
		t.Errorf("critical waits %v", crit.GroupWait)
	}
	// A page must be out within 30 s, also when the group has just been flushed.
	if crit.GroupInterval == nil || *crit.GroupInterval > 30e9 {
		t.Errorf("critical group_interval %v", crit.GroupInterval)
	}
	if got := conf.Route.GroupByStr; len(got) != 2 || got[0] != "equipment_id" || got[1] != "cause" {
		t.Errorf("group_by %v", got)
	}
}

func FuzzLoad(f *testing.F) {
	f.Add(builtin)
	f.Add("route: {receiver: a}\nreceivers: [{name: a}]\n")
	f.Add("route:\n  receiver: \"\\x00\"\n")
	f.Fuzz(func(t *testing.T, text string) {
		_, _, err := load(file(t, text))
		var bad *ConfigError
		if err != nil && (!errors.As(err, &bad) || bad.Line < 1) {
			t.Errorf("no line in %v", err)
		}
	})
}
