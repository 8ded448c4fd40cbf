package table

import (
	"cmp"
	"context"
	"encoding/json"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/tocsin-io/tocsin/pkg/topic"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	"github.com/tocsin-io/tocsin/services/cold-path-writer/internal/rowhash"
)

// Contribution is one element of the list column contributions.
type Contribution struct {
	Sensor       string   `parquet:"sensor,dict"`
	Share        float64  `parquet:"share"`
	Observed     float64  `parquet:"observed"`
	ExpectedLow  *float64 `parquet:"expected_low,optional"`
	ExpectedHigh *float64 `parquet:"expected_high,optional"`
	Detector     string   `parquet:"detector,dict"`
	Statistic    string   `parquet:"statistic,dict"`
}

// Anomaly is a row of the table anomalies: one report of an episode.
type Anomaly struct {
	EquipmentID   string         `parquet:"equipment_id,dict"`
	ObservedAt    int64          `parquet:"observed_at,timestamp(microsecond),delta"`
	AnomalyID     string         `parquet:"anomaly_id"`
	EpisodeID     string         `parquet:"episode_id,dict"`
	Cause         string         `parquet:"cause,dict"`
	Phase         string         `parquet:"phase,dict"`
	Severity      string         `parquet:"severity,dict"`
	Score         float64        `parquet:"score"`
	Confidence    float64        `parquet:"confidence"`
	StartedAt     int64          `parquet:"started_at,timestamp(microsecond),delta"`
	JudgedAt      int64          `parquet:"judged_at,timestamp(microsecond),delta"`
	GatewayID     string         `parquet:"gateway_id,dict"`
	Summary       string         `parquet:"summary"`
	Contributions []Contribution `parquet:"contributions,list"`
	LogAppendTime int64          `parquet:"log_append_time,timestamp(microsecond),delta"`
	Offset        int64          `parquet:"offset,delta"`
}

func newAnomalies() Table {
	return &rowTable[Anomaly]{
		name: "anomalies", topic: topic.Anomalies, typ: topic.TypeAnomaly,
		sortedBy: []string{"equipment_id", "observed_at"},
		compare: func(a, b *Anomaly) int {
			return cmp.Or(strings.Compare(a.EquipmentID, b.EquipmentID), cmp.Compare(a.ObservedAt, b.ObservedAt), cmp.Compare(a.Offset, b.Offset))
		},
		hash:   hashAnomaly,
		decode: decodeAnomaly,
	}
}

func decodeAnomaly(_ context.Context, rows []Anomaly, rec Record) ([]Anomaly, error) {
	var m eventv1.Anomaly
	if err := unmarshal(rec, &m, &m.EquipmentId); err != nil {
		return rows, err
	}
	return append(rows, Anomaly{
		EquipmentID: m.GetEquipmentId(), ObservedAt: m.GetObservedUs(), AnomalyID: m.GetAnomalyId(), EpisodeID: m.GetEpisodeId(),
		Cause: m.GetCause(), Phase: enum(m.GetPhase().String(), "PHASE_"), Severity: enum(m.GetSeverity().String(), "SEVERITY_"),
		Score: m.GetScore(), Confidence: m.GetConfidence(), StartedAt: m.GetStartedUs(), JudgedAt: micros(m.GetJudgedAtMs()),
		GatewayID: m.GetGatewayId(), Summary: m.GetSummary(), Contributions: contributions(m.GetContributions()),
		LogAppendTime: micros(rec.TimeMS), Offset: rec.Offset,
	}), nil
}

func hashAnomaly(r *Anomaly) uint64 {
	var h rowhash.Hash
	for _, s := range [...]string{r.EquipmentID, r.AnomalyID, r.EpisodeID, r.Cause, r.Phase, r.Severity, r.GatewayID, r.Summary} {
		h.String(s)
	}
	for _, n := range [...]int64{r.ObservedAt, r.StartedAt, r.JudgedAt, r.LogAppendTime, r.Offset} {
		h.Int(n)
	}
	h.Float(r.Score)
	h.Float(r.Confidence)
	hashContributions(&h, r.Contributions)
	return h.Sum()
}

// Alert is a row of the table alerts: one transition of an alert.
type Alert struct {
	EquipmentID   string         `parquet:"equipment_id,dict"`
	At            int64          `parquet:"at,timestamp(microsecond),delta"`
	EventID       string         `parquet:"event_id"`
	AlertID       string         `parquet:"alert_id,dict"`
	Cause         string         `parquet:"cause,dict"`
	Transition    string         `parquet:"transition,dict"`
	Severity      string         `parquet:"severity,dict"`
	Score         float64        `parquet:"score"`
	StartedAt     int64          `parquet:"started_at,timestamp(microsecond),delta"`
	EndedAt       *int64         `parquet:"ended_at,timestamp(microsecond),optional"` // null while the alert is open
	Summary       string         `parquet:"summary"`
	Labels        string         `parquet:"labels"`      // JSON object
	Annotations   string         `parquet:"annotations"` // JSON object
	Contributions []Contribution `parquet:"contributions,list"`
	LogAppendTime int64          `parquet:"log_append_time,timestamp(microsecond),delta"`
	Offset        int64          `parquet:"offset,delta"`
}

