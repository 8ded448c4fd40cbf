package topology

import (
	"cmp"
	"container/heap"
	"math"
)

// deadlines orders machines by the log time at which a tick next matters to them, then by id, so that ties are
// broken the same way in every run. A tick looks only at machines that are due: O(due log n).
type deadlines []*entry

func (d deadlines) Len() int { return len(d) }
func (d deadlines) Less(i, j int) bool {
	return cmp.Or(cmp.Compare(d[i].deadline, d[j].deadline), cmp.Compare(d[i].id, d[j].id)) < 0
}

func (d deadlines) Swap(i, j int) {
	d[i], d[j] = d[j], d[i]
	d[i].heapAt, d[j].heapAt = i, j
}

func (d *deadlines) Push(x any) {
	e := x.(*entry) //nolint:forcetypeassert // heap.Interface; only entries are pushed
	e.heapAt = len(*d)
	*d = append(*d, e)
}

func (d *deadlines) Pop() any {
	old := *d
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*d = old[:len(old)-1]
	e.heapAt = -1
	return e
}

// set moves e to its machine's present deadline.
func (d *deadlines) set(e *entry) {
	e.deadline = e.machine.NextDeadline()
	switch never := e.deadline == math.MaxInt64; {
	case never && e.heapAt >= 0:
		heap.Remove(d, e.heapAt)
	case never:
	case e.heapAt < 0:
		heap.Push(d, e)
	default:
		heap.Fix(d, e.heapAt)
	}
}
