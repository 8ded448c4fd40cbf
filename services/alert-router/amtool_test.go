package alertrouter

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// amtool runs the real amtool, of the release whose engine this is. It is the test binary: see TestMain.
func amtool(t testing.TB, args ...string) (string, error) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return program(t, self, args...)
}

// distributions is amtool as a Linux distribution ships it: years older than ours.
func distributions(t testing.TB, args ...string) (string, error) {
	t.Helper()
	path, err := exec.LookPath("amtool")
	if err != nil {
		t.Fatal(err)
	}
	return program(t, path, args...)
}

// amtool runs the real amtool against the service.
func (r *router) amtool(t testing.TB, args ...string) string {
	t.Helper()
	out, err := amtool(t, append([]string{"--alertmanager.url=" + r.url}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func program(t testing.TB, path string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.Command(path, args...)
	cmd.Env = append(os.Environ(), asAmtool+"=1", "HOME="+t.TempDir())
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("amtool %q: %w: %s%s", args, err, out, stderr.String())
	}
	return string(out), err
}

func TestAmtool(t *testing.T) {
	r := speaksAmtool(t, amtool)
	if out := r.amtool(t, "config", "show"); !strings.Contains(out, "- equipment_id") {
		t.Errorf("config: %s", out)
	}
	if out := r.amtool(t, "config", "routes", "show"); !strings.Contains(out, "receiver: log") {
		t.Errorf("routes: %s", out)
	}
	if out := r.amtool(t, "config", "routes", "test", "severity=critical", "cause=limit"); !strings.Contains(out, "log") {
		t.Errorf("routes: %s", out)
	}
	var status struct{ VersionInfo struct{ Version string } }
	if err := r.get("/api/v2/status", &status); err != nil || !strings.HasPrefix(status.VersionInfo.Version, "0.") {
		t.Errorf("amtool warns of another version than its own: %v %q", err, status.VersionInfo.Version)
	}
}

func TestAmtoolOfTheDistribution(t *testing.T) {
	if _, err := exec.LookPath("amtool"); err != nil {
		if os.Getenv("TOCSIN_REQUIRE_REAL") == "1" {
			t.Fatal("amtool is missing: deploy/local/install.sh alertmanager")
		}
		t.Skip("SKIPPED: amtool is missing: deploy/local/install.sh alertmanager")
	}
	speaksAmtool(t, distributions) // but for config, whose format grows with every release
}

// speaksAmtool does what an operator does with amtool in a day.
func speaksAmtool(t *testing.T, tool func(testing.TB, ...string) (string, error)) *router {
	t.Helper()
	k := broker(t, 1)
	r := run(t, k, configFor(t, t.TempDir()))
	do := func(args ...string) string {
		t.Helper()
		out, err := tool(t, append([]string{"--alertmanager.url=" + r.url}, args...)...)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	says := func(want string, args ...string) {
		t.Helper()
		eventually(t, strings.Join(args, " "), func() error {
			if out := do(args...); !strings.Contains(out, want) {
				return fmt.Errorf("no %q in %s", want, out)
			}
			return nil
		})
	}
	newProducer(t, k).anomalies(anomaly("m-1", "limit", 1, started, crit), anomaly("m-2", "drift", 2, started, warning))

	says(`cause="limit"`, "alert", "query", "equipment_id=m-1", "-o", "extended")
	says("m-2/drift/2", "alert", "query", "equipment_id=~m-.*", "cause!=limit", "-o", "extended")
	if out := do("alert", "query", "equipment_id=m-3", "-o", "json"); strings.TrimSpace(out) != "[]" {
		t.Errorf("nobody's alerts: %s", out)
	}

	id := strings.TrimSpace(do("silence", "add", "equipment_id=m-1", "--comment=maintenance", "--author=me", "--duration=1h"))
	says(id, "silence", "query")
	says("m-1", "alert", "query", "--silenced")
	if out := do("silence", "query", "--created-by=me", "-o", "json"); !strings.Contains(out, "maintenance") {
		t.Errorf("whose silence: %s", out)
	}
	if out := do("silence", "update", id, "--comment=longer", "--duration=2h"); !strings.Contains(out, "longer") {
		t.Errorf("updated: %s", out)
	}
	id = strings.TrimSpace(do("silence", "query", "-q"))
	do("silence", "expire", id)
	if out := do("silence", "query"); strings.Contains(out, id) {
		t.Errorf("silence %s is still there: %s", id, out)
	}
	says(id, "silence", "query", "--expired", "--within=1h")
	says("m-1", "alert", "query", "equipment_id=m-1")
	if _, err := tool(t, "--alertmanager.url="+r.url, "silence", "expire", "00000000-0000-0000-0000-000000000000"); err == nil {
		t.Error("a silence that is not there was expired")
	}

	do("alert", "add", "alertname=Door", "equipment_id=gate", "--annotation=summary=door open")
	says("Door", "alert", "query", "alertname=Door")
	if out := do("cluster", "show"); !strings.Contains(out, "disabled") {
		t.Errorf("cluster: %s", out)
	}
	var groups, receivers string
	if err := errors.Join(r.get("/api/v2/alerts/groups", &groups), r.get("/api/v2/receivers", &receivers)); err != nil || !strings.Contains(groups, "m-1") || !strings.Contains(receivers, "log") {
		t.Errorf("%v: %s %s", err, groups, receivers)
	}
	return r
}

// A configuration with every kind of receiver that Alertmanager has loads as it stands; amtool, asked of the file and of the router, and the router's own API agree on
// who is told; a bad one is refused with its line, and nothing changes by it.
func TestStockConfiguration(t *testing.T) {
	const stock = "testdata/stock.yml"
	text, err := os.ReadFile(stock)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("testdata")); err != nil {
		t.Fatal(err)
	}
	cfg := configFor(t, t.TempDir())
	cfg.RoutingFile = filepath.Join(dir, "stock.yml")
	r := run(t, broker(t, 1), cfg)
	remote := "--alertmanager.url=" + r.url

	var receivers []struct{ Name string }
	if err := r.get("/api/v2/receivers", &receivers); err != nil || len(receivers) < 10 {
		t.Fatalf("%d receivers, %v", len(receivers), err)
	}
	tree, err := amtool(t, remote, "config", "routes", "show")
	if err != nil {
		t.Fatal(err)
	}
	for _, one := range receivers {
		if !strings.Contains(tree, "receiver: "+one.Name) {
			t.Errorf("%s is not in the tree: %s", one.Name, tree)
		}
	}
	// Each call of amtool is a process: where ours alone will do, it is not asked.
	routes := func(t *testing.T, ask bool) {
		t.Helper()
		for labels, want := range map[string]string{
			"":                                       "plant-office",
			"severity=critical site=north":           "night-shift,pager",
			"severity=critical site=east":            "pager",
			"severity=critical team=telegraph":       "telegram-crew",
			"severity=critical team=archive":         "sns-archive",
			"severity=warning service=press":         "chat,slack",
			"severity=warning service=lathe":         "chat,teams",
			"severity=warning service=kiln":          "teams",
			"severity=info":                          "tickets",
			"équipe=nuit":                            "duty",
			"severity=critical site=south team=none": "night-shift,pager",
		} {
			fields := strings.Fields(labels)
			if ask {
				if out, err := amtool(t, append([]string{remote, "config", "routes", "test", "--verify.receivers=" + want}, fields...)...); err != nil {
					t.Errorf("%v %s", err, out)
				}
			}
			set := map[string]string{}
			for _, f := range fields {
				name, value, _ := strings.Cut(f, "=")
				set[name] = value
			}
			if status, body := r.post(t, "/v1/routes/test", map[string]any{"labels": set}); status != http.StatusOK || !strings.Contains(string(body), `["`+strings.ReplaceAll(want, ",", `","`)+`"]`) {
				t.Errorf("%q goes to %d %s, want %s", labels, status, body, want)
			}
		}
	}
	routes(t, true)
	if out, err := amtool(t, "check-config", stock); err != nil {
		t.Errorf("%v %s", err, out)
	}

	for name, c := range map[string]struct{ old, new, says string }{
		"unknown key":       {"    group_wait: 5s", "    group_wayt: 5s", "group_wayt"},
		"unknown receiver":  {"- receiver: tickets\n", "- receiver: tickts\n", "tickts"},
		"unknown interval":  {"active_time_intervals: [nights]", "active_time_intervals: [knights]", "knights"},
		"receiver's key":    {"- room_id: not-a-room\n", "- room: not-a-room\n", "room"},
		"receiver twice":    {"  - name: duty\n", "  - name: chat\n", "chat"},
		"no such zone":      {"location: America/New_York", "location: America/New_Amsterdam", "New_Amsterdam"},
		"bad expression":    {"match_re: {service: ^(press|lathe)$}", "match_re: {service: ^(press|lathe$}", "missing closing"},
		"not YAML":          {"\nreceivers:\n", "\nreceivers\n", "line"},
		"broken template":   {"title: '{{ template \"plant.title\" . }}'", "title: '{{ template \"plant.title\" . }}'\n        titel: x", "titel"},
		"two ways to a key": {"routing_key: '00000000000000000000000000000000'", "routing_key: '00000000000000000000000000000000'\n        routing_key_file: x", "routing_key"},
	} {
		t.Run(name, func(t *testing.T) {
			bad := strings.Replace(string(text), c.old, c.new, 1)
			if bad == string(text) {
				t.Fatalf("%q is not in the file", c.old)
			}
			writeRouting(t, cfg.RoutingFile, bad)
			first, last := difference(string(text), bad)
			status, body := r.post(t, "/-/reload", nil)
			if status != http.StatusInternalServerError || !strings.Contains(string(body), c.says) || !strings.Contains(string(body), "old one stays") {
				t.Errorf("%d %s", status, body)
			}
			if !slices.ContainsFunc(lines(first, last+1), func(l string) bool { return strings.Contains(string(body), "line "+l+":") }) {
				t.Errorf("lines %d to %d are not named: %s", first, last, body)
			}
			var inForce struct {
				Config struct{ Original string }
			}
			if err := r.get("/api/v2/status", &inForce); err != nil || strings.Contains(inForce.Config.Original, c.new) {
				t.Errorf("in force: %v %s", err, inForce.Config.Original)
			}
		})
	}
	routes(t, false)

	writeRouting(t, cfg.RoutingFile, strings.Replace(string(text), "    - receiver: tickets\n", "    - receiver: chat\n", 1))
	if status, body := r.post(t, "/-/reload", nil); status != http.StatusOK {
		t.Fatalf("%d %s", status, body)
	}
	if out, err := amtool(t, remote, "config", "routes", "test", "--verify.receivers=chat", "severity=info"); err != nil {
		t.Errorf("%v %s", err, out)
	}
}

// difference is the first and the last line, from 1, in which b differs from a.
func difference(a, b string) (first, last int) {
	x, y := strings.Split(a, "\n"), strings.Split(b, "\n")
	for first < len(x) && first < len(y) && x[first] == y[first] {
		first++
	}
	end := 0
	for end < len(x)-first && end < len(y)-first && x[len(x)-1-end] == y[len(y)-1-end] {
		end++
	}
	return first + 1, len(y) - end
}

func lines(first, last int) []string {
	var out []string
	for l := first; l <= last; l++ {
		out = append(out, fmt.Sprint(l))
	}
	return out
}
