package incident

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
	"unique"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
)

// Labels of every alert: its identity, and what routes, inhibitions and silences match on.
const (
	LabelName      = "alertname"
	LabelEquipment = "equipment_id"
	LabelCause     = "cause"
	LabelSeverity  = "severity"
	LabelGateway   = "gateway_id"
	LabelAlertID   = "alert_id"
)

// Annotations of an alert: what a human reads.
const (
	AnnotationSummary     = "summary"
	AnnotationDescription = "description"
	AnnotationSensors     = "sensors"
	AnnotationScore       = "score"
	AnnotationConfidence  = "confidence"
	// Event time (the machine's own), RFC 3339; the alert's startsAt and endsAt are the broker's time.
	AnnotationStarted = "started"
	AnnotationEnded   = "ended"
	// Why the alert no longer stands.
	AnnotationResolution = "resolution"
	// The earlier episode that is most like this one: when, for how long, how alike.
	AnnotationEarlier = "earlier"
)

const (
	topSensors   = 5
	maxSummary   = 1024
	maxSensor    = 128
	keptContribs = 64
)

// SeverityName is the value of the severity label.
func SeverityName(s eventv1.Severity) string {
	switch s {
	case eventv1.Severity_SEVERITY_INFO:
		return "info"
	case eventv1.Severity_SEVERITY_CRITICAL:
		return "critical"
	default:
		return "warning"
	}
}

// AlertName is the alertname label of a cause: "bad_quality" gives "TocsinBadQuality".
func AlertName(cause string) string {
	var sb strings.Builder
	sb.WriteString("Tocsin")
	for part := range strings.FieldsFuncSeq(cause, func(r rune) bool { return r == '_' || r == '-' || r == '.' || r == ':' }) {
		sb.WriteString(strings.ToUpper(part[:1]))
		sb.WriteString(part[1:])
	}
	return sb.String()
}

func openedEvent(a *eventv1.Anomaly, sev eventv1.Severity) *eventv1.AlertEvent {
	ev := event(a, a.GetEpisodeId(), eventv1.AlertTransition_ALERT_TRANSITION_OPENED, "opened")
	ev.Severity = sev
	ev.StartedUs = a.GetStartedUs()
	ev.Labels = map[string]string{
		LabelName:      common(AlertName(a.GetCause())),
		LabelEquipment: a.GetEquipmentId(),
		LabelCause:     common(a.GetCause()),
		LabelSeverity:  SeverityName(sev),
		LabelAlertID:   a.GetEpisodeId(),
	}
	if a.GetGatewayId() != "" {
		ev.Labels[LabelGateway] = common(a.GetGatewayId())
	}
	ev.Annotations = annotations(a, a.GetStartedUs())
	return ev
}

// escalatedEvent keeps the labels that the alert opened with, but for the severity: a machine that has moved to another
// gateway meanwhile is still the same alert.
func escalatedEvent(a *eventv1.Anomaly, e *entry, sev eventv1.Severity) *eventv1.AlertEvent {
	ev := event(a, e.id, eventv1.AlertTransition_ALERT_TRANSITION_ESCALATED, "escalated-"+SeverityName(sev))
	ev.Severity = sev
	ev.StartedUs = e.started
	ev.Labels = with(e.view.Labels, LabelSeverity, SeverityName(sev))
	ev.Annotations = annotations(a, e.started)
	return ev
}

func closedEvent(a *eventv1.Anomaly, e *entry, why string) *eventv1.AlertEvent {
	ev := event(a, e.id, eventv1.AlertTransition_ALERT_TRANSITION_CLOSED, "closed")
	ev.Severity = e.severity
	ev.StartedUs = e.started
	// The end in the machine's own time: of the report that ends it, or the start of the episode that replaces it.
	ev.EndedUs = a.GetObservedUs()
	if a.GetEpisodeId() != e.id {
		ev.EndedUs = a.GetStartedUs()
		ev.Summary, ev.Contributions = e.view.Annotations[AnnotationSummary], nil
	}
	ev.Labels = e.view.Labels
	ev.Annotations = with(e.view.Annotations, AnnotationEnded, eventTime(ev.GetEndedUs()))
	ev.Annotations[AnnotationResolution] = why
	return ev
}

func endedText(a *eventv1.Anomaly) string {
	if s := cut(a.GetSummary(), maxSummary); s != "" {
		return s
	}
	return "The machine is back to what is expected of it."
}

