package cli_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tocsin-io/tocsin/pkg/launch"
	"github.com/tocsin-io/tocsin/services/all-in-one/internal/fleet/fleettest"
)

// The commands against a real model-trainer: train twice, list, score, change roles.
func TestModels(t *testing.T) {
	dir := t.TempDir()
	cfg := fleettest.Config(dir)
	f := fleettest.Start(t, cfg, dir, "model-trainer")
	var b strings.Builder
	b.WriteString("a,b\n")
	for i := range 300 {
		fmt.Fprintf(&b, "%d,%d\n", i%17, i%13)
	}
	if err := os.WriteFile(filepath.Join(cfg.Trainer.DataDir, "rows.csv"), []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	models := func(want string, args ...string) string {
		t.Helper()
		code, out, stderr := tocsin(append([]string{"models", "--trainer", "http://" + f.Addrs["model-trainer"]}, args...)...)
		if code != launch.ExitOK || !strings.Contains(out, want) {
			t.Fatalf("%q: exit %d\n%s%s", args, code, out, stderr)
		}
		return out
	}
	version := func(trained string) string {
		v, _, _ := strings.Cut(strings.TrimPrefix(trained, "grid@"), ":")
		return v
	}
	first := version(models("rows; it is the champion", "train", "grid", "--file", "rows.csv"))
	second := version(models("rows; it is the shadow", "train", "grid", "--file", "rows.csv", "--algorithm", "lof", "--parameters", `{"neighbours":5}`))
	models("grid  "+first+"  "+second, "list")
	models(second+"  shadow", "show", "grid")
	models(`"algorithm": "lof"`, "show", "grid@"+second)
	models(`"agreement"`, "score", "grid", "--row", "[3,4]")
	models("champion "+second+", shadow "+first, "promote", "grid@"+second)
	models("no stream-processor answers", "promote", "grid", second, "--processor", "http://127.0.0.1:1")
	models("shadow none", "shadow", "grid", "none")
	models("no shadow judged", "compare", "grid")
	models(`"pairs": []`, "compare", "--json")

	for want, args := range map[string][]string{
		`"nowhere.csv" is not in the data folder`: {"train", "x", "--file", "nowhere.csv"},
		"from: both from and to are needed":       {"train", "x", "--from", "2026-01-01T00:00:00Z", "--to", "2026-01-01T00:00:00Z", "--sensors", "a"},
		"no such model":                           {"show", "nobody"},
		"is the champion":                         {"shadow", "grid", second},
		"want NAME@VERSION":                       {"promote", "grid"},
		"no time of RFC 3339":                     {"compare", "--from", "yesterday"},
		"give --row":                              {"score", "grid"},
	} {
		code, _, stderr := tocsin(append([]string{"models", "--trainer", "http://" + f.Addrs["model-trainer"]}, args...)...)
		if code == launch.ExitOK || !strings.Contains(stderr, want) {
			t.Errorf("%q: exit %d, %s", args, code, stderr)
		}
	}
	if code, _, stderr := tocsin("models", "list", "--trainer", "http://127.0.0.1:1"); code == launch.ExitOK || !strings.Contains(stderr, "--trainer") {
		t.Error(code, stderr)
	}
}
