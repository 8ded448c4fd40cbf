package lakeproof

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// Report is the outcome.
type Report struct {
	Promise string    `json:"promise"`
	OK      bool      `json:"ok"`
	Broken  []string  `json:"broken,omitempty"`
	Began   time.Time `json:"began"`
	Seconds float64   `json:"seconds"`
	Cores   int       `json:"cores"`
	Sizes   Sizes     `json:"sizes"`
	Replay  Replay    `json:"replay"`
	Phases  []*Phase  `json:"phases"`
	// Recipes of docs/LAKE.md that were run, with the number of readings that each found.
	Recipes map[string]string `json:"recipes"`
}

// Replay is how the readings got into the lake.
type Replay struct {
	Readings       int     `json:"readings"`
	WriterKills    int     `json:"writer_kills"`
	CommitterKills int     `json:"committer_kills"`
	SentSeconds    float64 `json:"sent_seconds"`
	StoredSeconds  float64 `json:"stored_seconds"`
}

// Phase is one reading of everything by everybody.
type Phase struct {
	Name string `json:"name"`
	// Audit is the last line of tocsin lake audit.
	Audit string `json:"audit,omitempty"`
	// Tables and the number of their files.
	Tables map[string]int `json:"files"`
	// Engines and how long each took for all tables.
	Engines map[string]float64 `json:"engine_seconds"`
	// Figures by table, the same for all engines or the run is broken; "sha256" is of all figures and, of readings, those of each machine's sensor.
	Figures map[string]map[string]any `json:"figures"`

	digests map[string]string
}

func newReport(cfg Config) *Report {
	return &Report{
		Promise: "each reading stands in the lake once, and every engine finds the same", Began: time.Now().UTC(), Cores: runtime.NumCPU(), Sizes: cfg.Sizes,
		Replay: Replay{Readings: cfg.Sizes.Readings()}, Recipes: map[string]string{},
	}
}

func (r *Report) brokenIf(cond bool, format string, args ...any) {
	if cond {
		r.Broken = append(r.Broken, fmt.Sprintf(format, args...))
	}
}

func (r *Report) end() {
	r.Seconds, r.OK = round(time.Since(r.Began)), len(r.Broken) == 0
}

func round(d time.Duration) float64 {
	return float64(d.Round(100*time.Millisecond)) / float64(time.Second)
}

// compare holds every engine's figures against the first one's.
func (ph *Phase) compare(r *Report, got map[string]found, tables []string) {
	ph.Engines, ph.Figures, ph.digests = map[string]float64{}, map[string]map[string]any{}, map[string]string{}
	names := slices.Sorted(maps.Keys(got))
	for _, e := range names {
		ph.Engines[e] = got[e].Seconds
	}
	for _, t := range tables {
		first := canonical(got[names[0]].Tables[t])
		for _, e := range names[1:] {
			its := canonical(got[e].Tables[t])
			r.brokenIf(its != first, "%s: %s: %s and %s differ: %s", ph.Name, t, e, names[0], differ(got[e].Tables[t], got[names[0]].Tables[t]))
		}
		sum := sha256.Sum256([]byte(first))
		ph.digests[t] = hex.EncodeToString(sum[:])
		figures := map[string]any{"sha256": ph.digests[t]}
		for k, v := range got[names[0]].Tables[t] {
			if k != "groups" {
				figures[k] = v
			}
		}
		ph.Figures[t] = figures
	}
}

// canonical is the figures as text; equal figures are equal text.
func canonical(figures map[string]any) string {
	b, err := json.Marshal(figures) // sorts keys
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// differ names the figures that two engines do not agree on.
func differ(a, b map[string]any) string {
	var out []string
	for _, k := range slices.Sorted(maps.Keys(a)) {
		if x, y := canonical(map[string]any{k: a[k]}), canonical(map[string]any{k: b[k]}); x != y {
			out = append(out, fmt.Sprintf("%.200s / %.200s", x, y))
		}
	}
	if len(out) == 0 {
		return fmt.Sprintf("%d figures and %d", len(a), len(b))
	}
	return strings.Join(out, "; ")
}

// matchTruth holds what engines found of the readings against what was sent.
func (p *proof) matchTruth(got map[string]found) {
	name := p.report.Phases[len(p.report.Phases)-1].Name
	want := canonical(map[string]any{"groups": p.truth})
	for e, f := range got {
		readings := f.Tables["readings"]
		p.report.brokenIf(fmt.Sprint(readings["rows"]) != fmt.Sprint(p.cfg.Sizes.Readings()), "%s: %s finds %v readings, %d were sent", name, e, readings["rows"], p.cfg.Sizes.Readings())
		p.report.brokenIf(canonical(map[string]any{"groups": readings["groups"]}) != want, "%s: %s finds other sums of the machines' sensors than were sent", name, e)
	}
}

// present is how many values were sent.
func (p *proof) present() int64 {
	n := int64(0)
	for _, g := range p.truth {
		n += g[3].(int64)
	}
	return n
}

// Print writes the table.
func (r *Report) Print(w io.Writer) {
	verdict := "held"
	if !r.OK {
		verdict = "BROKEN"
	}
	fmt.Fprintf(w, "\nlake proof: %s: %s\n", r.Promise, verdict)
	fmt.Fprintf(w, "  %d readings sent in %.0f s and stored in %.0f s, with kill -9 of the writer %d times and of the Iceberg committer %d times\n", r.Replay.Readings, r.Replay.SentSeconds,
		r.Replay.StoredSeconds, r.Replay.WriterKills, r.Replay.CommitterKills)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, ph := range r.Phases {
		fmt.Fprintf(t, "  %s\t%s\n", ph.Name, ph.Audit)
		for _, name := range slices.Sorted(maps.Keys(ph.Figures)) {
			fmt.Fprintf(t, "    %s\t%d files\t%v rows\tsha256 %.16s of the figures\n", name, ph.Tables[name], ph.Figures[name]["rows"], ph.Figures[name]["sha256"])
		}
		for _, e := range slices.Sorted(maps.Keys(ph.Engines)) {
			fmt.Fprintf(t, "    %s\t%.1f s\n", e, ph.Engines[e])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.Recipes)) {
		fmt.Fprintf(t, "  recipe %s\t%s readings\n", name, r.Recipes[name])
	}
	_ = t.Flush() // a terminal
	for _, s := range r.Broken {
		fmt.Fprintf(w, "  BROKEN: %s\n", s)
	}
	fmt.Fprintf(w, "  %d cores; the run took %.0f s\n", r.Cores, r.Seconds)
}

// Write puts the report into file.
func (r *Report) Write(file string) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil {
		return err
	}
	return os.WriteFile(file, append(b, '\n'), 0o600)
}