func newAlerts() Table {
	return &rowTable[Alert]{
		name: "alerts", topic: topic.Alerts, typ: topic.TypeAlert,
		sortedBy: []string{"equipment_id", "at"},
		compare: func(a, b *Alert) int {
			return cmp.Or(strings.Compare(a.EquipmentID, b.EquipmentID), cmp.Compare(a.At, b.At), cmp.Compare(a.Offset, b.Offset))
		},
		hash:   hashAlert,
		decode: decodeAlert,
	}
}

func decodeAlert(_ context.Context, rows []Alert, rec Record) ([]Alert, error) {
	var m eventv1.AlertEvent
	if err := unmarshal(rec, &m, &m.EquipmentId); err != nil {
		return rows, err
	}
	labels, err := object(m.GetLabels())
	if err != nil {
		return rows, err
	}
	annotations, err := object(m.GetAnnotations())
	if err != nil {
		return rows, err
	}
	row := Alert{
		EquipmentID: m.GetEquipmentId(), At: micros(m.GetAtMs()), EventID: m.GetEventId(), AlertID: m.GetAlertId(), Cause: m.GetCause(),
		Transition: enum(m.GetTransition().String(), "ALERT_TRANSITION_"), Severity: enum(m.GetSeverity().String(), "SEVERITY_"),
		Score: m.GetScore(), StartedAt: m.GetStartedUs(), Summary: m.GetSummary(), Labels: labels, Annotations: annotations,
		Contributions: contributions(m.GetContributions()), LogAppendTime: micros(rec.TimeMS), Offset: rec.Offset,
	}
	if end := m.GetEndedUs(); end != 0 {
		row.EndedAt = &end
	}
	return append(rows, row), nil
}

func hashAlert(r *Alert) uint64 {
	var h rowhash.Hash
	for _, s := range [...]string{r.EquipmentID, r.EventID, r.AlertID, r.Cause, r.Transition, r.Severity, r.Summary, r.Labels, r.Annotations} {
		h.String(s)
	}
	for _, n := range [...]int64{r.At, r.StartedAt, r.LogAppendTime, r.Offset} {
		h.Int(n)
	}
	h.Bool(r.EndedAt != nil)
	if r.EndedAt != nil {
		h.Int(*r.EndedAt)
	}
	h.Float(r.Score)
	hashContributions(&h, r.Contributions)
	return h.Sum()
}

func contributions(in []*eventv1.Contribution) []Contribution {
	out := make([]Contribution, len(in))
	for i, c := range in {
		out[i] = Contribution{
			Sensor: c.GetSensor(), Share: c.GetShare(), Observed: c.GetObserved(),
			ExpectedLow: known(c.GetExpectedLow()), ExpectedHigh: known(c.GetExpectedHigh()), Detector: c.GetDetector(), Statistic: c.GetStatistic(),
		}
	}
	return out
}

func hashContributions(h *rowhash.Hash, cs []Contribution) {
	h.Int(int64(len(cs)))
	for i := range cs {
		h.String(cs[i].Sensor)
		h.Float(cs[i].Share)
		h.Float(cs[i].Observed)
		hashOptional(h, cs[i].ExpectedLow)
		hashOptional(h, cs[i].ExpectedHigh)
		h.String(cs[i].Detector)
		h.String(cs[i].Statistic)
	}
}

// unmarshal decodes rec into m, whose equipment id (a field of m) must not be empty: an empty value is a valid message of any type.
func unmarshal(rec Record, m proto.Message, equipment *string) error {
	if err := proto.Unmarshal(rec.Value, m); err != nil {
		return poison("%w", err)
	}
	if *equipment == "" {
		return poison("equipment_id is empty")
	}
	return nil
}

// enum is an enum's name as the lake shows it: lower case, without the type's prefix. An unknown number stays a number.
func enum(name, prefix string) string { return strings.ToLower(strings.TrimPrefix(name, prefix)) }

// object is m as JSON with sorted keys.
func object(m map[string]string) (string, error) {
	if len(m) == 0 {
		return "{}", nil
	}
	b, err := json.Marshal(m)
	if err != nil {
		return "", poison("%w", err)
	}
	return string(b), nil
}

func micros(ms int64) int64 { return ms * 1000 }
