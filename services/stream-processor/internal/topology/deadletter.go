package topology

import (
	"errors"
	"fmt"
	"math"
	"sort"
)

// errDiverged says that a replay cannot repeat a judgement that stands.
var errDiverged = errors.New("was judged before and cannot be judged now")

// offsets is a set of offsets as runs, ascending, neither overlapping nor touching. Dead letters come in runs (a sender gone wrong) or are rare.
type offsets []run

// run is the offsets in [from, to).
type run struct{ from, to int64 }

// add takes an offset above all that are in.
func (o *offsets) add(offset int64) {
	if n := len(*o); n > 0 && (*o)[n-1].to == offset {
		(*o)[n-1].to++
		return
	}
	*o = append(*o, run{offset, offset + 1})
}

func (o offsets) has(offset int64) bool {
	i := sort.Search(len(o), func(i int) bool { return o[i].to > offset })
	return i < len(o) && o[i].from <= offset
}

// dropBefore forgets what lies below offset.
func (o *offsets) dropBefore(offset int64) {
	i := sort.Search(len(*o), func(i int) bool { return (*o)[i].to > offset })
	*o = append((*o)[:0], (*o)[i:]...)
	if len(*o) > 0 {
		(*o)[0].from = max((*o)[0].from, offset)
	}
}

// encode is the set as distances: to each run from the end of the one before, and its length.
func (o offsets) encode(from int64) []uint64 {
	out := make([]uint64, 0, 2*len(o))
	for _, r := range o {
		out = append(out, uint64(r.from-from), uint64(r.to-r.from))
		from = r.to
	}
	return out
}

// decodeOffsets reads what encode wrote for offsets in [from, to), trusting nothing.
func decodeOffsets(in []uint64, from, to int64) (offsets, error) {
	if len(in)%2 != 0 {
		return nil, fmt.Errorf("dead letters: %d numbers are no pairs", len(in))
	}
	var out offsets
	for i := 0; i < len(in); i += 2 {
		skip, n := in[i], in[i+1]
		if skip > math.MaxInt64/4 || n > math.MaxInt64/4 || n == 0 || int64(skip)+int64(n) > to-from || i > 0 && skip == 0 {
			return nil, fmt.Errorf("dead letters: a run of %d after %d offsets does not fit before %d", n, skip, to)
		}
		r := run{from: from + int64(skip), to: from + int64(skip) + int64(n)}
		out, from = append(out, r), r.to
	}
	return out, nil
}
