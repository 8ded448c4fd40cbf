package message

import (
	"math"
	"time"

	"github.com/tocsin-io/tocsin/services/alert-router/internal/notification"
)

// Schema names the form of Document. What is added to it changes nothing; anything else makes a new name.
const Schema = "tocsin.notification.v1"

// Document is the page for programs: the words, and the numbers that they were made of. Times are RFC 3339, numbers that are not known are absent.
type Document struct {
	Schema   string          `json:"schema"`
	Key      string          `json:"key"`
	GroupKey string          `json:"group_key"`
	Receiver string          `json:"receiver"`
	Status   string          `json:"status"`
	Reason   string          `json:"reason"`
	Severity string          `json:"severity"`
	Title    string          `json:"title"`
	At       time.Time       `json:"at"`
	Incident IncidentDoc     `json:"incident"`
	Alerts   []AlertDocument `json:"alerts"`
	// LeftOut is how many alerts of the group are not in Alerts.
	LeftOut     int               `json:"left_out"`
	GroupLabels map[string]string `json:"group_labels,omitempty"`
	Links       *LinksDocument    `json:"links,omitempty"`
}

// IncidentDoc is what the alerts have in common.
type IncidentDoc struct {
	ID       string `json:"id"`
	Cause    string `json:"cause,omitempty"`
	Scope    string `json:"scope,omitempty"`
	ScopeID  string `json:"scope_id,omitempty"`
	Machines int    `json:"machines"`
}

// AlertDocument is one alert with its explanation.
type AlertDocument struct {
	ID             string           `json:"id"`
	Key            string           `json:"key"`
	Status         string           `json:"status"`
	Severity       string           `json:"severity"`
	EquipmentID    string           `json:"equipment_id"`
	GatewayID      string           `json:"gateway_id,omitempty"`
	Cause          string           `json:"cause,omitempty"`
	What           string           `json:"what"`
	Odd            string           `json:"odd,omitempty"`
	Summary        string           `json:"summary,omitempty"`
	HowSure        string           `json:"how_sure,omitempty"`
	Score          *float64         `json:"score,omitempty"`
	PValue         *float64         `json:"p_value,omitempty"`
	Confidence     *float64         `json:"confidence,omitempty"`
	Started        *time.Time       `json:"started,omitempty"`
	Ended          *time.Time       `json:"ended,omitempty"`
	StartsAt       *time.Time       `json:"starts_at,omitempty"`
	EndsAt         *time.Time       `json:"ends_at,omitempty"`
	State          string           `json:"state,omitempty"`
	AcknowledgedBy string           `json:"acknowledged_by,omitempty"`
	Sensors        []SensorDocument `json:"sensors,omitempty"`
	Detectors      []string         `json:"detectors,omitempty"`
	Path           []StepDocument   `json:"path,omitempty"`
	Labels         notification.Set `json:"labels,omitempty"`
	Annotations    notification.Set `json:"annotations,omitempty"`
	Links          *LinksDocument   `json:"links,omitempty"`
}

// SensorDocument is what one sensor did and what was expected.
type SensorDocument struct {
	Sensor       string   `json:"sensor"`
	Unit         string   `json:"unit,omitempty"`
	Statistic    string   `json:"statistic,omitempty"`
	Observed     *float64 `json:"observed,omitempty"`
	ExpectedLow  *float64 `json:"expected_low,omitempty"`
	ExpectedHigh *float64 `json:"expected_high,omitempty"`
	Share        float64  `json:"share"`
	Detector     string   `json:"detector,omitempty"`
}

// StepDocument is one step on the way.
type StepDocument struct {
	Name         string  `json:"name"`
	Milliseconds float64 `json:"ms"`
}

// LinksDocument are the page's links by name.
type LinksDocument struct {
	Chart       string            `json:"chart,omitempty"`
	Runbook     string            `json:"runbook,omitempty"`
	Acknowledge string            `json:"acknowledge,omitempty"`
	All         string            `json:"acknowledge_all,omitempty"`
	Shelve      string            `json:"shelve,omitempty"`
	Silence     string            `json:"silence,omitempty"`
	Verdict     map[string]string `json:"verdict,omitempty"`
}

