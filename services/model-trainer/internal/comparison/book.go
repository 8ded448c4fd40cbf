// Package comparison says how a shadow model did beside the champion in the stream, and whether it should take its place. What it knows it reads from the log: what stream-processors counted
// (model.comparisons.v1) and what people found alerts to be (alert.events.v1). Nothing is kept elsewhere, so any instance that has read both says the same.
package comparison

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"time"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
)

// Bounds of what is kept; the oldest goes first.
const (
	maxPairs    = 256
	maxMoments  = 12_000 // minutes of a pair: eight days, one more than the log holds
	maxStretch  = 50_000 // stretches of pages of a pair
	maxVerdicts = 50_000
)

// pageGap is the least time between two pages of one model on one machine: what lies closer together is one page.
const pageGap = 10 * time.Minute

// Took is how long a champion and a shadow took to score one window; 0: unknown.
type Took struct{ Champion, Shadow time.Duration }

// Book holds what was read. Safe for concurrent use. Memory: some 100 bytes for each minute of each pair of models, 150 for each machine that one of them would have paged in it.
type Book struct {
	mu       sync.Mutex
	pairs    map[pair]*record
	verdicts map[string]*verdict // by alert
	until    time.Time           // newest that was counted
}

type pair struct{ champion, shadow string }

type record struct {
	moments   []moment // by time
	stretches []stretch
	took      Took
}

// moment is the counts of one minute.
type moment struct {
	minute                          int64
	neither, both, champion, shadow uint64
	machineUS                       float64
	omitted                         uint64
}

// stretch is what one minute's record says of one machine.
type stretch struct {
	minute  int64
	machine string
	by      [2]span // champion, shadow
}

// span is windows beyond the level that pages; zero: none.
type span struct {
	first, last int64 // microseconds, event time
	peak        float64
}

// verdict is what people said of an alert.
type verdict struct {
	machine        string
	cause          string
	started, ended int64 // microseconds; ended 0: open
	is             eventv1.AlertVerdict
	heard          int64 // order in which they came
}

// NewBook holds nothing.
func NewBook() *Book { return &Book{pairs: map[pair]*record{}, verdicts: map[string]*verdict{}} }

// Reset forgets all of it.
func (b *Book) Reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.pairs)
	clear(b.verdicts)
	b.until = time.Time{}
}

const minuteMS = 60_000

// Count takes a record of model.comparisons.v1.
func (b *Book) Count(m *eventv1.ModelComparison, took Took) {
	b.mu.Lock()
	defer b.mu.Unlock()
	k := pair{strings.Clone(m.Champion), strings.Clone(m.Shadow)}
	r := b.pairs[k]
	if r == nil {
		if len(b.pairs) >= maxPairs {
			b.forgetOldest()
		}
		r = &record{}
		b.pairs[k] = r
	}
	if took != (Took{}) {
		r.took = took
	}
	at := m.UntilMs / minuteMS
	b.until = maxTime(b.until, time.UnixMilli(m.UntilMs))
	i, found := slices.BinarySearchFunc(r.moments, at, func(m moment, at int64) int { return cmp.Compare(m.minute, at) })
	if !found {
		if len(r.moments) >= maxMoments {
			if i == 0 {
				return // older than all that is kept
			}
			r.moments = slices.Delete(r.moments, 0, 1)
			i--
		}
		r.moments = slices.Insert(r.moments, i, moment{minute: at})
	}
	n := &r.moments[i]
	n.neither += m.Neither
	n.both += m.Both
	n.champion += m.ChampionOnly
	n.shadow += m.ShadowOnly
	n.machineUS += m.MachineUs
	n.omitted += uint64(m.PagesOmitted)
	for _, p := range m.Pages {
		if len(r.stretches) >= maxStretch {
			r.stretches = slices.Delete(r.stretches, 0, maxStretch/10)
		}
		r.stretches = append(r.stretches, stretch{minute: at, machine: p.EquipmentId, by: [2]span{
			{p.ChampionFirstUs, p.ChampionLastUs, p.ChampionSurprise}, {p.ShadowFirstUs, p.ShadowLastUs, p.ShadowSurprise},
		}})
	}
}

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// forgetOldest gives up the pair that was counted last the longest ago.
func (b *Book) forgetOldest() {
	var oldest pair
	least := int64(0)
	for k, r := range b.pairs {
		last := int64(0)
		if n := len(r.moments); n > 0 {
			last = r.moments[n-1].minute
		}
		if oldest == (pair{}) || last < least {
			oldest, least = k, last
		}
	}
	delete(b.pairs, oldest)
}

// Hear takes a record of alert.events.v1. Only verdicts count, and when the alerts that they are about end.
func (b *Book) Hear(e *eventv1.AlertEvent) {
	if e.Transition != eventv1.AlertTransition_ALERT_TRANSITION_VERDICT && e.Transition != eventv1.AlertTransition_ALERT_TRANSITION_CLOSED {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	v := b.verdicts[e.AlertId]
	if e.Transition == eventv1.AlertTransition_ALERT_TRANSITION_CLOSED {
		if v != nil {
			v.ended = e.EndedUs
		}
		return
	}
	if v == nil {
		if len(b.verdicts) >= maxVerdicts {
			b.forgetVerdicts()
		}
		v = &verdict{heard: e.AtMs}
		b.verdicts[e.AlertId] = v
	}
	v.machine, v.cause, v.started, v.is = e.EquipmentId, e.Cause, e.StartedUs, e.Verdict
	if e.EndedUs != 0 {
		v.ended = e.EndedUs
	}
}

// forgetVerdicts gives up the oldest tenth.
func (b *Book) forgetVerdicts() {
	ids := make([]string, 0, len(b.verdicts))
	for id := range b.verdicts {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(x, y string) int { return cmp.Compare(b.verdicts[x].started, b.verdicts[y].started) })
	for _, id := range ids[:maxVerdicts/10] {
		delete(b.verdicts, id)
	}
}
