package table

import (
	"cmp"
	"context"
	"strings"

	"github.com/tocsin-io/tocsin/pkg/topic"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	"github.com/tocsin-io/tocsin/services/cold-path-writer/internal/rowhash"
)

// Finding is a row of the table findings: one revision of what somebody has concluded.
type Finding struct {
	EquipmentID     string         `parquet:"equipment_id,dict"`
	BeganAt         int64          `parquet:"began_at,timestamp(microsecond),delta"`
	FindingID       string         `parquet:"finding_id"`
	Revision        int32          `parquet:"revision,delta"`
	Kind            string         `parquet:"kind,dict"`
	Severity        string         `parquet:"severity,dict"`
	Confidence      *float64       `parquet:"confidence,optional"` // null where the producer does not say
	EndedAt         int64          `parquet:"ended_at,timestamp(microsecond),delta"`
	IsOver          bool           `parquet:"is_over"`
	Metrics         []string       `parquet:"metrics,list"`
	Summary         string         `parquet:"summary"`
	Explanation     string         `parquet:"explanation"`
	Contributions   []Contribution `parquet:"contributions,list"`
	AlertIDs        []string       `parquet:"alert_ids,list"`
	WindowIDs       []string       `parquet:"window_ids,list"`
	Query           string         `parquet:"query"`
	Producer        string         `parquet:"producer,dict"`
	ProducerVersion string         `parquet:"producer_version,dict"`
	DedupKey        string         `parquet:"dedup_key,dict"`
	ConcludedAt     int64          `parquet:"concluded_at,timestamp(microsecond),delta"`
	LogAppendTime   int64          `parquet:"log_append_time,timestamp(microsecond),delta"`
	Offset          int64          `parquet:"offset,delta"`
}

func newFindings() Table {
	return &rowTable[Finding]{
		name: "findings", topic: topic.Findings, typ: topic.TypeFinding,
		sortedBy: []string{"equipment_id", "began_at"},
		compare: func(a, b *Finding) int {
			return cmp.Or(strings.Compare(a.EquipmentID, b.EquipmentID), cmp.Compare(a.BeganAt, b.BeganAt), cmp.Compare(a.Offset, b.Offset))
		},
		hash:   hashFinding,
		decode: decodeFinding,
	}
}

func decodeFinding(_ context.Context, rows []Finding, rec Record) ([]Finding, error) {
	var m eventv1.Finding
	if err := unmarshal(rec, &m, &m.EquipmentId); err != nil {
		return rows, err
	}
	if m.GetFindingId() == "" {
		return rows, poison("finding_id is empty")
	}
	row := Finding{
		EquipmentID: m.GetEquipmentId(), BeganAt: m.GetBeganUs(), FindingID: m.GetFindingId(), Revision: m.GetRevision(),
		Kind: enum(m.GetKind().String(), "FINDING_KIND_"), Severity: enum(m.GetSeverity().String(), "SEVERITY_"), EndedAt: m.GetEndedUs(), IsOver: m.GetOver(),
		Metrics: list(m.GetMetrics()), Summary: m.GetSummary(), Explanation: m.GetExplanation(), Contributions: contributions(m.GetContributions()),
		AlertIDs: list(m.GetEvidence().GetAlertIds()), WindowIDs: list(m.GetEvidence().GetWindowIds()), Query: m.GetEvidence().GetQuery(),
		Producer: m.GetProducer(), ProducerVersion: m.GetProducerVersion(), DedupKey: m.GetDedupKey(), ConcludedAt: micros(m.GetConcludedAtMs()),
		LogAppendTime: micros(rec.TimeMS), Offset: rec.Offset,
	}
	if c := m.GetConfidence(); c != 0 {
		row.Confidence = known(c)
	}
	return append(rows, row), nil
}

func hashFinding(r *Finding) uint64 {
	var h rowhash.Hash
	for _, s := range [...]string{
		r.EquipmentID, r.FindingID, r.Kind, r.Severity, r.Summary, r.Explanation, r.Query, r.Producer, r.ProducerVersion, r.DedupKey,
	} {
		h.String(s)
	}
	for _, n := range [...]int64{r.BeganAt, int64(r.Revision), r.EndedAt, r.ConcludedAt, r.LogAppendTime, r.Offset} {
		h.Int(n)
	}
	h.Bool(r.IsOver)
	hashOptional(&h, r.Confidence)
	for _, texts := range [...][]string{r.Metrics, r.AlertIDs, r.WindowIDs} {
		h.Int(int64(len(texts)))
		for _, s := range texts {
			h.String(s)
		}
	}
	hashContributions(&h, r.Contributions)
	return h.Sum()
}

// list is never nil, as a list that is read back is not.
func list(s []string) []string {
	if s == nil {
		return []string{}
	}
	return s
}
