package replayalert

import (
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	streamprocessor "github.com/tocsin-io/tocsin/services/stream-processor"
)

// Result is what a replay came to.
type Result struct {
	Episode   string    `json:"episode_id"`
	Equipment string    `json:"equipment_id"`
	Cause     string    `json:"cause"`
	Partition int32     `json:"partition"`
	Identical bool      `json:"identical"`
	Begins    Beginning `json:"begins"`
	// Frames of the machine that were judged, and the offsets of the first record read and the last judged.
	Frames int   `json:"frames"`
	From   int64 `json:"from_offset"`
	To     int64 `json:"to_offset"`
	// Reports in the order of the log; those that only the replay gave come last.
	Reports []ReportResult `json:"reports"`
}

// Beginning is what the replay began with.
type Beginning struct {
	// Source is the topic that held the state; Offset -1 says that the machine was new and nothing was known of it.
	Source      string `json:"source"`
	Offset      int64  `json:"state_offset"`
	StateBytes  int    `json:"state_bytes"`
	Build       string `json:"build,omitempty"`
	Revision    uint32 `json:"detection_revision"`
	Fingerprint string `json:"detection_fingerprint"`
	// Ends is the configuration in force at the replay's end.
	Ends string `json:"detection_at_end"`
}

// ReportResult is one report, as recorded and as recomputed.
type ReportResult struct {
	AnomalyID string    `json:"anomaly_id"`
	Phase     string    `json:"phase"`
	Severity  string    `json:"severity"`
	JudgedAt  time.Time `json:"judged_at"`
	// RecordOffset is where it stands in detect.anomalies.v1, JudgedOffset the record of telemetry.frames.v1 that led to it now; -1: none.
	RecordOffset int64 `json:"record_offset"`
	JudgedOffset int64 `json:"judged_offset"`
	// Scores are nil where there is no report.
	Recorded    *float64     `json:"recorded_score"`
	Recomputed  *float64     `json:"recomputed_score"`
	Identical   bool         `json:"identical"`
	Differences []Difference `json:"differences,omitempty"`
	// NotCompared are fields that other machines had a say in: that a silence is the gateway's was known from them.
	NotCompared []string `json:"not_compared,omitempty"`
	Summary     string   `json:"summary"`
	// Window is how the score of the newest window it rests on came about; nil for causes without one.
	Window *Window `json:"window,omitempty"`
}

// Window is streamprocessor.Explanation for people and JSON, in which there is no NaN.
type Window struct {
	Start    time.Time `json:"start"`
	Learning bool      `json:"learning"`
	PValue   *float64  `json:"p_value"`
	// Surprises are -ln(p).
	Own    *float64 `json:"surprise_own"`
	Final  *float64 `json:"surprise"`
	Demand *float64 `json:"surprise_demanded"`

	Joint   []Opinion `json:"joint,omitempty"`
	Sensors []Sensor  `json:"sensors"`
}

// Sensor is what was seen of one sensor in the window.
type Sensor struct {
	Name     string    `json:"sensor"`
	Count    uint32    `json:"count"`
	Unusable uint32    `json:"unusable"`
	Mean     *float64  `json:"mean"`
	Stddev   *float64  `json:"stddev"`
	Min      *float64  `json:"min"`
	Max      *float64  `json:"max"`
	Last     *float64  `json:"last"`
	PValue   *float64  `json:"p_value"`
	Says     []Opinion `json:"says,omitempty"`
}

// Opinion is what one detector said.
type Opinion struct {
	Detector string   `json:"detector"`
	Nominal  *float64 `json:"surprise_nominal"`
	Surprise *float64 `json:"surprise"`
	PValue   *float64 `json:"p_value"`
	Low      *float64 `json:"expected_low,omitempty"`
	High     *float64 `json:"expected_high,omitempty"`
	Broken   bool     `json:"limit_broken,omitempty"`
}

// recomputed is one report of the replay.
type recomputed struct {
	report streamprocessor.Report
	at     int64
	window *Window
}

// collector holds what comes out against what was recorded.
type collector struct {
	r      *run
	left   map[string]bool       // recorded anomalies that have not come yet
	got    map[string]recomputed // by anomaly id
	order  []string
	frames int
	last   int64
}

