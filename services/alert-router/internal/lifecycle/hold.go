package lifecycle

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
)

// Who is told of an alert is told at once, or not yet. These rules hold an alert back, "suppressed by design": it stands in the journal and in every list, and people are told
// when the rule has passed and it still stands.
//
//   - Incident: machines that fell silent with their gateway are one. The first alert is its lead and is told; the others are held until it is over. The
//     lead's end waits for theirs (Deferred).
//     The same of a group (a line, a site) where that is asked for: alerts of one cause that open within a time of the first, and are no graver.
//   - Cooldown, rate and chatter: of one machine and cause, so that no other machine is muted. A higher severity passes.
//   - Flood: of a group of machines (line, site), and of the fleet: beyond so many pages in so long further alerts wait. The page that takes the last place says so.
//
// No rule ends an alert, and none touches one that people have been told of.

// Limit is so many in so long. None is no limit.
type Limit struct {
	Count int
	Per   time.Duration
}

// Group is machines with a limit of their own.
type Group struct {
	Name string
	// Equipment are exact ids, or prefixes followed by *.
	Equipment []string
	Pages     Limit
	// Incident: alerts of one cause that open within this of the first are told as one. 0: each by itself.
	Incident time.Duration
}

func (g Group) has(equipmentID string) bool {
	return slices.ContainsFunc(g.Equipment, func(p string) bool {
		if prefix, ok := strings.CutSuffix(p, "*"); ok {
			return strings.HasPrefix(equipmentID, prefix)
		}
		return p == equipmentID
	})
}

// Holds are the rules in force. The zero value holds nothing back.
type Holds struct {
	// Gateways joins alerts of machines that fell silent with their gateway.
	Gateways bool
	// Grace is how long after the end of its lead an incident goes on under no lead: the others are coming back.
	Grace time.Duration
	// Cooldown is how long after a page another alert of the same machine and cause waits.
	Cooldown time.Duration
	// Rate bounds the pages of one machine and cause.
	Rate Limit
	// Chatter is how many alerts of one machine and cause are too many to be told of one by one.
	Chatter Limit
	// Flood bounds the pages of the fleet, each Group those of some machines.
	Flood  Limit
	Groups []Group
}

// Order of alerts that reach an instance of different partitions in different order: how much earlier one may have been opened to be the lead after all.
const leadSlackMS = 10_000

// maxTimes bounds the times remembered of one alarm; a Limit counts no further.
const maxTimes = 64

// jointKey is what an incident's alerts share.
type jointKey struct{ cause, gateway, group string }

// joint is an incident that stands.
type joint struct {
	lead     string
	leadMS   int64 // when the lead opened
	closedMS int64 // when the lead ended; 0: it stands
	members  map[string]bool
}

// holding is what the rules remember. Memory: incidents that stand, times of the alarms that came lately, pages of the longest limit.
type holding struct {
	rules    Holds
	joints   map[jointKey]*joint
	leads    map[string]jointKey // by the id of the alert that leads
	alarms   map[Key]*past
	fleet    times                     // of the pages of the fleet
	groups   []times                   // and of each group's
	held     map[int32]map[string]bool // by partition
	checked  map[int32]int64           // when the held alerts of a partition were last looked at
	sweepMS  int64
	longestM int64
}

// past is what came of an alarm lately, the newest last.
type past struct {
	opened []int64
	paged  []page
}

type page struct {
	ms       int64
	severity eventv1.Severity
}

func newHolding(h Holds) *holding {
	longest := h.Cooldown
	for _, l := range []Limit{h.Rate, h.Chatter, h.Flood} {
		longest = max(longest, l.Per)
	}
	for _, g := range h.Groups {
		longest = max(longest, g.Pages.Per)
	}
	return &holding{
		rules: h, joints: map[jointKey]*joint{}, leads: map[string]jointKey{}, alarms: map[Key]*past{}, held: map[int32]map[string]bool{}, checked: map[int32]int64{},
		groups: make([]times, len(h.Groups)), longestM: longest.Milliseconds(),
	}
}

