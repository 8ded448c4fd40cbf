package grafana

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	d "github.com/tocsin-io/tocsin/deploy/grafana/dashboard"
)

const written = "../../helm/tocsin/files"

func TestFilesAreWhatTheSourcesSay(t *testing.T) {
	files, err := Files()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range files {
		got, err := os.ReadFile(filepath.Join(written, name))
		if err != nil {
			t.Error(err)
			continue
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%s is not what deploy/grafana says: run make dashboards", name)
		}
	}
	old, err := filepath.Glob(filepath.Join(written, DashboardFiles))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range old {
		if _, ok := files["dashboards/"+filepath.Base(f)]; !ok {
			t.Errorf("%s is left over: run make dashboards", f)
		}
	}
}

// Bookmarks and links of pages hold the uids.
func TestUIDsNeverChange(t *testing.T) {
	var uids []string
	for _, one := range Dashboards() {
		uids = append(uids, one.UID)
	}
	want := []string{"tocsin-fleet", "tocsin-machine", "tocsin-detection", "tocsin-pipeline", "tocsin-kafka", "tocsin-lake", "tocsin-oncall"}
	if !slices.Equal(uids, want) {
		t.Errorf("uids are %q", uids)
	}
}

func TestPanelsHaveRoomAndUnits(t *testing.T) {
	for _, one := range Dashboards() {
		b, err := one.JSON()
		if err != nil {
			t.Fatal(err)
		}
		var doc struct {
			Panels []struct {
				ID      int
				Title   string
				Type    string
				GridPos struct{ H, W, X, Y int }
			}
		}
		if err := json.Unmarshal(b, &doc); err != nil {
			t.Fatal(err)
		}
		taken := map[[2]int]string{}
		ids := map[int]bool{}
		for _, p := range doc.Panels {
			if ids[p.ID] {
				t.Errorf("%s: id %d stands twice", one.UID, p.ID)
			}
			ids[p.ID] = true
			g := p.GridPos
			if g.X < 0 || g.X+g.W > 24 || g.W < 1 || g.H < 1 {
				t.Errorf("%s: %q lies at %+v", one.UID, p.Title, g)
			}
			for x := g.X; x < g.X+g.W; x++ {
				for y := g.Y; y < g.Y+g.H; y++ {
					if other := taken[[2]int{x, y}]; other != "" {
						t.Fatalf("%s: %q lies over %q", one.UID, p.Title, other)
					}
					taken[[2]int{x, y}] = p.Title
				}
			}
		}
	}
}

// pushed are the statistics of machines that the stream-processor pushes.
var pushed = regexp.MustCompile(`tocsin_(machine_score|sensor_score|window_[a-z]+)`)

// A figure about the fleet must not cost a series for each machine: only the statistics that are pushed have that label.
func TestServiceMetricsAreNotApartByMachine(t *testing.T) {
	for _, one := range Dashboards() {
		for _, row := range one.Rows {
			for _, p := range row.Panels {
				for _, q := range p.Queries {
					if strings.Contains(q.Expr, "equipment_id") && !pushed.MatchString(q.Expr) {
						t.Errorf("%s, %q asks %s", one.UID, p.Title, q.Expr)
					}
				}
			}
		}
	}
}

func TestEveryRuleHasItsRunbook(t *testing.T) {
	page, err := os.ReadFile("../../docs/RUNBOOKS.md")
	if err != nil {
		t.Fatal(err)
	}
	heads := map[string]string{}
	for _, part := range strings.Split("\n"+string(page), "\n## ")[1:] {
		head, text, _ := strings.Cut(part, "\n")
		heads[head] = text
	}
	seen := map[string]bool{}
	for _, g := range RuleGroups() {
		for _, r := range g.Rules {
			if seen[r.Name] {
				t.Errorf("rule %s stands twice", r.Name)
			}
			seen[r.Name] = true
			text, ok := heads[r.Name]
			if !ok {
				t.Errorf("docs/RUNBOOKS.md has no heading %s", r.Name)
				continue
			}
			if !strings.Contains(text, "**Look**") || !strings.Contains(text, "**Mend**") {
				t.Errorf("the runbook of %s does not say where to look and how to mend", r.Name)
			}
			if r.Summary == "" || r.Severity == "" {
				t.Errorf("rule %s says nothing", r.Name)
			}
		}
	}
	for h := range heads {
		if !seen[h] {
			t.Errorf("docs/RUNBOOKS.md has %s, which is no rule", h)
		}
	}
}

func TestBadDefinitionsAreRefused(t *testing.T) {
	bad := []d.Panel{
		{Title: "", Kind: d.Stat, Queries: []d.Query{{Expr: "up"}}},
		{Title: "asks nothing", Kind: d.Stat},
		{Title: "kind", Kind: "pie", Queries: []d.Query{{Expr: "up"}}},
	}
	for _, p := range bad {
		if _, err := (d.Dashboard{UID: "x", Rows: []d.Row{{Panels: []d.Panel{p}}}}).JSON(); err == nil {
			t.Errorf("%+v was taken", p)
		}
	}
}
