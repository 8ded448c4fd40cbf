package routing

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/alertmanager/timeinterval"
)

var rewrite = flag.Bool("rewrite", false, "write the transcripts anew")

// Recurring maintenance windows of a routing file, minute by minute over the nights in which clocks change: they are at their hour on the wall.
func TestMaintenanceWindows(t *testing.T) {
	file := filepath.Join("testdata", "maintenance.yml")
	conf, _, err := load(file)
	if err != nil {
		t.Fatal(err)
	}
	intervals := map[string][]timeinterval.TimeInterval{}
	for _, ti := range conf.TimeIntervals {
		intervals[ti.Name] = ti.TimeIntervals
	}
	mutes := timeinterval.NewIntervener(intervals)
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	for _, night := range []string{"2026-03-28", "2026-10-24"} {
		from, err := time.ParseInLocation(time.DateOnly, night, berlin)
		if err != nil {
			t.Fatal(err)
		}
		for _, ti := range conf.TimeIntervals {
			fmt.Fprintf(&out, "# %s, from %s on\n", ti.Name, night)
			was := false
			for at := from; at.Before(from.Add(60 * time.Hour)); at = at.Add(time.Minute) {
				muted, _, err := mutes.Mutes([]string{ti.Name}, at)
				if err != nil {
					t.Fatal(err)
				}
				if muted != was {
					fmt.Fprintf(&out, "%s  %s\n", at.Format("Mon 2006-01-02 15:04 MST"), map[bool]string{true: "nobody is told", false: "people are told"}[muted])
				}
				was = muted
			}
		}
	}
	golden := filepath.Join("testdata", "maintenance.transcript")
	if *rewrite {
		if err := os.WriteFile(golden, []byte(out.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if out.String() != string(want) {
		t.Errorf("got:\n%s\nwant:\n%s", out.String(), want)
	}
}