func last[T any](list []T, v T) []T {
	return append(list[max(0, len(list)-maxTimes+1):], v)
}

// come decides on an alert that has just opened; people have acknowledged it (inherited) or not.
func (l *Ledger) come(a *Alert) {
	h := l.holds
	h.came(a)
	if a.Ack != nil {
		return
	}
	if k, ok := h.incident(a); ok && l.joins(k, a) {
		l.join(k, a)
		if a.Ack != nil {
			return
		}
		if a.Lead != a.ID {
			h.hold(a, "part of "+a.Lead)
			return
		}
	} else if why := l.limited(a, a.OpenedMS, true); why != "" {
		h.hold(a, why)
		return
	}
	l.page(a, a.OpenedMS)
}

// graver decides on an alert whose severity has risen.
func (l *Ledger) graver(a *Alert, nowMS int64) {
	h := l.holds
	switch {
	case a.Lead != "" && a.Lead != a.ID && !l.outgrows(a):
		if a.Held == "" {
			if j := h.joint(a); j != nil {
				a.Lead = j.lead
			}
			h.hold(a, "part of "+a.Lead)
		}
		return // its lead says so too
	case a.Lead == "":
		if why := l.limited(a, nowMS, false); why != "" {
			h.hold(a, why)
			return
		}
	}
	h.release(a)
	l.page(a, nowMS)
}

func (h *holding) hold(a *Alert, why string) {
	a.Held = why
	of := h.held[a.Partition]
	if of == nil {
		of = map[string]bool{}
		h.held[a.Partition] = of
	}
	of[a.ID] = true
}

func (h *holding) release(a *Alert) {
	a.Held = ""
	delete(h.held[a.Partition], a.ID)
}

// of is what came of an alarm lately.
func (h *holding) of(k Key) *past {
	p := h.alarms[k]
	if p == nil {
		p = &past{}
		h.alarms[k] = p
	}
	return p
}

// came notes that an alert has opened.
func (h *holding) came(a *Alert) {
	p := h.of(a.Key)
	p.opened = last(p.opened, a.OpenedMS)
}

// page counts an alert that people are told of.
func (l *Ledger) page(a *Alert, nowMS int64) {
	h := l.holds
	h.count(a, nowMS)
	if r := h.rules.Flood; r.Count > 0 && h.fleet.within(nowMS, r) == r.Count {
		a.Note = fmt.Sprintf("alarm flood: %d pages within %s; what comes now is listed and waits", r.Count, r.Per)
	}
	for i, g := range h.rules.Groups {
		if g.Pages.Count > 0 && g.has(a.Key.EquipmentID) && h.groups[i].within(nowMS, g.Pages) == g.Pages.Count {
			a.Note = fmt.Sprintf("alarm flood in %s: %d pages within %s; what comes now is listed and waits", g.Name, g.Pages.Count, g.Pages.Per)
		}
	}
}

// count takes a page into the account of its alarm and of the floods.
func (h *holding) count(a *Alert, ms int64) {
	p := h.of(a.Key)
	p.paged = last(p.paged, page{ms, a.Severity})
	if h.rules.Flood.Count > 0 {
		h.fleet.add(ms)
	}
	for i, g := range h.rules.Groups {
		if g.Pages.Count > 0 && g.has(a.Key.EquipmentID) {
			h.groups[i].add(ms)
		}
	}
}

// times of pages, ascending. A limit is asked for each alert that comes, and may allow a hundred thousand: counting is a search, not a walk.
type times []int64

// add costs nothing worth naming while times come in order, or nearly: each partition's do.
func (t *times) add(ms int64) {
	at := len(*t)
	for at > 0 && (*t)[at-1] > ms {
		at--
	}
	*t = slices.Insert(*t, at, ms)
}

// within counts those that lie in the limit's time.
func (t times) within(nowMS int64, r Limit) int { return len(t) - t.upTo(nowMS-r.Per.Milliseconds()) }

