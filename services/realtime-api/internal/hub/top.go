package hub

import (
	"cmp"
	"slices"
)

// TopSensors gives the n sensors of w with the highest scores, or nil when w has no more than n: a wide machine
// has 25,000 and nobody looks at them all.
func TopSensors(w *Window, n int) map[string]bool {
	if w == nil || len(w.Cells) <= n {
		return nil
	}
	order := make([]int, len(w.Cells))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(w.Cells[b].Score, w.Cells[a].Score) })
	top := make(map[string]bool, n)
	for _, i := range order[:n] {
		top[w.Sensors[i]] = true
	}
	return top
}
