package history

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	alertrouter "github.com/tocsin-io/tocsin/services/alert-router"
)

// together says which alerts people need not be told of by themselves: part of an incident that they know of, or waiting because they come too often. It is
// written from what the configuration promises, not from the router's code, and is milder than that by some seconds: two routers read the log at different times, and one that
// was started again counts pages from the openings.
type together struct {
	log   *alertLog
	rules alertrouter.Incidents
	told  map[string]int64 // when people were first told, by alert
	slack time.Duration

	joint map[jointKey][]*alertLife
	come  map[alarm][]*alertLife
	pages []pageTime
}

// jointKey is what the alerts of an incident share.
type jointKey struct{ cause, gateway, group string }

// pageTime is when a page was counted: not before from, and not after to.
type pageTime struct {
	a        *alertLife
	from, to int64
	severity eventv1.Severity
}

// How far apart two routers, or a router and the log, may be.
const (
	reviewSlack = 5 * time.Second
	leadSlack   = 10 * time.Second
)

func newTogether(l *alertLog, rules alertrouter.Incidents, told map[string]int64, tolerance time.Duration) *together {
	t := &together{log: l, rules: rules, told: told, slack: reviewSlack + tolerance, joint: map[jointKey][]*alertLife{}, come: map[alarm][]*alertLife{}}
	inOrder := slices.SortedFunc(maps.Values(l.alerts), func(a, b *alertLife) int {
		return cmp.Or(cmp.Compare(a.openedMS, b.openedMS), strings.Compare(a.id, b.id))
	})
	for _, a := range inOrder {
		if a.openedMS == 0 {
			continue
		}
		if k, ok := t.key(a); ok {
			t.joint[k] = append(t.joint[k], a)
		}
		t.come[a.alarm] = append(t.come[a.alarm], a)
	}
	for _, a := range inOrder {
		if a.openedMS != 0 {
			t.page(a)
		}
	}
	return t
}

// page notes when people were, or should have been, told of an alert. One that was held when it came, and ended so, is no page.
func (t *together) page(a *alertLife) {
	to, was := t.told[a.id]
	if !was {
		to = a.openedMS
		if chance(a.openedMS, a.openedMS+1, t.excuses(a)...) == 0 {
			return
		}
	}
	for i, s := range a.severities {
		if i > 0 {
			to = s.ms
		}
		t.pages = append(t.pages, pageTime{a, s.ms, max(to, s.ms), s.severity})
	}
}

// key is the incident that an alert may be part of.
func (t *together) key(a *alertLife) (jointKey, bool) {
	if t.rules.Gateways && a.gateway != "" {
		return jointKey{cause: a.alarm.cause, gateway: a.gateway}, true
	}
	for _, g := range t.rules.Groups {
		if g.Incident > 0 && within(g, a.alarm.equipment) {
			return jointKey{cause: a.alarm.cause, group: g.Name}, true
		}
	}
	return jointKey{}, false
}

func within(g alertrouter.Group, equipment string) bool {
	return slices.ContainsFunc(g.Equipment, func(p string) bool {
		prefix, some := strings.CutSuffix(p, "*")
		return p == equipment || some && strings.HasPrefix(equipment, prefix)
	})
}

// severity is the highest of an alert up to a time.
func (a *alertLife) severity(ms int64) (s eventv1.Severity) {
	for _, from := range a.severities {
		if from.ms <= ms {
			s = max(s, from.severity)
		}
	}
	return s
}

// until is when an alert becomes graver than a severity; the end of times when it does not.
func (a *alertLife) until(s eventv1.Severity) int64 {
	for _, from := range a.severities {
		if from.severity > s {
			return from.ms
		}
	}
	return endOfTimes
}

const endOfTimes = int64(1) << 52 // ms

func stretch(fromMS, toMS int64) Outage {
	return Outage{From: time.UnixMilli(fromMS), To: time.UnixMilli(toMS)}
}

func ended(a *alertLife) int64 { return cmp.Or(a.closedMS, endOfTimes) }