// upTo counts those up to a time.
func (t times) upTo(ms int64) int {
	n, _ := slices.BinarySearch(t, ms+1)
	return n
}

// forget drops those up to a time.
func (t *times) forget(ms int64) { *t = slices.Delete(*t, 0, t.upTo(ms)) }

// limited says which limit keeps people from being told of an alert now; "" when none does.
func (l *Ledger) limited(a *Alert, nowMS int64, alarm bool) string {
	h := l.holds
	if alarm {
		if why := h.alarm(a, nowMS); why != "" {
			return why
		}
	}
	for i, g := range h.rules.Groups {
		if g.Pages.Count > 0 && g.has(a.Key.EquipmentID) && h.groups[i].within(nowMS, g.Pages) >= room(a, g.Pages) {
			return "alarm flood in " + g.Name
		}
	}
	if r := h.rules.Flood; r.Count > 0 && h.fleet.within(nowMS, r) >= room(a, r) {
		return "alarm flood"
	}
	return ""
}

// room is how many pages a flood's limit has for an alert: a critical one finds as many places again.
func room(a *Alert, r Limit) int {
	if a.Severity >= eventv1.Severity_SEVERITY_CRITICAL {
		return 2 * r.Count
	}
	return r.Count
}

// alarm looks at the limits of one machine and cause. A graver alert than was told of passes them.
func (h *holding) alarm(a *Alert, nowMS int64) string {
	paged := h.of(a.Key).paged
	n, graver := 0, true
	for _, p := range paged {
		if p.ms > nowMS-h.longestM && p.severity >= a.Severity {
			graver = false
		}
		if p.ms > nowMS-h.rules.Rate.Per.Milliseconds() {
			n++
		}
	}
	if graver {
		return ""
	}
	if r := h.rules.Chatter; r.Count > 0 {
		came := 0
		for _, ms := range h.of(a.Key).opened {
			if ms > nowMS-r.Per.Milliseconds() {
				came++
			}
		}
		if came >= r.Count {
			return fmt.Sprintf("chattering: came %d times within %s", came, r.Per)
		}
	}
	if p := paged[len(paged)-1]; nowMS-p.ms < h.rules.Cooldown.Milliseconds() {
		return fmt.Sprintf("cooldown: %s after the last page", h.rules.Cooldown)
	}
	if r := h.rules.Rate; r.Count > 0 && n >= r.Count {
		return fmt.Sprintf("rate limit: %d pages within %s", r.Count, r.Per)
	}
	return ""
}

// incident is the one that an alert may belong to: its machine fell silent with others, or is one of a group that is told of as one.
func (h *holding) incident(a *Alert) (jointKey, bool) {
	if h.rules.Gateways && a.GatewayID != "" && a.Event.GetOrigin() == eventv1.Origin_ORIGIN_GATEWAY {
		return jointKey{cause: a.Key.Cause, gateway: a.GatewayID}, true
	}
	for _, g := range h.rules.Groups {
		if g.Incident > 0 && g.has(a.Key.EquipmentID) {
			return jointKey{cause: a.Key.Cause, group: g.Name}, true
		}
	}
	return jointKey{}, false
}

// joint is the incident that stands and that an alert is, or could be, part of; nil: there is none.
func (h *holding) joint(a *Alert) *joint {
	k, ok := h.incident(a)
	if !ok {
		return nil
	}
	return h.joints[k]
}

// joins tells whether an alert that has just opened is part of the incident. Of a gateway all are. Of a group those that came soon after the first and are no graver; the first
// is told of under the limits of every alert.
func (l *Ledger) joins(k jointKey, a *Alert) bool {
	if k.group == "" {
		return true
	}
	j := l.holds.joints[k]
	if j == nil {
		return l.limited(a, a.OpenedMS, true) == ""
	}
	within := time.Duration(0)
	for _, g := range l.holds.rules.Groups {
		if g.Name == k.group {
			within = g.Incident
		}
	}
	lead, ok := l.alerts[j.lead]
	return ok && a.OpenedMS-j.leadMS <= within.Milliseconds() && a.Severity <= lead.Severity
}

