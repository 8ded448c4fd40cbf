package alertapi

import (
	"math"
	"time"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/incident"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/journal"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/lifecycle"
)

type markView struct {
	By      string     `json:"by"`
	At      time.Time  `json:"at"`
	Until   *time.Time `json:"until,omitempty"`
	Comment string     `json:"comment,omitempty"`
	// Of an acknowledgement: it was given to an earlier alert of the same machine and cause.
	Inherited bool `json:"inherited,omitempty"`
}

type verdictView struct {
	Verdict string    `json:"verdict"`
	By      string    `json:"by"`
	At      time.Time `json:"at"`
	Comment string    `json:"comment,omitempty"`
}

type contributionView struct {
	Sensor       string   `json:"sensor"`
	Share        *float64 `json:"share"`
	Observed     *float64 `json:"observed"`
	ExpectedLow  *float64 `json:"expected_low"`
	ExpectedHigh *float64 `json:"expected_high"`
	Detector     string   `json:"detector,omitempty"`
	Statistic    string   `json:"statistic,omitempty"`
}

type alertView struct {
	AlertID       string             `json:"alert_id"`
	EquipmentID   string             `json:"equipment_id"`
	Cause         string             `json:"cause"`
	GatewayID     string             `json:"gateway_id,omitempty"`
	Severity      string             `json:"severity"`
	State         lifecycle.State    `json:"state"`
	Open          bool               `json:"open"`
	Summary       string             `json:"summary"`
	Score         *float64           `json:"score"`
	Started       time.Time          `json:"started_at"` // the machine's time
	Ended         *time.Time         `json:"ended_at,omitempty"`
	Opened        time.Time          `json:"opened_at"` // the broker's time
	Closed        *time.Time         `json:"closed_at,omitempty"`
	Acknowledged  *markView          `json:"acknowledged,omitempty"`
	Shelved       *markView          `json:"shelved,omitempty"`
	OutOfService  *markView          `json:"out_of_service,omitempty"`
	Verdict       *verdictView       `json:"verdict,omitempty"`
	Held          string             `json:"held,omitempty"`
	Incident      string             `json:"incident_id,omitempty"`
	Machines      int                `json:"incident_machines,omitempty"`
	Note          string             `json:"note,omitempty"`
	Labels        map[string]string  `json:"labels,omitempty"`
	Annotations   map[string]string  `json:"annotations,omitempty"`
	Contributions []contributionView `json:"contributions,omitempty"`
}

type rowView struct {
	ID          string          `json:"id"`
	AlertID     string          `json:"alert_id"`
	EquipmentID string          `json:"equipment_id"`
	Cause       string          `json:"cause"`
	GatewayID   string          `json:"gateway_id,omitempty"`
	Transition  string          `json:"transition"`
	Severity    string          `json:"severity"`
	State       lifecycle.State `json:"state"`
	At          time.Time       `json:"at"`
	By          string          `json:"by"`
	Comment     string          `json:"comment,omitempty"`
	Until       *time.Time      `json:"until,omitempty"`
	Verdict     string          `json:"verdict,omitempty"`
	Score       *float64        `json:"score"`
	Summary     string          `json:"summary"`
}

type toldView struct {
	Key         string    `json:"idempotency_key"`
	Receiver    string    `json:"receiver"`
	Integration string    `json:"integration"`
	Status      string    `json:"status"`
	Reason      string    `json:"reason"`
	Outcome     string    `json:"outcome"`
	Attempts    int       `json:"attempts"`
	At          time.Time `json:"at"`
	LatencyMS   int64     `json:"latency_ms,omitempty"`
	Error       string    `json:"error,omitempty"`
	Instance    string    `json:"instance"`
}

func msTime(ms int64) time.Time { return time.UnixMilli(ms).UTC() }

func optional(ms int64) *time.Time {
	if ms == 0 {
		return nil
	}
	t := msTime(ms)
	return &t
}

func number(v float64) *float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return nil
	}
	return &v
}

func mark(m *lifecycle.Mark) *markView {
	if m == nil {
		return nil
	}
	return &markView{By: m.By, At: msTime(m.AtMS), Until: optional(m.UntilMS), Comment: m.Why}
}

// VerdictName is the word for a verdict; "" for none.
func VerdictName(v eventv1.AlertVerdict) string {
	for name, known := range verdicts {
		if v == known {
			return name
		}
	}
	return ""
}

var verdicts = map[string]eventv1.AlertVerdict{
	"real": eventv1.AlertVerdict_ALERT_VERDICT_REAL, "false": eventv1.AlertVerdict_ALERT_VERDICT_FALSE,
	"known": eventv1.AlertVerdict_ALERT_VERDICT_KNOWN, "sensor": eventv1.AlertVerdict_ALERT_VERDICT_SENSOR,
}

// view is an alert for an answer; whole adds what a list leaves out.
func (a *API) view(al *lifecycle.Alert, whole bool) alertView {
	v := alertView{
		AlertID: al.ID, EquipmentID: al.Key.EquipmentID, Cause: al.Key.Cause, GatewayID: al.GatewayID, Severity: incident.SeverityName(al.Severity), State: al.State,
		Open: al.Open(), Summary: al.Event.GetSummary(), Score: number(al.Event.GetScore()), Started: time.UnixMicro(al.StartedUS).UTC(), Opened: msTime(al.OpenedMS),
		Closed: optional(al.ClosedMS), Acknowledged: mark(al.Ack), Held: al.Held, Incident: al.Lead, Note: al.Note,
	}
	v.Machines, _ = a.desk.Leads(al.ID)
	if al.EndedUS != 0 {
		t := time.UnixMicro(al.EndedUS).UTC()
		v.Ended = &t
	}
	if v.Acknowledged != nil {
		v.Acknowledged.Inherited = al.AckedBefore
	}
	if p, ok := a.desk.Alarm(al.Key); ok && al.Open() {
		v.Shelved, v.OutOfService = mark(p.Shelf), mark(p.OutOfService)
	}
	if m := al.VerdictMark; m != nil {
		v.Verdict = &verdictView{VerdictName(al.Verdict), m.By, msTime(m.AtMS), m.Why}
	}
	if !whole {
		return v
	}
	v.Labels, v.Annotations = al.Event.GetLabels(), al.Event.GetAnnotations()
	for _, c := range al.Event.GetContributions() {
		v.Contributions = append(v.Contributions, contributionView{
			c.GetSensor(), number(c.GetShare()), number(c.GetObserved()), number(c.GetExpectedLow()), number(c.GetExpectedHigh()), c.GetDetector(), c.GetStatistic(),
		})
	}
	return v
}

func viewRow(r lifecycle.Row) rowView {
	return rowView{
		ID: r.ID, AlertID: r.AlertID, EquipmentID: r.EquipmentID, Cause: r.Cause, GatewayID: r.GatewayID, Transition: r.Transition,
		Severity: incident.SeverityName(r.Severity), State: r.State, At: msTime(r.AtMS), By: r.Actor, Comment: r.Comment, Until: optional(r.UntilMS),
		Verdict: VerdictName(r.Verdict), Score: number(r.Score), Summary: r.Summary,
	}
}

func viewTold(n journal.Told) toldView {
	return toldView{n.MessageKey, n.Receiver, n.Integration, n.Status, n.Reason, n.Outcome, n.Attempts, msTime(n.AtMS), n.LatencyMS, n.Error, n.Instance}
}
