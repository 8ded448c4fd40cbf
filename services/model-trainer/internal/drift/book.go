// Package drift says whether what models are given in the stream, and the scores they give, still look as in training. Stream-processors count each window once into the bins of the reference that the model's file holds
// (model.comparisons.v1, tocsin.event.v1.ModelInputs); here counts are kept by time, and judged with an allowance for how few independent windows they are worth.
package drift

import (
	"cmp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tocsin-io/tocsin/pkg/modelfile"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
)

// Bounds of what is kept; the oldest goes first.
const (
	slotMS    = 5 * 60_000
	maxSlots  = 8 * 24 * 12 // of a model: eight days, one more than the log holds
	maxModels = 64

	maxBins      = (1 + modelfile.MaxWatched) * (modelfile.MaxCuts + 1)
	maxVariables = 1 + modelfile.MaxWatched
)

// Book holds what was counted. Safe for concurrent use. Memory: for each five minutes of each model some 130 bytes for each watched feature: 4 MB for a week of a model of ten features, 20 MB for the widest.
type Book struct {
	mu     sync.Mutex
	models map[string][]*slot // by name@version; in order of time
	until  time.Time          // newest that was counted
}

// slot is five minutes of one model, of all partitions.
type slot struct {
	number  int64 // of the five minutes
	windows uint64
	format  uint32
	tally   modelfile.Tally
}

// NewBook holds nothing.
func NewBook() *Book { return &Book{models: map[string][]*slot{}} }

// Reset forgets all of it.
func (b *Book) Reset() {
	b.mu.Lock()
	defer b.mu.Unlock()
	clear(b.models)
	b.until = time.Time{}
}

// Count takes a record of model.comparisons.v1. What is too large to be one is passed over.
func (b *Book) Count(m *eventv1.ModelInputs) {
	if m.Windows == 0 || len(m.Bins) > maxBins || len(m.Moved) > maxVariables || len(m.Squares) != len(m.Moved) || m.UntilMs < 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if t := time.UnixMilli(m.UntilMs); t.After(b.until) {
		b.until = t
	}
	slots, known := b.models[m.Model]
	if !known && len(b.models) >= maxModels {
		b.forgetOldest()
	}
	s := &slot{number: m.UntilMs / slotMS}
	i, found := slices.BinarySearchFunc(slots, s.number, func(s *slot, at int64) int { return cmp.Compare(s.number, at) })
	switch {
	case found:
		s = slots[i]
	case len(slots) >= maxSlots && i == 0:
		return // older than all that is kept
	default:
		if len(slots) >= maxSlots {
			slots = slices.Delete(slots, 0, 1)
			i--
		}
		b.models[strings.Clone(m.Model)] = slices.Insert(slots, i, s)
	}
	s.add(m)
}

func (s *slot) add(m *eventv1.ModelInputs) {
	s.windows += m.Windows
	if len(m.Bins) == 0 {
		return
	}
	if s.tally.Bins == nil {
		s.format, s.tally = m.Format, modelfile.Tally{Bins: make([]uint64, len(m.Bins)), Moved: make([]int64, len(m.Moved)), Squares: make([]uint64, len(m.Moved))}
	}
	if s.format != m.Format || len(s.tally.Bins) != len(m.Bins) || len(s.tally.Moved) != len(m.Moved) {
		return // two builds count differently while they are exchanged: the first holds for these minutes
	}
	addTo(s.tally.Bins, m.Bins)
	addTo(s.tally.Moved, m.Moved)
	addTo(s.tally.Squares, m.Squares)
}

func addTo[T uint64 | int64](sum, more []T) {
	for i, n := range more {
		sum[i] += n
	}
}

// forgetOldest gives up the model that was counted last the longest ago.
func (b *Book) forgetOldest() {
	oldest, least := "", int64(0)
	for name, slots := range b.models {
		if last := slots[len(slots)-1].number; oldest == "" || last < least || last == least && name < oldest {
			oldest, least = name, last
		}
	}
	delete(b.models, oldest)
}

// Models are those of which anything was counted in [from, to), in order, as name@version. A name holds for all its versions, a name@version for itself, nothing for all.
func (b *Book) Models(of string, from, to time.Time) []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	var out []string
	for model, slots := range b.models {
		if name, _, _ := strings.Cut(model, "@"); of != "" && of != model && of != name {
			continue
		}
		if first, next := stretch(slots, from, to); first < next {
			out = append(out, model)
		}
	}
	slices.Sort(out)
	return out
}

// Until is up to when anything was counted; zero: nothing was.
func (b *Book) Until() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.until
}

// stretch are the slots that begin in [from, to).
func stretch(slots []*slot, from, to time.Time) (first, next int) {
	begins := func(t time.Time) int {
		i, _ := slices.BinarySearchFunc(slots, t.UnixMilli(), func(s *slot, ms int64) int { return cmp.Compare(s.number*slotMS, ms) })
		return i
	}
	return begins(from), begins(to)
}

const (
	// mostBatches is into how many stretches a time is cut to see how much its counts vary: between 10 and 30, as is usual for batch means (Schmeiser 1982).
	mostBatches  = 20
	leastBatches = 10
	// fewestBatches are those that are left when they are joined, see judge.
	fewestBatches = 5
)

// counted is what was counted of a model in a time.
type counted struct {
	windows  uint64
	from, to time.Time // of the first and the last of it
	// batches are consecutive stretches of that time, of the same length; those without a window are left out.
	batches []batch
}

type batch struct {
	from  time.Time
	tally modelfile.Tally
}

// counted adds up what was counted of a model in [from, to), as far as it follows a reference of that shape.
func (b *Book) counted(model string, from, to time.Time, r *modelfile.Reference) (c counted) {
	b.mu.Lock()
	defer b.mu.Unlock()
	slots := b.models[model]
	first, next := stretch(slots, from, to)
	if slots = slots[first:next]; len(slots) == 0 {
		return c
	}
	start, span := slots[0].number, slots[len(slots)-1].number-slots[0].number+1
	many := min(mostBatches, span)
	c.from, c.to = time.UnixMilli(start*slotMS).UTC(), time.UnixMilli((start+span)*slotMS).UTC()
	last := int64(-1)
	for _, s := range slots {
		c.windows += s.windows
		if r == nil || s.format != uint32(r.Format) || len(s.tally.Bins) != r.Bins() || len(s.tally.Moved) != r.Variables() {
			continue
		}
		if k := (s.number - start) * many / span; k != last || len(c.batches) == 0 {
			last = k
			c.batches = append(c.batches, batch{time.UnixMilli((start + (k*span+many-1)/many) * slotMS).UTC(), r.NewTally()})
		}
		sum := &c.batches[len(c.batches)-1].tally
		addTo(sum.Bins, s.tally.Bins)
		addTo(sum.Moved, s.tally.Moved)
		addTo(sum.Squares, s.tally.Squares)
	}
	return c
}