// outgrows tells whether an alert has become graver than the lead of its group's incident: then people are told of it as well.
func (l *Ledger) outgrows(a *Alert) bool {
	k, ok := l.holds.incident(a)
	if !ok || k.group == "" {
		return false
	}
	j := l.holds.joints[k]
	if j == nil {
		return true
	}
	lead, ok := l.alerts[j.lead]
	return !ok || a.Severity > lead.Severity
}

// join makes an alert part of an incident, or its lead.
func (l *Ledger) join(k jointKey, a *Alert) {
	h := l.holds
	j := h.joints[k]
	if j == nil {
		j = &joint{members: map[string]bool{a.ID: true}}
		h.joints[k] = j
		h.lead(k, j, a)
		a.Lead = a.ID
		return
	}
	j.members[a.ID] = true
	a.Lead = j.lead
	if lead, ok := l.alerts[j.lead]; ok && lead.Open() && lead.Ack != nil && a.Severity <= lead.Severity {
		ack := *lead.Ack
		a.Ack, a.AckedBefore = &ack, true
		return
	}
	// Instances read partitions in different order. The alert that opened first leads on all of them; that it comes second here is a matter of moments.
	earlier := cmp.Or(cmp.Compare(a.OpenedMS, j.leadMS), strings.Compare(a.ID, j.lead)) < 0
	if was, ok := l.alerts[j.lead]; earlier && ok && was.Open() && a.OpenedMS >= j.leadMS-leadSlackMS && was.Partition != a.Partition {
		h.lead(k, j, a)
		a.Lead = a.ID
		b := change(was)
		b.Lead = a.ID
		h.hold(b, "part of "+a.ID)
		l.settle(b)
		l.row(b, b.ID+"/suppressed/"+a.ID, "suppressed", a.OpenedMS, func(r *Row) { r.Comment = b.Held })
	}
}

// share acknowledges with the lead of an incident all that is part of it.
func (l *Ledger) share(lead *Alert, atMS int64) {
	j := l.holds.joint(lead)
	if j == nil || j.lead != lead.ID {
		return
	}
	for _, id := range slices.Sorted(maps.Keys(j.members)) {
		a, ok := l.alerts[id]
		if !ok || a.Ack != nil || a.ID == lead.ID || a.Severity > lead.Severity {
			continue
		}
		b, ack := change(a), *lead.Ack
		l.holds.release(b)
		b.Ack, b.AckedBefore, b.Offset = &ack, true, max(a.Offset, lead.Offset)
		if b.Partition != lead.Partition {
			b.Offset = a.Offset
		}
		l.settle(b)
		l.row(b, b.ID+"/acknowledged/"+ack.ID, "acknowledged", atMS, func(r *Row) { r.Actor, r.Comment = ack.By, "with "+lead.ID })
	}
}

// leave takes an alert that has ended out of its incident. The incident is over when nobody is left.
func (l *Ledger) leave(a *Alert) {
	h := l.holds
	delete(h.held[a.Partition], a.ID)
	k, _ := h.incident(a)
	j := h.joints[k]
	if j == nil || !j.members[a.ID] {
		return
	}
	delete(j.members, a.ID)
	if a.ID == j.lead {
		j.closedMS = a.ClosedMS
	}
	if len(j.members) == 0 {
		delete(h.joints, k)
		delete(h.leads, j.lead)
	}
}

// lead puts an alert at the head of an incident.
func (h *holding) lead(k jointKey, j *joint, a *Alert) {
	delete(h.leads, j.lead)
	j.lead, j.leadMS = a.ID, a.OpenedMS
	h.leads[a.ID] = k
}

// Deferred tells whether the end of an alert waits: it leads an incident of which others still stand.
func (l *Ledger) Deferred(alertID string) bool {
	n, _ := l.Leads(alertID)
	return n > 0
}

