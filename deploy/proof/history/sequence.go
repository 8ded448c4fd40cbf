package history

import (
	"fmt"
	"slices"
	"sort"
	"strings"
)

// mark is a record as far as comparing goes. Equal names mean the same promise, equal content the same bytes.
type mark struct {
	name    string // empty: a tick, or something without a name of its own
	content uint64
	// at is where the record stands; of an expected one, where its cause stands in the input.
	at int64
	// may: the record need not stand there yet.
	may bool
}

type difference struct {
	kind   string
	detail string
}

// compare tells how what stands in a partition differs from what should. Cost: O(n) when nothing does, else O(n log n).
// unordered: only how often each stands there counts.
func compare(want, got []mark, unordered bool) []difference {
	n := 0
	for n < len(want) && n < len(got) && want[n].name == got[n].name && want[n].content == got[n].content {
		n++
	}
	if n == len(got) && (n == len(want) || want[n].may) {
		return nil // what may be missing is a tail
	}
	d := differ{want: want[n:], got: got[n:]}
	d.match()
	d.missing(unordered)
	d.surplus(want[:n])
	if !unordered {
		d.order()
	}
	return d.out
}

// uncompacted are the records that should stand in a topic that keeps the newest of each key: without those that a newer one replaces and that are gone. A name is
// the key, a slash and what tells records of one key apart.
func uncompacted(want, got []mark) []mark {
	there, newer := map[string]bool{}, map[string]bool{}
	for _, m := range got {
		there[m.name] = true
	}
	kept := make([]mark, 0, len(want))
	for _, m := range slices.Backward(want) {
		key := m.name[:max(0, strings.LastIndexByte(m.name, '/'))]
		if newer[key] && !there[m.name] {
			continue
		}
		newer[key] = newer[key] || !m.may || there[m.name]
		kept = append(kept, m)
	}
	slices.Reverse(kept)
	return kept
}

type differ struct {
	want, got []mark
	// pair of want[i] in got and the reverse, or -1.
	there, from []int
	out         []difference
}

func (d *differ) say(kind, format string, args ...any) {
	d.out = append(d.out, difference{kind, fmt.Sprintf(format, args...)})
}

// match pairs the k-th of a name with the k-th of the same name, those of equal content first.
func (d *differ) match() {
	d.there, d.from = make([]int, len(d.want)), make([]int, len(d.got))
	type key struct {
		name    string
		content uint64
	}
	exact := map[key][]int{}
	for j := range d.got {
		d.from[j] = -1
		k := key{d.got[j].name, d.got[j].content}
		exact[k] = append(exact[k], j)
	}
	for i := range d.want {
		d.there[i] = -1
		k := key{d.want[i].name, d.want[i].content}
		if js := exact[k]; len(js) > 0 {
			d.there[i], d.from[js[0]] = js[0], i
			exact[k] = js[1:]
		}
	}
	byName := map[string][]int{}
	for j := range d.got {
		if d.from[j] < 0 {
			byName[d.got[j].name] = append(byName[d.got[j].name], j)
		}
	}
	for i := range d.want {
		if js := byName[d.want[i].name]; d.there[i] < 0 && len(js) > 0 {
			d.there[i], d.from[js[0]] = js[0], i
			byName[d.want[i].name] = js[1:]
			d.say(Wrong, "%s at offset %d has other content than the judgement of offset %d", d.want[i], d.got[js[0]].at, d.want[i].at)
		}
	}
}

// missing: what is before something that stands there must stand there too.
func (d *differ) missing(unordered bool) {
	last := len(d.want)
	if !unordered {
		for last > 0 && d.there[last-1] < 0 {
			last--
		}
	}
	for i := range d.want {
		if d.there[i] < 0 && (!d.want[i].may || !unordered && i < last) {
			d.say(Lost, "%s of offset %d is not there", d.want[i], d.want[i].at)
		}
	}
}

// surplus: what is there without a promise of its own.
func (d *differ) surplus(before []mark) {
	known := map[string]bool{}
	asked := map[string]bool{}
	for j := range d.got {
		if d.from[j] < 0 {
			asked[d.got[j].name] = true
		}
	}
	if len(asked) == 0 {
		return
	}
	for _, list := range [][]mark{before, d.want} {
		for i := range list {
			if asked[list[i].name] {
				known[list[i].name] = true
			}
		}
	}
	for j := range d.got {
		switch {
		case d.from[j] >= 0:
		case known[d.got[j].name]:
			d.say(Duplicated, "%s at offset %d stands there once more", d.got[j], d.got[j].at)
		default:
			d.say(Invented, "%s at offset %d is no judgement of anything", d.got[j], d.got[j].at)
		}
	}
}

// order names the fewest records that would have to move: those outside a longest increasing run of pairs.
func (d *differ) order() {
	var idx, at []int // pairs by got's order: index in want
	for j := range d.got {
		if d.from[j] >= 0 {
			idx, at = append(idx, d.from[j]), append(at, j)
		}
	}
	if slices.IsSorted(idx) {
		return
	}
	tails := []int{} // positions in idx, by length of run
	prev := make([]int, len(idx))
	for k, v := range idx {
		l := sort.Search(len(tails), func(i int) bool { return idx[tails[i]] >= v })
		if prev[k] = -1; l > 0 {
			prev[k] = tails[l-1]
		}
		if l == len(tails) {
			tails = append(tails, k)
		} else {
			tails[l] = k
		}
	}
	inRun := make([]bool, len(idx))
	for k := tails[len(tails)-1]; k >= 0; k = prev[k] {
		inRun[k] = true
	}
	for k := range idx {
		if !inRun[k] {
			d.say(Reordered, "%s at offset %d stands out of order", d.got[at[k]], d.got[at[k]].at)
		}
	}
}

func (m mark) String() string {
	if m.name == "" {
		return "a tick"
	}
	return m.name
}
