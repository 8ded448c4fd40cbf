package topology

import (
	"cmp"
	"slices"

	"github.com/tocsin-io/tocsin/services/stream-processor/internal/cohort"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine"
)

// lend has a machine that is met for the first time begin with what is usual of its sisters in the partition.
//
// What it gets hangs on the states that the sisters have now, at this offset: a pure function of the log while the partition is live, for then every state is that of the
// offset before. In a replay it is not: snapshots are ahead of the records that are replayed. So nothing is lent in a replay, and a loan is saved in the transaction
// that it is made in (saveLent): a machine that has one is never met for the first time in a replay.
//
// Cost: a look at every machine of the partition, once for each new machine.
func (p *partition) lend(e *entry, schema []byte, sensors [][]byte) {
	if !p.in.Judge.Cohort.Lend {
		return
	}
	names := make([]string, len(sensors))
	for i, s := range sensors {
		names[i] = string(s)
	}
	class := cohort.Class(names)
	var list []*entry
	for _, s := range p.machines { // in any order: the list is sorted
		if s != e && s.machine.SensorCount() == len(sensors) && s.machine.Lends() && s.classNow() == class {
			list = append(list, s)
		}
	}
	slices.SortFunc(list, func(a, b *entry) int {
		return cmp.Or(cmp.Compare(cohort.Rank(a.id), cohort.Rank(b.id)), cmp.Compare(a.id, b.id))
	})
	sisters := make([]*machine.Machine, 0, cohort.Most)
	for _, s := range list[:min(len(list), cohort.Most)] {
		sisters = append(sisters, s.machine)
	}
	if e.machine.Borrow(schema, sensors, sisters) {
		p.lent = append(p.lent, e)
	}
}

func (e *entry) classNow() uint64 {
	if n := e.machine.SensorCount(); e.classOf != n {
		e.class, e.classOf = e.machine.Class(), n
	}
	return e.class
}

// saveLent saves the machines that got a loan in this transaction, whatever the budget: their states have some kilobytes.
func (p *partition) saveLent(emit emitter) {
	for _, e := range p.lent {
		if e.firstDirty >= 0 {
			p.saveNow(e, emit)
			p.dirty.remove(e)
		}
	}
	clear(p.lent)
	p.lent = p.lent[:0]
}