// Leads counts the machines of the incident that an alert leads, 0 when it leads none; and names the group whose incident it is, "" when it is a gateway's.
func (l *Ledger) Leads(alertID string) (members int, group string) {
	k, ok := l.holds.leads[alertID]
	if !ok {
		return 0, ""
	}
	return len(l.holds.joints[k].members), k.group
}

// review lets go what no rule holds any more, once a second of the partition's time.
func (l *Ledger) review(at At) {
	h := l.holds
	if len(h.held[at.Partition]) == 0 || at.MS-h.checked[at.Partition] < 1000 {
		return
	}
	h.checked[at.Partition] = at.MS
	var list []*Alert
	for id := range h.held[at.Partition] {
		if a, ok := l.alerts[id]; ok && a.Open() {
			list = append(list, a)
		} else {
			delete(h.held[at.Partition], id)
		}
	}
	// The gravest first, then the one that waits longest.
	slices.SortFunc(list, func(a, b *Alert) int {
		return cmp.Or(-cmp.Compare(a.Severity, b.Severity), cmp.Compare(a.OpenedMS, b.OpenedMS), strings.Compare(a.ID, b.ID))
	})
	for _, a := range list {
		if a.Lead != "" && a.Lead != a.ID {
			l.succeed(at, a)
			continue
		}
		if why := l.limited(a, at.MS, true); why == "" {
			l.letGo(at, change(a))
		}
	}
}

// succeed makes a member the lead of an incident whose lead has ended and whose others have not come back within the grace.
func (l *Ledger) succeed(at At, a *Alert) {
	j := l.holds.joint(a)
	if j != nil && (j.closedMS == 0 || at.MS-j.closedMS < l.holds.rules.Grace.Milliseconds()) {
		return
	}
	b := change(a)
	b.Lead = a.ID
	if j != nil {
		k, _ := l.holds.incident(a)
		l.holds.lead(k, j, a)
		j.closedMS = 0
	}
	l.letGo(at, b)
}

// letGo has people told of an alert that was held.
func (l *Ledger) letGo(at At, a *Alert) {
	why := a.Held
	l.holds.release(a)
	a.Offset = at.Offset
	l.page(a, at.MS)
	l.settle(a)
	l.row(a, fmt.Sprintf("%s/released/%d", a.ID, at.Offset), "released", at.MS, func(r *Row) { r.Comment = "no longer: " + why })
}

// sweep forgets times that count no more, once a minute.
func (h *holding) sweep(nowMS int64) {
	if nowMS-h.sweepMS < 60_000 {
		return
	}
	h.sweepMS = nowMS
	from := nowMS - h.longestM
	maps.DeleteFunc(h.alarms, func(_ Key, p *past) bool {
		if n := len(p.opened); n > 0 && p.opened[n-1] <= from {
			p.opened = nil
		}
		if n := len(p.paged); n > 0 && p.paged[n-1].ms <= from {
			p.paged = nil
		}
		return len(p.opened)+len(p.paged) == 0
	})
	h.fleet.forget(from)
	for i := range h.groups {
		h.groups[i].forget(from)
	}
}

// recall rebuilds what the rules remember from the alerts that a journal has.
func (l *Ledger) recall(a *Alert) {
	h := l.holds
	h.came(a)
	switch {
	case a.Held != "" && a.Open():
		h.hold(a, a.Held)
	case a.Held == "" && !a.AckedBefore:
		h.count(a, a.OpenedMS)
	}
	if k, ok := h.incident(a); ok && a.Open() && a.Lead != "" {
		j := h.joints[k]
		if j == nil {
			j = &joint{lead: a.Lead, leadMS: a.OpenedMS, members: map[string]bool{}}
			h.joints[k], h.leads[a.Lead] = j, k
		}
		j.members[a.ID] = true
		if a.Lead == a.ID {
			h.lead(k, j, a)
		}
		if lead, ok := l.alerts[j.lead]; ok {
			j.leadMS, j.closedMS = lead.OpenedMS, lead.ClosedMS
		}
	}
}
