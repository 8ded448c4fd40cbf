package topology

import (
	"github.com/twmb/franz-go/pkg/kgo"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/detection"
)

// maxOpenings bounds the openings of one partition that wait for the end of a transaction or a restore.
const maxOpenings = 10_000

// opening is an episode that opened, and where judging it again has to begin.
type opening struct {
	episode, machine string
	partition        int32
	offset, ms       int64 // of the record that opened it
	// from is the first offset whose effect is in no snapshot: the record that opened it, or one before.
	from int64
	// in is the configuration in force before that record. The machine's snapshot may be older; what came into force since has left it as it was, or the machine
	// would be dirty from there on.
	in *detection.Config
	// stateAt and parts say where the snapshot stands; stateAt is -1 when there is none.
	stateAt int64
	parts   int
}

// cases is what a partition notes for the keeper of cases. Nothing that is judged or saved depends on it.
type cases struct {
	opened []opening
	saved  []savedAs // in this transaction: where they stand is known once it is committed
}

type savedAs struct {
	entry *entry
	rec   *kgo.Record // of the snapshot's first part
}

func (c *cases) forget() {
	clear(c.opened)
	clear(c.saved)
	c.opened, c.saved = c.opened[:0], c.saved[:0]
}

// noteOpenings notes the episodes of e that the record at offset has opened.
func (p *partition) noteOpenings(e *entry, offset, ms int64) {
	for _, a := range p.out.Anomalies {
		if a.GetPhase() != eventv1.Phase_PHASE_STARTED {
			continue
		}
		switch {
		case len(p.cases.opened) >= maxOpenings:
			p.count.unkept++
		default:
			p.cases.opened = append(p.cases.opened, opening{
				episode: a.GetEpisodeId(), machine: e.id, partition: p.id, offset: offset, ms: ms,
				from: e.firstDirty, in: p.past.at(e.firstDirty - 1), stateAt: e.stateAt, parts: e.parts,
			})
		}
	}
}

// takeOpenings gives what was noted, once it stands, and learns where the snapshots of the transaction do.
func (p *partition) takeOpenings() []opening {
	for _, s := range p.cases.saved {
		s.entry.stateAt = s.rec.Offset
	}
	out := p.cases.opened
	p.cases.opened = nil
	p.cases.forget()
	return out
}
