package hub

import (
	"cmp"
	"container/list"
	"slices"
	"strings"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
)

// Bounds on the free parts of one event, so that a count of events bounds memory. A wide machine's anomaly can
// have 25,000 contributions; the shares that matter come first.
const (
	maxContributions = 32
	maxText          = 4096
	maxPairs         = 64
)

// Anomaly is one report of an episode. Its event must not be changed.
type Anomaly struct {
	Event   *eventv1.Anomaly
	Version uint64
}

type alert struct {
	Event   *eventv1.AlertEvent
	Open    bool
	version uint64
	elem    *list.Element
}

func boundAnomaly(ev *eventv1.Anomaly) {
	ev.Contributions = boundContributions(ev.Contributions)
	ev.Summary = boundText(ev.Summary)
	ev.Cause = boundText(ev.Cause)
	ev.GatewayId = boundText(ev.GatewayId)
	ev.EpisodeId = boundText(ev.EpisodeId)
	ev.Regime = boundText(ev.Regime)
	ev.Detectors = ev.Detectors[:min(len(ev.Detectors), maxContributions)]
	for i, d := range ev.Detectors {
		ev.Detectors[i] = boundText(d)
	}
	if ev.Earlier != nil {
		ev.Earlier.EpisodeId = boundText(ev.Earlier.EpisodeId)
	}
}

func boundAlert(ev *eventv1.AlertEvent) {
	ev.Contributions = boundContributions(ev.Contributions)
	ev.Summary = boundText(ev.Summary)
	ev.Cause = boundText(ev.Cause)
	ev.EventId = boundText(ev.EventId)
	ev.Actor, ev.Comment = boundText(ev.Actor), boundText(ev.Comment)
	ev.Labels = boundPairs(ev.Labels)
	ev.Annotations = boundPairs(ev.Annotations)
}

func boundText(s string) string {
	if len(s) <= maxText {
		return s
	}
	return strings.ToValidUTF8(strings.Clone(s[:maxText]), "")
}

func boundContributions(cs []*eventv1.Contribution) []*eventv1.Contribution {
	slices.SortStableFunc(cs, func(a, b *eventv1.Contribution) int { return cmp.Compare(b.GetShare(), a.GetShare()) })
	if len(cs) > maxContributions {
		cs = slices.Clone(cs[:maxContributions])
	}
	for _, c := range cs {
		c.Sensor, c.Detector = boundText(c.Sensor), boundText(c.Detector)
	}
	return cs
}

func boundPairs(m map[string]string) map[string]string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for i, k := range keys {
		if i >= maxPairs || len(k) > maxText {
			delete(m, k)
			continue
		}
		m[k] = boundText(m[k])
	}
	return m
}

// laterReport orders two reports: by event time, then by phase, so that an end at the same instant wins.
func laterReport(a, b *eventv1.Anomaly) bool { return compareAnomalies(a, b) > 0 }

func compareAnomalies(a, b *eventv1.Anomaly) int {
	return cmp.Or(cmp.Compare(a.ObservedUs, b.ObservedUs), cmp.Compare(a.Phase, b.Phase), cmp.Compare(a.AnomalyId, b.AnomalyId))
}

// insertAnomaly keeps the latest limit reports in order; false when a is a repeat or older than all that are kept.
func insertAnomaly(list []*Anomaly, a *Anomaly, limit int) ([]*Anomaly, bool) {
	i, found := slices.BinarySearchFunc(list, a, func(x, y *Anomaly) int { return compareAnomalies(x.Event, y.Event) })
	if found || (i == 0 && len(list) >= limit) {
		return list, false
	}
	list = slices.Insert(list, i, a)
	if len(list) > limit {
		list = slices.Delete(list, 0, 1)
	}
	return list, true
}

// supersedes tells whether event a says more of an alert than b: closed is final, then the later broker time,
// then the graver severity. It is a total order on different events, so arrival order does not matter.
func supersedes(a, b *eventv1.AlertEvent) bool {
	closed := func(e *eventv1.AlertEvent) int {
		if ended(e) {
			return 1
		}
		return 0
	}
	return cmp.Or(
		cmp.Compare(closed(a), closed(b)), cmp.Compare(a.AtMs, b.AtMs), cmp.Compare(a.Severity, b.Severity),
		cmp.Compare(a.Transition, b.Transition), cmp.Compare(a.EventId, b.EventId),
	) > 0
}

// ended tells whether an alert stands no longer as of an event: its end, or what somebody says of it afterwards.
func ended(e *eventv1.AlertEvent) bool {
	return e.Transition == eventv1.AlertTransition_ALERT_TRANSITION_CLOSED || e.Transition > eventv1.AlertTransition_ALERT_TRANSITION_CLOSED && e.EndedUs != 0
}

func compareClosed(a, b *alert) int {
	return cmp.Or(cmp.Compare(a.Event.AtMs, b.Event.AtMs), cmp.Compare(a.Event.AlertId, b.Event.AlertId))
}

func insertClosed(list []*alert, a *alert) []*alert {
	i, _ := slices.BinarySearchFunc(list, a, compareClosed)
	return slices.Insert(list, i, a)
}

func removeClosed(list []*alert, a *alert) []*alert {
	if i, ok := slices.BinarySearchFunc(list, a, compareClosed); ok {
		return slices.Delete(list, i, i+1)
	}
	return list
}
