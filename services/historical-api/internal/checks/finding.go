package checks

import (
	"fmt"
	"net/url"
	"strconv"
	"time"

	"google.golang.org/protobuf/proto"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	"github.com/tocsin-io/tocsin/services/historical-api/internal/checkstore"
	"github.com/tocsin-io/tocsin/services/historical-api/internal/usage"
)

// maxAsk is the most hours that GET /v1/anomalies/check looks at.
const maxAsk = 14 * 24

// tell numbers what changed says that known, the findings as they were, did not, and makes the records of it for the table findings. It is a function of what it is given, but for now.
func tell(known, changed []checkstore.Finding, build string, now time.Time) ([]checkstore.Record, error) {
	last := map[string]checkstore.Finding{}
	for _, f := range known {
		last[f.ID] = f
	}
	var out []checkstore.Record
	for i := range changed {
		f := &changed[i]
		before, there := last[f.ID]
		f.Revision = before.Revision
		if !there || !saysTheSame(before, *f) {
			f.Revision++
			r, err := record(*f, build, now)
			if err != nil {
				return nil, err
			}
			out = append(out, r)
		}
		last[f.ID] = *f
	}
	return out, nil
}

// saysTheSame: whether an alert has ended, and when it began, is not the table's to tell.
func saysTheSame(a, b checkstore.Finding) bool {
	for _, f := range []*checkstore.Finding{&a, &b} {
		f.From, f.To, f.Found, f.Alerted = f.From.UTC(), f.To.UTC(), time.Time{}, time.Time{}
		f.Revision = 0
		if f.Alert != checkstore.NoAlert {
			f.Alert = checkstore.AlertOpen
		}
	}
	return a == b
}

// record is a revision of a finding for the lake.
func record(f checkstore.Finding, build string, now time.Time) (checkstore.Record, error) {
	m := &eventv1.Finding{
		FindingId: f.ID, Revision: f.Revision, EquipmentId: f.Entity, Kind: eventv1.FindingKind_FINDING_KIND_CHECK, Severity: eventv1.Severity_SEVERITY_WARNING,
		Confidence: confidence(f.Finding), BeganUs: f.From.UnixMicro(), EndedUs: f.To.UnixMicro(), Over: f.Over, Metrics: []string{f.Metric}, Summary: f.Summary,
		Explanation: explanation(f.Finding), Contributions: []*eventv1.Contribution{contribution(f)}, Evidence: &eventv1.FindingEvidence{Query: question(f)},
		Producer: "historical-api/check:" + f.Job, ProducerVersion: build, DedupKey: f.Entity + "/" + causeOf(f.ID), ConcludedAtMs: now.UnixMilli(),
	}
	if f.Severity == usage.Critical {
		m.Severity = eventv1.Severity_SEVERITY_CRITICAL
	}
	if f.Alert != checkstore.NoAlert {
		m.Evidence.AlertIds = []string{f.ID}
	}
	body, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return checkstore.Record{}, fmt.Errorf("finding %s: %w", f.ID, err)
	}
	return checkstore.Record{Kind: checkstore.FindingRecord, Entity: f.Entity, Name: f.ID + "/" + strconv.Itoa(int(f.Revision)), Body: body}, nil
}

// confidence grows with the weeks that a finding is judged by.
func confidence(f usage.Finding) float64 { return float64(f.Weeks) / float64(f.Weeks+1) }

// contribution is what was observed, and the band of three deviations: by the hour, of volume.
func contribution(f checkstore.Finding) *eventv1.Contribution {
	c := &eventv1.Contribution{Sensor: f.Metric, Share: 1, Detector: "weekday_hour", Statistic: "mean"}
	if f.Kind == usage.Volume {
		hours := f.To.Sub(f.From).Hours()
		c.Observed, c.ExpectedLow, c.ExpectedHigh = f.Observed/hours, (f.Expected-3*f.Deviation)/hours, (f.Expected+3*f.Deviation)/hours
	} else {
		c.Detector, c.Statistic = "day_shape", "cosine similarity"
		c.Observed, c.ExpectedLow, c.ExpectedHigh = f.Similarity, f.Usual, 1
	}
	return c
}

func explanation(f usage.Finding) string {
	if f.Kind == usage.Shape {
		return fmt.Sprintf("The 24 hours held against those of %d earlier days of the same weekday, by the cosine of the two: %s times the usual spread away.", f.Weeks, number(f.Z))
	}
	return fmt.Sprintf("Each hour held against the same hour of the same weekday in the 30 days before, %d of them or more: z = %s, all hours together.", f.Weeks, number(f.Z))
}

// question shows a finding again.
func question(f checkstore.Finding) string {
	hours := min(max(int(f.To.Sub(f.From)/time.Hour), 1), maxAsk)
	return "/v1/anomalies/check?" + url.Values{
		"job": {f.Job}, "entity": {f.Entity}, "metric": {f.Metric}, "at": {f.To.UTC().Format(time.RFC3339)}, "hours": {strconv.Itoa(hours)},
	}.Encode()
}