// event fills what all transitions share. at_ms is the judge's broker time, so the event is a function of
// the anomaly alone and comes out the same however often it is made.
func event(a *eventv1.Anomaly, alertID string, t eventv1.AlertTransition, name string) *eventv1.AlertEvent {
	c := a.GetContributions()
	c = c[:min(len(c), keptContribs)]
	for _, one := range c { // a fleet has few names for its sensors, and each alert that stands has them
		one.Sensor, one.Detector, one.Statistic = common(one.Sensor), common(one.Detector), common(one.Statistic)
	}
	return &eventv1.AlertEvent{
		EventId:       alertID + "/" + name,
		AlertId:       alertID,
		EquipmentId:   a.GetEquipmentId(),
		Cause:         a.GetCause(),
		Transition:    t,
		Score:         a.GetScore(),
		AtMs:          a.GetJudgedAtMs(),
		Summary:       cut(a.GetSummary(), maxSummary),
		Contributions: slices.Clone(c),
		Confidence:    a.GetConfidence(),
		Origin:        a.GetOrigin(),
		Machines:      a.GetMachines(),
		ObservedUs:    a.GetObservedUs(),
		ReceivedAtMs:  a.GetReceivedAtMs(),
	}
}

// common is s, in memory once however many have it.
func common(s string) string { return unique.Make(s).Value() }

func annotations(a *eventv1.Anomaly, startedUS int64) map[string]string {
	summary := cut(a.GetSummary(), maxSummary)
	if summary == "" {
		summary = fmt.Sprintf("%s: %s anomaly, score %s", a.GetEquipmentId(), a.GetCause(), number(a.GetScore()))
	}
	out := map[string]string{
		AnnotationSummary:    summary,
		AnnotationScore:      number(a.GetScore()),
		AnnotationConfidence: number(a.GetConfidence()),
		AnnotationStarted:    eventTime(startedUS),
	}
	if e := a.GetEarlier(); e != nil && e.GetEndedUs() >= e.GetStartedUs() {
		lasted := time.Duration(min(e.GetEndedUs()-e.GetStartedUs(), math.MaxInt64/1000)) * time.Microsecond
		out[AnnotationEarlier] = fmt.Sprintf("%s, for %s, %.0f %% alike", time.UnixMicro(e.GetStartedUs()).UTC().Format("15:04 MST, 2 Jan 2006"), lasted.Round(time.Second), 100*e.GetSimilarity())
	}
	// The sensors are the description's own last lines: there is one of these texts for each alert that stands.
	var room [1024]byte
	text := fmt.Appendf(room[:0], "Machine %s, cause %s, since %s, score %s.", a.GetEquipmentId(), a.GetCause(), out[AnnotationStarted], out[AnnotationScore])
	first := len(text) + 1
	text = appendSensors(text, a.GetContributions())
	desc := string(text)
	if len(desc) > first {
		out[AnnotationSensors] = desc[first:]
	}
	out[AnnotationDescription] = desc
	return out
}

// appendSensors tells the few that contributed most, a line each: what was observed and what was expected of each.
func appendSensors(b []byte, cs []*eventv1.Contribution) []byte {
	top := slices.Clone(cs)
	slices.SortStableFunc(top, func(x, y *eventv1.Contribution) int { return cmp.Compare(y.GetShare(), x.GetShare()) })
	for _, c := range top[:min(len(top), topSensors)] {
		what := ""
		if c.GetStatistic() == "stddev" {
			what = " (standard deviation)"
		}
		b = fmt.Appendf(b, "\n%s%s: observed %s, expected ", cut(c.GetSensor(), maxSensor), what, number(c.GetObserved()))
		if math.IsNaN(c.GetExpectedLow()) || math.IsNaN(c.GetExpectedHigh()) {
			b = append(b, "unknown"...)
		} else {
			b = fmt.Appendf(b, "%s to %s", number(c.GetExpectedLow()), number(c.GetExpectedHigh()))
		}
		b = fmt.Appendf(b, " (share %s", number(c.GetShare()))
		if c.GetDetector() != "" {
			b = append(b, ", "+cut(c.GetDetector(), maxSensor)...)
		}
		b = append(b, ')')
	}
	return b
}

func number(v float64) string { return strconv.FormatFloat(v, 'g', 4, 64) }

func eventTime(us int64) string { return time.UnixMicro(us).UTC().Format(time.RFC3339Nano) }

// cut shortens s to at most limit bytes without splitting a rune.
func cut(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	for limit > 0 && !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit]
}

// with is a copy of m that also has key. The maps of events and views are shared and never written to.
func with(m map[string]string, key, value string) map[string]string {
	out := make(map[string]string, len(m)+1)
	maps.Copy(out, m)
	out[key] = value
	return out
}