func newCollector(r *run) *collector {
	c := &collector{r: r, left: map[string]bool{}, got: map[string]recomputed{}, last: r.from}
	for _, rec := range r.recorded {
		c.left[anomaly(rec).GetAnomalyId()] = true
	}
	return c
}

func (c *collector) complete() bool { return len(c.left) == 0 }

func (c *collector) take(rec *kgo.Record, out streamprocessor.Judged) error {
	if string(rec.Key) == c.r.id.Equipment {
		c.frames++
	}
	c.last = rec.Offset
	for _, a := range out.Anomalies {
		if a.Anomaly.GetEpisodeId() != c.r.id.ID {
			continue
		}
		id := a.Anomaly.GetAnomalyId()
		if _, ok := c.got[id]; ok {
			continue
		}
		if len(c.got) == maxReports {
			return fmt.Errorf("%w: more than %d reports", ErrCannot, maxReports)
		}
		var about *Window
		if x := endingAt(out.Explanations, a.Anomaly.GetObservedUs()); x != nil {
			about = explained(x)
		}
		c.got[id] = recomputed{report: a, at: rec.Offset, window: about}
		c.order = append(c.order, id)
		delete(c.left, id)
	}
	return nil
}

// endingAt is the explanation of the window that ends there.
func endingAt(list []streamprocessor.Explanation, endUS int64) *streamprocessor.Explanation {
	for i := range list {
		if list[i].EndUS == endUS {
			return &list[i]
		}
	}
	return nil
}

func (c *collector) result(replay *streamprocessor.CaseReplay) *Result {
	first, opened := c.r.cases[0], anomaly(c.r.recorded[0])
	revision, mark := replay.Config()
	out := &Result{
		Episode: c.r.id.ID, Equipment: c.r.id.Equipment, Cause: opened.GetCause(), Partition: c.r.partition, Identical: true, Frames: c.frames, From: c.r.from, To: c.last,
		Begins: Beginning{
			Source: c.r.found, Offset: first.GetStateOffset(), Build: first.GetBuild(), Revision: first.GetConfig().GetRevision(), Fingerprint: first.GetConfig().GetFingerprint(),
			Ends: fmt.Sprintf("revision %d (%s)", revision, mark),
		},
	}
	for _, p := range c.r.cases {
		out.Begins.StateBytes += len(p.GetState().GetState())
	}
	seen := map[string]bool{}
	for _, rec := range c.r.recorded {
		a := anomaly(rec)
		seen[a.GetAnomalyId()] = true
		res := described(a)
		res.RecordOffset, res.Recorded = rec.Offset, new(a.GetScore())
		if now, ok := c.got[a.GetAnomalyId()]; ok {
			res.JudgedOffset, res.Recomputed, res.Window = now.at, new(now.report.Anomaly.GetScore()), now.window
			var err error
			if res.Differences, res.NotCompared, err = compare(rec.Value, now.report.Value); err != nil {
				res.Differences = []Difference{{Field: "encoding", Recorded: err.Error()}}
			}
		} else {
			res.Differences = []Difference{{Field: "report", Recorded: "there", Recomputed: "none"}}
		}
		res.Identical = len(res.Differences) == 0
		out.Identical = out.Identical && res.Identical
		out.Reports = append(out.Reports, res)
	}
	last := anomaly(c.r.recorded[len(c.r.recorded)-1])
	for _, id := range c.order {
		now := c.got[id]
		// What comes after the last report on record may be written yet.
		if seen[id] || last.GetPhase() != eventv1.Phase_PHASE_ENDED && now.report.Anomaly.GetJudgedAtMs() > last.GetJudgedAtMs() {
			continue
		}
		res := described(now.report.Anomaly)
		res.RecordOffset, res.JudgedOffset, res.Recomputed, res.Window = -1, now.at, new(now.report.Anomaly.GetScore()), now.window
		res.Differences = []Difference{{Field: "report", Recorded: "none", Recomputed: "there"}}
		out.Identical = false
		out.Reports = append(out.Reports, res)
	}
	return out
}

func described(a *eventv1.Anomaly) ReportResult {
	return ReportResult{
		AnomalyID: a.GetAnomalyId(), Phase: phase(a.GetPhase()), Severity: severity(a.GetSeverity()), JudgedAt: time.UnixMilli(a.GetJudgedAtMs()).UTC(),
		RecordOffset: -1, JudgedOffset: -1, Summary: a.GetSummary(),
	}
}
