package cli_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tocsin-io/tocsin/pkg/launch"
)

// fakeRouter answers as alert-router does, and notes what it was asked.
func fakeRouter(t *testing.T) (string, *[]string) {
	t.Helper()
	const alert = `{"alert_id":"m-1/limit/10","equipment_id":"m-1","cause":"limit","gateway_id":"gw-1","severity":"critical","state":"acknowledged","open":true,` +
		`"summary":"m-1 runs hot\u001b[2J","score":0.99,"started_at":"2026-03-01T10:00:00Z","opened_at":"2026-03-01T10:00:05Z","acknowledged":{"by":"ada","at":"2026-03-01T10:01:00Z","comment":"on my way"},` +
		`"shelved":{"by":"bo","at":"2026-03-01T10:02:00Z","until":"2026-03-01T18:02:00Z"},"verdict":{"verdict":"real","by":"ada","at":"2026-03-01T11:00:00Z","comment":"bearing"},` +
		`"contributions":[{"sensor":"temperature","share":0.8,"observed":91.25,"expected_low":60,"expected_high":null,"detector":"ewma"}]}`
	answers := map[string]string{
		"GET /v1/alerts":                               `{"alerts":[` + alert + `],"next":"more"}`,
		"GET /v1/alerts?after=more":                    `{"alerts":[]}`,
		"GET /v1/alerts/m-1%2Flimit%2F10":              alert,
		"POST /v1/alerts/m-1%2Flimit%2F10/shelve":      alert,
		"POST /v1/alerts/m-1%2Flimit%2F10/verdict":     alert,
		"POST /v1/alerts/m-1%2Flimit%2F10/acknowledge": alert,
		"GET /v1/alerts/m-1%2Flimit%2F10/transitions": `{"transitions":[{"id":"x","alert_id":"m-1/limit/10","transition":"verdict","verdict":"real","state":"acknowledged","severity":"critical","at":"2026-03-01T11:00:00Z","by":"ada","comment":"bearing"},` +
			`{"id":"y","alert_id":"m-1/limit/10","transition":"opened","state":"unacknowledged","severity":"critical","at":"2026-03-01T10:00:05Z","by":"tocsin"}]}`,
		"GET /v1/alerts/m-1%2Flimit%2F10/notifications": `{"notifications":[{"idempotency_key":"k","receiver":"ops","integration":"webhook","status":"firing","reason":"first_notification","outcome":"sent","attempts":2,"at":"2026-03-01T10:00:06Z","latency_ms":840,"instance":"r"}]}`,
		"GET /v1/transitions":                           `{"transitions":[{"id":"x","alert_id":"m-1/limit/10","transition":"shelved","state":"shelved","severity":"critical","at":"2026-03-01T10:02:00Z","by":"bo","until":"2026-03-01T18:02:00Z","comment":"work"}]}`,
		"GET /v1/figures": `{"from":"2026-03-01T00:00:00Z","to":"2026-03-08T00:00:00Z","alerts_by_severity":{"critical":2,"warning":5},"standing_by_state":{"shelved":1},"shift":"8h0m0s","acknowledged":4,"time_to_acknowledge_median_seconds":55,"time_to_acknowledge_p90_seconds":120,"time_to_acknowledge_max_seconds":600,"floods":1,` +
			`"pages":[{"receiver":"ops","shift_begin":"2026-03-01T08:00:00Z","pages":3}],"precision_by_machine":[{"equipment_id":"m-1","real":3,"false":1,"known":0,"sensor":0,"precision":0.75}],"stale":[{"alert_id":"m-9/clock/1","state":"unacknowledged","opened_at":"2026-02-01T00:00:00Z"}],"chattering":[{"equipment_id":"m-2","cause":"limit","alerts":12}]}`,
		"GET /v1/oncall":       `{"at":"2026-03-01T10:00:00Z","on_call":[{"schedule":"primary","receiver":"ada","until":"2026-03-02T07:00:00Z"}]}`,
		"POST /v1/routes/test": `{"receivers":["ops","chief"]}`,
	}
	var asked []string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		key := r.Method + " " + r.URL.EscapedPath()
		if after := r.URL.Query().Get("after"); after != "" {
			key += "?after=" + after
		}
		line := key + " " + r.Header.Get("Authorization")
		if r.Method == http.MethodPost {
			var body map[string]any
			if err := json.NewDecoder(r.Body).Decode(&body); err != nil {
				t.Error(err)
			}
			b, _ := json.Marshal(body)
			line += " " + string(b)
		}
		asked = append(asked, line)
		a, ok := answers[key]
		if !ok {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusNotFound)
			a = `{"type":"about:blank","title":"not found","status":404,"detail":"no such alert"}`
		}
		_, _ = w.Write([]byte(a))
	}))
	t.Cleanup(srv.Close)
	return srv.URL, &asked
}

func TestAlerts(t *testing.T) {
	t.Setenv("TOCSIN_TOKEN", "ada-ada-ada-ada-ada")
	url, asked := fakeRouter(t)
	for _, c := range []struct{ name, line string }{
		{"list", "alerts list"},
		{"show", "alerts show m-1/limit/10"},
		{"journal", "alerts journal --transition shelved"},
		{"figures", "alerts figures"},
		{"routes", "alerts routes test severity=critical"},
		{"oncall", "alerts oncall"},
		{"ack", "alerts ack m-1/limit/10 --comment seen"},
		{"shelve", "alerts shelve m-1/limit/10 --for 8h"},
		{"verdict", "alerts verdict m-1/limit/10 real"},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, got, stderr := tocsin(append(strings.Fields(c.line), "--to", url)...)
			if code != launch.ExitOK || stderr != "" {
				t.Fatalf("exit %d, stderr %q", code, stderr)
			}
			golden := filepath.Join("testdata", "alerts-"+c.name+".golden")
			if *rewrite {
				if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
			if strings.ContainsRune(got, 0x1b) {
				t.Error("what a machine wrote moves the terminal's cursor")
			}
		})
	}
	for _, want := range []string{
		`POST /v1/alerts/m-1%2Flimit%2F10/acknowledge Bearer ada-ada-ada-ada-ada {"comment":"seen"}`,
		`POST /v1/alerts/m-1%2Flimit%2F10/shelve Bearer ada-ada-ada-ada-ada {"comment":"","duration":"8h"}`,
		`POST /v1/alerts/m-1%2Flimit%2F10/verdict Bearer ada-ada-ada-ada-ada {"comment":"","verdict":"real"}`,
	} {
		if !strings.Contains(strings.Join(*asked, "\n"), want) {
			t.Errorf("not asked: %s\nbut\n%s", want, strings.Join(*asked, "\n"))
		}
	}
	for _, c := range []struct {
		line, says string
		code       int
	}{
		{"alerts show no/such/1", "no such alert", launch.ExitFailed},
		{"alerts ack m-1/limit/10 no/such/1", "no/such/1: no such alert", launch.ExitFailed},
		{"alerts shelve m-1/limit/10", "--for", launch.ExitConfig},
		{"alerts verdict m-1/limit/10", "real, false, known, sensor", launch.ExitConfig},
		{"alerts routes test critical", "LABEL=VALUE", launch.ExitConfig},
		{"alerts list --output xml", "--output", launch.ExitConfig},
	} {
		if code, _, stderr := tocsin(append(strings.Fields(c.line), "--to", url)...); code != c.code || !strings.Contains(stderr, c.says) {
			t.Errorf("%s: exit %d, %s", c.line, code, stderr)
		}
	}
}
