package chaos

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/tocsin-io/tocsin/deploy/proof/history"
)

// Board is the scoreboard of a run: what was measured, nothing else.
type Board struct {
	Begun    time.Time     `json:"begun"`
	Seconds  float64       `json:"seconds"`
	Cores    int           `json:"cores"`
	Rows     []*Row        `json:"rows"`
	Sections []SectionNote `json:"sections"`
	// Load are rows that package load has measured.
	Load []LoadRow `json:"load,omitempty"`
	// NotShown says what the design's scoreboard names and this run does not show, and why.
	NotShown []string `json:"not_shown,omitempty"`
}

// Row is one kind of fault.
type Row struct {
	Fault   string `json:"fault"`
	Section string `json:"section"`
	Amount  int    `json:"amount"`
	// Of the section's whole history: acknowledged and not found; found twice; otherwise than a fault-free run has it.
	Lost       int `json:"lost"`
	Duplicated int `json:"duplicated"`
	Differing  int `json:"differing"`
	Unnotified int `json:"unnotified"`
	// Checked: the history was read and compared. Without it the counts above say nothing.
	Checked     bool    `json:"checked"`
	RecoveryP50 float64 `json:"recovery_p50_s"`
	RecoveryMax float64 `json:"recovery_max_s"`
	Target      float64 `json:"target_s"`
	LaterThan   int     `json:"recovered_later_than_target"`
	Stalls      int     `json:"stalls"`
	NotDone     int     `json:"faults_that_could_not_be_done,omitempty"`
	took        []time.Duration
}

// Pass tells whether the row shows what it must: nothing lost, doubled, or different, and no stall.
func (r *Row) Pass() bool {
	return r.Checked && r.Lost+r.Duplicated+r.Differing+r.Unnotified+r.Stalls+r.NotDone == 0
}

// SectionNote is what one world and its check showed.
type SectionNote struct {
	Name          string         `json:"name"`
	Seconds       float64        `json:"seconds"`
	FramesSent    int64          `json:"frames_sent"`
	FramesAcked   int64          `json:"frames_acknowledged"`
	Notifications int            `json:"notifications"`
	TurnedAway    int            `json:"notifications_turned_away"`
	Counts        map[string]int `json:"counts"`
	Findings      []string       `json:"findings,omitempty"`
	// OwnExits are ends of services that the harness did not cause directly.
	OwnExits []string `json:"own_exits,omitempty"`
	Problems []string `json:"problems,omitempty"`
	Logs     string   `json:"logs,omitempty"`
}

func newBoard() *Board {
	return &Board{Begun: time.Now().UTC(), Cores: runtime.NumCPU(), NotShown: notShown()}
}

func (b *Board) finish() { b.Seconds = round(time.Since(b.Begun)) }

// Pass tells whether all rows do, and that there are some.
func (b *Board) Pass() bool {
	return len(b.Rows) > 0 && !slices.ContainsFunc(b.Rows, func(r *Row) bool { return !r.Pass() })
}

func (b *Board) add(s *sectionResult) {
	note := SectionNote{
		Name: s.name, Seconds: round(s.took), FramesSent: s.sent, FramesAcked: s.acked, Notifications: s.told, TurnedAway: s.turned,
		OwnExits: s.exits, Logs: s.logs,
	}
	byName := map[string]*Row{}
	for _, o := range s.outcomes {
		r := byName[o.row]
		if r == nil {
			r = &Row{Fault: o.row, Section: s.name, Target: o.target.Seconds(), Checked: s.report != nil}
			byName[o.row] = r
			b.Rows = append(b.Rows, r)
			if s.report != nil {
				for kind, n := range s.report.Found {
					switch kind {
					case history.Lost:
						r.Lost += n
					case history.Duplicated:
						r.Duplicated += n
					case history.Unnotified:
						r.Unnotified += n
					default: // wrong, reordered, invented, state
						r.Differing += n
					}
				}
			}
		}
		r.count(o)
		for _, err := range []error{o.stalled, o.breaking} {
			if err != nil {
				note.Problems = append(note.Problems, err.Error())
			}
		}
	}
	for _, r := range byName {
		slices.Sort(r.took)
		if n := len(r.took); n > 0 {
			r.RecoveryP50, r.RecoveryMax = round(r.took[(n-1)/2]), round(r.took[n-1])
		}
	}
	if s.report != nil {
		note.Counts = s.report.Counts
		for _, f := range s.report.Findings[:min(len(s.report.Findings), 100)] {
			note.Findings = append(note.Findings, fmt.Sprintf("%s: %s: %s", f.Kind, f.Where, f.Detail))
		}
	}
	b.Sections = append(b.Sections, note)
}

