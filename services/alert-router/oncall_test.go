package alertrouter

import (
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/tocsin-io/tocsin/pkg/service"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/oncall"
)

// Who is on duty is told; who is not is not; what nobody acknowledges goes further up, what somebody has does not.
func TestOnCallAndEscalation(t *testing.T) {
	k := broker(t, 1)
	p := newProducer(t, k)
	hooks := map[string]*hook{"ada": newHook(t), "bo": newHook(t), "chief": newHook(t)}
	text := "route:\n  receiver: ada\n  group_by: [equipment_id]\n  group_wait: 0s\n  group_interval: 200ms\n  repeat_interval: 1h\n  routes:\n"
	for _, who := range []string{"ada", "bo", "chief"} {
		text += fmt.Sprintf("    - {receiver: %s, continue: true}\n", who)
	}
	text += "receivers:\n"
	for _, who := range []string{"ada", "bo", "chief"} {
		text += fmt.Sprintf("  - {name: %s, webhook_configs: [{url: %s, send_resolved: true}]}\n", who, hooks[who].URL)
	}
	const after = 5 * time.Second
	today := time.Now().UTC().Format("2006-01-02")
	r := run(t, k, configFor(t, t.TempDir()), func(c *Config, _ *service.Deps) {
		c.RoutingFile = writeRouting(t, filepath.Join(t.TempDir(), "routing.yml"), text)
		c.OnCall = oncall.Config{
			Schedules:   []oncall.Schedule{{Name: "primary", Zone: "UTC", Start: today + " 00:00", Turn: 240 * time.Hour, People: []string{"ada", "bo"}}},
			Escalations: []oncall.Escalation{{Receiver: "chief", After: after}},
		}
	})
	var duty struct {
		OnCall []struct{ Schedule, Receiver string } `json:"on_call"`
	}
	if code, said := r.ask(t, "", http.MethodGet, "/v1/oncall", nil, &duty); code != http.StatusOK || len(duty.OnCall) != 1 || duty.OnCall[0].Receiver != "ada" {
		t.Errorf("%d %s", code, said)
	}
	begun := time.Now()
	p.anomalies(anomaly("m-1", "limit", 10, started, warning), anomaly("m-2", "limit", 10, started, warning))
	r.awaitState(t, "m-2/limit/10", "unacknowledged")
	r.do(t, "m-2/limit/10", "acknowledge", map[string]string{"by": "ada"})
	inTime := time.Since(begun) < after // on a machine that is too busy nothing can be said of it
	told := func(who string) []string {
		list := hooks[who].told()
		slices.Sort(list)
		return slices.DeleteFunc(list, func(s string) bool { return !inTime && strings.Contains(s, "m-2") })
	}
	eventually(t, "chief is told of what nobody acknowledged", func() error {
		if got := told("chief"); !slices.Equal(got, []string{"firing m-1/limit/10 warning"}) {
			return fmt.Errorf("%q", got)
		}
		return nil
	})
	if got := told("ada"); !slices.Contains(got, "firing m-1/limit/10 warning") {
		t.Errorf("ada is told %q", got)
	}
	r.do(t, "m-1/limit/10", "acknowledge", map[string]string{"by": "chief"})
	p.anomalies(anomaly("m-1", "limit", 10, ended, warning), anomaly("m-2", "limit", 10, ended, warning))
	eventually(t, "who was told is told of the end", func() error {
		if got := told("chief"); !slices.Equal(got, []string{"firing m-1/limit/10 warning", "resolved m-1/limit/10 warning"}) {
			return fmt.Errorf("%q", got)
		}
		if got := told("ada"); !slices.Contains(got, "resolved m-1/limit/10 warning") {
			return fmt.Errorf("%q", got)
		}
		return nil
	})
	if got := told("bo"); len(got) != 0 {
		t.Errorf("bo is off duty and told %q", got)
	}
}

// A silence made on one router holds on the other, and its end as well; it is there after a lost disk.
func TestSilencesHoldOnEveryRouter(t *testing.T) {
	k := broker(t, 2)
	begin := func(i int) *router {
		return run(t, k, configFor(t, t.TempDir()), func(c *Config, _ *service.Deps) {
			c.InstanceID, c.SessionTimeout = fmt.Sprintf("r-%d", i), 6*time.Second
		})
	}
	a, b := begin(0), begin(1)
	id := strings.TrimSpace(a.amtool(t, "silence", "add", "equipment_id=m-1", "--comment=maintenance", "--author=me", "--duration=1h"))
	has := func(r *router, want bool) {
		t.Helper()
		eventually(t, "the silence", func() error {
			if out := r.amtool(t, "silence", "query", "-q"); strings.Contains(out, id) != want {
				return errors.New(out)
			}
			return nil
		})
	}
	has(b, true)
	if err := a.stop(); err != nil {
		t.Fatal(err)
	}
	a = begin(0) // on an empty disk
	has(a, true)
	b.amtool(t, "silence", "expire", id)
	has(a, false)
}