// excuses are the times in which an alert that nobody was told of need not be told.
func (t *together) excuses(a *alertLife) []Outage {
	out := t.covered(a)
	var mine []pageTime // of the same alarm
	for _, p := range t.pages {
		if p.a != a && p.a.alarm == a.alarm && p.from <= ended(a) {
			mine = append(mine, p)
		}
	}
	if graver := a.until(gravest(mine)); len(mine) > 0 {
		for _, p := range mine {
			if t.rules.Cooldown > 0 {
				out = append(out, stretch(p.from, min(p.to+(t.rules.Cooldown+t.slack).Milliseconds(), graver)))
			}
		}
		out = append(out, t.beyond(mine, t.rules.Rate, 1, graver)...)
		out = append(out, t.beyond(t.openings(a.alarm), t.rules.Chatter, 1, graver)...)
	}
	places := 1
	if a.severity(endOfTimes) >= eventv1.Severity_SEVERITY_CRITICAL {
		places = 2
	}
	out = append(out, t.beyond(t.pages, t.rules.Flood, places, endOfTimes)...)
	for _, g := range t.rules.Groups {
		if !within(g, a.alarm.equipment) {
			continue
		}
		var of []pageTime
		for _, p := range t.pages {
			if within(g, p.a.alarm.equipment) {
				of = append(of, p)
			}
		}
		out = append(out, t.beyond(of, g.Pages, places, endOfTimes)...)
	}
	return out
}

func gravest(pages []pageTime) (s eventv1.Severity) {
	for _, p := range pages {
		s = max(s, p.severity)
	}
	return s
}

// covered are the times in which people know of an alert by the page of its incident.
func (t *together) covered(a *alertLife) (out []Outage) {
	k, ok := t.key(a)
	if !ok {
		return nil
	}
	for _, lead := range t.joint[k] {
		if _, told := t.told[lead.id]; !told || lead == a {
			continue
		}
		to := ended(lead) + (t.rules.Grace + t.slack).Milliseconds()
		if k.group != "" {
			if a.openedMS > lead.openedMS+(t.door(k.group)+leadSlack).Milliseconds() {
				continue
			}
			to = min(to, a.until(lead.severity(endOfTimes)))
		}
		out = append(out, stretch(lead.openedMS-leadSlack.Milliseconds(), to))
	}
	return out
}

// door is how long after its first alert a group's incident takes others.
func (t *together) door(group string) time.Duration {
	for _, g := range t.rules.Groups {
		if g.Name == group {
			return g.Incident
		}
	}
	return 0
}

// openings are when the alerts of an alarm came.
func (t *together) openings(of alarm) (came []pageTime) {
	for _, b := range t.come[of] {
		came = append(came, pageTime{b, b.openedMS, b.openedMS, 0})
	}
	return came
}

// beyond are the times up to end in which a limit, so many times over, is reached.
func (t *together) beyond(pages []pageTime, l alertrouter.Limit, places int, end int64) (out []Outage) {
	n := l.Count * places
	if n == 0 || len(pages) < n {
		return nil
	}
	pages = slices.SortedFunc(slices.Values(pages), func(a, b pageTime) int { return cmp.Compare(a.from, b.from) })
	for i := range len(pages) - n + 1 {
		from, to := pages[i+n-1].from, pages[i].to+(l.Per+t.slack).Milliseconds()
		if from < to {
			out = append(out, stretch(from, min(to, end)))
		}
	}
	return out
}

// awaited are the times in which the end of an alert that people were told of waits for others that it stands for.
func (t *together) awaited(a *alertLife) (out []Outage) {
	k, ok := t.key(a)
	if !ok {
		return nil
	}
	for _, b := range t.joint[k] {
		if b == a {
			continue
		}
		to := ended(b)
		if at, told := t.told[b.id]; told {
			to = min(to, at)
		}
		if b.openedMS < to {
			out = append(out, stretch(b.openedMS, to))
		}
	}
	return out
}

// another tells whether people were told of an alert while they knew of the incident that it is part of. A router that does not see all of the log may do so; one that does, does not.
func (t *together) another(a *alertLife) bool {
	k, ok := t.key(a)
	return ok && slices.ContainsFunc(t.joint[k], func(b *alertLife) bool {
		at, told := t.told[b.id]
		return told && b != a && at < t.told[a.id] && t.told[a.id] < ended(b)
	})
}

// forsaken names an alert that stood, and that nobody had been told of, when people were told of the end of the one that stood for it; "": there is none.
func (t *together) forsaken(a *alertLife, resolvedMS int64) string {
	k, ok := t.key(a)
	if !ok || k.group != "" {
		return ""
	}
	// The last to be told of stands for the others.
	for _, b := range t.joint[k] {
		if at, told := t.told[b.id]; told && b != a && at < resolvedMS && at > t.told[a.id] {
			return ""
		}
	}
	for _, b := range t.joint[k] {
		if _, told := t.told[b.id]; told || b == a {
			continue
		}
		if b.openedMS < a.closedMS-leadSlack.Milliseconds() && ended(b) > resolvedMS+t.slack.Milliseconds() {
			return b.id
		}
	}
	return ""
}
