// Package history holds the checker of what a run promised: every frame that was acknowledged is judged once, and each
// judgement stands once in readings, windows, anomalies, alert events, dead letters and the lake.
//
// A Ledger notes what was sent and what was acknowledged. When the world has come to rest (Settle), Check reads every topic and the
// lake, partition by partition, and compares them with what a fault-free run of the production code makes of the same input log:
//
//	ledger  --  frames --(judge)--> readings, windows, anomalies, dead letters, machines' states
//	                                    readings, windows, anomalies, alerts, findings  --(rows)-->  lake
//	                                    anomalies --(book)--> alert events  --  notifications
//
// Where the production code has a clock, the checker has the log; so a run that is still going on may be checked too: what
// is past the committed offsets may stand in the outputs already, but need not.
package history

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tocsin-io/tocsin/pkg/kafka"
	"github.com/tocsin-io/tocsin/pkg/objstore"
	alertrouter "github.com/tocsin-io/tocsin/services/alert-router"
	coldpathwriter "github.com/tocsin-io/tocsin/services/cold-path-writer"
	streamprocessor "github.com/tocsin-io/tocsin/services/stream-processor"
)

// FrameRef names a frame.
type FrameRef struct {
	Gateway, Equipment string
	Sequence           uint64
}

func (r FrameRef) String() string {
	return fmt.Sprintf("%s/%s/%d", r.Gateway, r.Equipment, r.Sequence)
}

// Notification is what a receiver was told of one alert.
type Notification struct {
	AlertID  string
	Resolved bool
	At       time.Time
}

// Outage is a time during which nobody could be told.
type Outage struct{ From, To time.Time }

// Groups are the consumer groups of the services that ran. An empty name: that service did not run, and what it makes is not looked for.
type Groups struct{ Processor, Router, Writer string }

// DefaultGroups are the names in the services' default configurations.
func DefaultGroups() Groups {
	return Groups{Processor: "stream-processor", Router: "alert-router", Writer: "cold-path-writer"}
}

// World is what a run left behind.
type World struct {
	Kafka  kafka.Config
	Groups Groups
	Lake   objstore.Bucket // nil: no writer ran
	// Chunk rules of the writer: then it must not be behind by more than the chunk that is open. Nil: that is not asked.
	Chunk *coldpathwriter.ChunkRules
	// Detection that the processor began with, and its revision; nil: the default. Later ones stand in the log. MaxMachines per
	// partition; 0: the default.
	Detection   *streamprocessor.DetectionConfig
	Revision    uint32
	MaxMachines int
	// Schemas names a schema's sensors, or says schema.ErrUnknown; nil: the registry topic is read.
	Schemas func(ctx context.Context, id string) ([]string, error)
	Ledger  *Ledger // nil: who sent what is not known
	// Notifications that came, in order of arrival; nil: no receiver was there. Every alert that opened must be among them, or part of an incident that
	// is.
	Notifications []Notification
	// NotifyWithin is how long it may take until people are told (broker time; 0: 30 s): an alert that closed sooner, or opened later than this
	// before the newest record, need not be among the notifications. Outages (of a router, of the receivers) do not count.
	NotifyWithin time.Duration
	Outages      []Outage
	// ClockTolerance is by how much the clock of who took the notifications may be behind the brokers'; 0: they are one clock. Nobody is told of
	// an event before it stands in alert.events.v1.
	ClockTolerance time.Duration
	// SendResolved says that the receivers ask for resolutions.
	SendResolved bool
	// Incidents are the router's rules for what is told as one and what waits. The zero value: each alert is told by itself.
	Incidents alertrouter.Incidents
	// Notes are added to the diagnosis of a stall, e.g. what each service's Ready says.
	Notes func(ctx context.Context) []string
	// Patience with reads that do not move; 0: 30 s.
	Patience time.Duration
}

// Kinds of findings.
const (
	Lost       = "lost"       // promised, and not there
	Duplicated = "duplicated" // there more often than promised
	Reordered  = "reordered"  // there, behind what should follow it
	Invented   = "invented"   // there, and nobody made it
	Wrong      = "wrong"      // there, with other content
	Unnotified = "unnotified" // an alert that nobody was told of
	State      = "state"      // saved state that is not what a fault-free run has
)

// Finding is one broken promise.
type Finding struct {
	Kind   string `json:"kind"`
	Where  string `json:"where"`
	Detail string `json:"detail"`
}

// keptPerKind caps the findings that are told in full, of one kind in one place.
const keptPerKind = 20

// Report of a check.
type Report struct {
	Counts   map[string]int `json:"counts"`
	Findings []Finding      `json:"findings"`
	// Found is how many findings there are of each kind, also of those that Findings leaves out.
	Found map[string]int `json:"found"`

	kept map[[2]string]int
}

func newReport() *Report {
	return &Report{Counts: map[string]int{}, Found: map[string]int{}, kept: map[[2]string]int{}, Findings: []Finding{}}
}

// OK is true when no promise was broken.
func (r *Report) OK() bool { return len(r.Found) == 0 }

func (r *Report) add(kind, where, format string, args ...any) {
	r.Found[kind]++
	at := [2]string{kind, where}
	if r.kept[at]++; r.kept[at] <= keptPerKind {
		r.Findings = append(r.Findings, Finding{Kind: kind, Where: where, Detail: fmt.Sprintf(format, args...)})
	}
}

// JSON of the report.
func (r *Report) JSON() ([]byte, error) { return json.MarshalIndent(r, "", "  ") }

// String is the report for people: the counts in one line, then the findings.
func (r *Report) String() string {
	var sb strings.Builder
	for i, k := range slices.Sorted(maps.Keys(r.Counts)) {
		if i > 0 {
			sb.WriteString(", ")
		}
		fmt.Fprintf(&sb, "%s %d", k, r.Counts[k])
	}
	if r.OK() {
		sb.WriteString("\nnothing lost, doubled, reordered, invented or wrong\n")
		return sb.String()
	}
	sb.WriteByte('\n')
	for _, k := range slices.Sorted(maps.Keys(r.Found)) {
		fmt.Fprintf(&sb, "%s: %d\n", k, r.Found[k])
	}
	for _, f := range r.Findings {
		fmt.Fprintf(&sb, "  %s in %s: %s\n", f.Kind, f.Where, f.Detail)
	}
	return sb.String()
}

// Kinds that were found, sorted.
func (r *Report) Kinds() []string { return slices.Sorted(maps.Keys(r.Found)) }

func (w *World) patience() time.Duration { return cmp.Or(w.Patience, 30*time.Second) }