func (r *Row) count(o outcome) {
	r.Amount += o.times
	switch {
	case o.breaking != nil:
		r.NotDone += o.times
	case o.stalled != nil:
		r.Stalls++
	default:
		r.took = append(r.took, o.took)
		if o.target > 0 && o.took > o.target {
			r.LaterThan++
		}
	}
}

func round(d time.Duration) float64 { return float64(d.Milliseconds()) / 1000 }

// WriteTable writes the board for people.
func (b *Board) WriteTable(w io.Writer) error {
	var sb strings.Builder
	fmt.Fprintf(&sb, "\n%-38s %6s %5s %5s %7s %7s  %-22s %7s %6s  %s\n", "fault", "amount", "lost", "twice", "differs", "untold", "recovered p50/max (s)", "target", "stalls", "")
	for _, r := range b.Rows {
		verdict := "ok"
		switch {
		case !r.Checked:
			verdict = "NOT CHECKED"
		case !r.Pass():
			verdict = "FAILED"
		case r.LaterThan > 0:
			verdict = fmt.Sprintf("ok, but %d later than the target", r.LaterThan)
		}
		target := "-"
		if r.Target > 0 {
			target = fmt.Sprintf("%.0f s", r.Target)
		}
		fmt.Fprintf(&sb, "%-38s %6d %5d %5d %7d %7d  %9.2f / %-10.2f %7s %6d  %s\n",
			r.Fault, r.Amount, r.Lost, r.Duplicated, r.Differing, r.Unnotified, r.RecoveryP50, r.RecoveryMax, target, r.Stalls, verdict)
	}
	for _, s := range b.Sections {
		fmt.Fprintf(&sb, "\nsection %s: %.0f s, %d frames acknowledged of %d sent, %d notifications (%d turned away)", s.Name, s.Seconds, s.FramesAcked, s.FramesSent, s.Notifications, s.TurnedAway)
		keys := make([]string, 0, len(s.Counts))
		for k := range s.Counts {
			keys = append(keys, k)
		}
		slices.Sort(keys)
		for _, k := range keys {
			fmt.Fprintf(&sb, ", %s %d", k, s.Counts[k])
		}
		sb.WriteString("\n")
		for _, list := range [][]string{s.Problems, s.Findings} {
			for i, line := range list {
				if i == 20 {
					fmt.Fprintf(&sb, "  ... and %d more\n", len(list)-i)
					break
				}
				fmt.Fprintf(&sb, "  %s\n", line)
			}
		}
		if len(s.OwnExits) > 0 {
			fmt.Fprintf(&sb, "  services that ended by themselves and were started again: %d (first: %s)\n", len(s.OwnExits), s.OwnExits[0])
		}
		if s.Logs != "" {
			fmt.Fprintf(&sb, "  logs: %s\n", s.Logs)
		}
	}
	sb.WriteString("\n")
	for _, l := range b.Load {
		verdict := "held"
		if !l.OK {
			verdict = fmt.Sprintf("BROKEN %v", l.Broken)
		}
		fmt.Fprintf(&sb, "load, %s (%s, %.0f s): %s: %s\n", l.Scenario, l.Began.Format(time.RFC3339), l.Seconds, l.Promise, verdict)
	}
	for _, line := range b.NotShown {
		fmt.Fprintf(&sb, "not shown: %s\n", line)
	}
	_, err := io.WriteString(w, sb.String())
	return err
}

// WriteFile keeps the board as JSON, whole or not at all.
func (b *Board) WriteFile(path string) error {
	text, err := json.MarshalIndent(b, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	tmp := path + ".new"
	if err := os.WriteFile(tmp, append(text, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}