// maxDocument is how many alerts, and sensors of each, a Document tells.
const maxDocument = notification.MaxDescribed

// NewDocument puts n and its page into one. JSON escapes whatever the texts hold; they are given as they are, since programs match on them.
func NewDocument(n *notification.Notification, p *Page) *Document {
	d := &Document{
		Schema: Schema, Key: n.Key, GroupKey: n.GroupKey, Receiver: n.Receiver, Status: string(n.Status), Reason: string(n.Reason), Severity: p.Severity, Title: p.Title,
		At: n.At.UTC(), GroupLabels: n.GroupLabels, Links: linksDocument(p.Links),
		Incident: IncidentDoc{ID: n.Incident.ID, Cause: n.Incident.Cause, Scope: n.Incident.Scope, ScopeID: n.Incident.ScopeID, Machines: n.Incident.Machines},
		Alerts:   make([]AlertDocument, 0, min(len(n.Alerts), maxDocument)),
	}
	for i := range n.Alerts[:min(len(n.Alerts), maxDocument)] {
		d.Alerts = append(d.Alerts, alertDocument(&n.Alerts[i], p))
	}
	d.LeftOut = len(n.Alerts) - len(d.Alerts)
	return d
}

func alertDocument(a *notification.Alert, p *Page) AlertDocument {
	d := AlertDocument{
		ID: a.ID, Key: a.Key, Status: string(a.Status), Severity: severity(a.Severity), EquipmentID: a.EquipmentID, GatewayID: a.GatewayID, Cause: a.Cause,
		What: Clean(machine(a)+" "+matter(a), maxText) + ".", Summary: Clean(a.Summary, maxText), HowSure: sure(a), State: a.State, AcknowledgedBy: a.AcknowledgedBy,
		Started: instant(a.Started), Ended: instant(a.Ended), StartsAt: instant(a.StartsAt), EndsAt: instant(a.EndsAt),
		Detectors: a.Detectors, Labels: a.Labels, Annotations: a.Annotations,
	}
	if a.Score > 0 {
		d.Score = known64(a.Score)
		if statistical(a.Cause) {
			d.PValue = known64(max(1-a.Score, 0))
		}
	}
	if a.Confidence > 0 {
		d.Confidence = known64(a.Confidence)
	}
	for i := range a.Evidence[:min(len(a.Evidence), maxDocument)] {
		e := &a.Evidence[i]
		d.Sensors = append(d.Sensors, SensorDocument{
			Sensor: e.Sensor, Unit: e.Unit, Statistic: e.Statistic, Observed: known64(e.Observed), ExpectedLow: known64(e.ExpectedLow), ExpectedHigh: known64(e.ExpectedHigh),
			Share: clamp(e.Share), Detector: e.Detector,
		})
	}
	for _, h := range a.Path[:min(len(a.Path), maxHops)] {
		d.Path = append(d.Path, StepDocument{h.Name, float64(h.Took.Microseconds()) / 1000})
	}
	for i := range p.Alerts {
		if told := &p.Alerts[i]; told.Key == Clean(a.Key, 128) && told.ID == Clean(a.ID, 4*maxName) {
			d.Odd, d.Links = told.Odd, linksDocument(told.Links)
			for j := range d.Sensors {
				if j < len(told.Sensors) {
					d.Sensors[j].Unit = told.Sensors[j].Unit
				}
			}
		}
	}
	return d
}

func linksDocument(l Links) *LinksDocument {
	d := &LinksDocument{Chart: l.Chart, Runbook: l.Runbook, Acknowledge: l.Acknowledge, All: l.AcknowledgeAll, Shelve: l.Shelve, Silence: l.Silence}
	for _, v := range l.Verdicts {
		if d.Verdict == nil {
			d.Verdict = make(map[string]string, len(l.Verdicts))
		}
		d.Verdict[v.Name] = v.URL
	}
	if d.Chart == "" && d.Runbook == "" && d.Acknowledge == "" && d.All == "" && d.Shelve == "" && d.Silence == "" && d.Verdict == nil {
		return nil
	}
	return d
}

func known64(v float64) *float64 {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return nil
	}
	return &v
}

func instant(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}
