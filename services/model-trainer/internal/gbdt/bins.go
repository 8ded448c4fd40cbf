package gbdt

import (
	"math"
	"slices"
	"sync"
)

// binned is a table whose values are numbers of bins, and where the bins end.
type binned struct {
	rows  int
	index [][]uint16  // by feature, by row; bin 0 holds what is missing
	cuts  [][]float32 // by feature; a row is in a bin above i when its value is above cuts[i]
}

// bin cuts each feature where about equally many rows lie between two cuts, and never between equal values.
func bin(x Matrix, bins, processors int) *binned {
	if bins == 0 {
		bins = defaultBins
		if x.Rows <= exactRows {
			bins = exactRows
		}
	}
	b := &binned{rows: x.Rows, index: make([][]uint16, len(x.Columns)), cuts: make([][]float32, len(x.Columns))}
	each(len(x.Columns), processors, func(f int) {
		b.cuts[f] = cuts(x.Columns[f], bins)
		b.index[f] = make([]uint16, x.Rows)
		for i, v := range x.Columns[f] {
			b.index[f][i] = binOf(b.cuts[f], v)
		}
	})
	return b
}

// cuts of a column: cut 0 parts the missing from all numbers, the others lie half way between neighbouring values.
func cuts(column []float32, bins int) []float32 {
	sorted := make([]float32, 0, len(column))
	for _, v := range column {
		if v == v {
			sorted = append(sorted, v)
		}
	}
	slices.Sort(sorted)
	out := []float32{float32(math.Inf(-1))}
	if len(sorted) == 0 {
		return out
	}
	distinct := 1
	for i := 1; i < len(sorted); i++ {
		if sorted[i] != sorted[i-1] {
			distinct++
		}
	}
	want := float64(len(sorted)) / float64(bins) // rows of a bin
	if distinct <= bins {
		want = 0
	}
	filled := 0.0
	for i := 1; i < len(sorted); i++ {
		filled++
		if sorted[i] == sorted[i-1] || filled < want || len(out) == bins {
			continue
		}
		out = append(out, between(sorted[i-1], sorted[i]))
		filled = 0
	}
	return out
}

// between is a number at or above low and below high: half way, if there is one.
func between(low, high float32) float32 {
	if m := float32((float64(low) + float64(high)) / 2); m < high {
		return m
	}
	return low
}

// binOf is the number of cuts that lie below v; 0 for what is missing.
func binOf(cuts []float32, v float32) uint16 {
	if v != v {
		return 0
	}
	low, high := 0, len(cuts)
	for low < high {
		m := int(uint(low+high) >> 1)
		if v > cuts[m] {
			low = m + 1
		} else {
			high = m
		}
	}
	return uint16(low)
}

// each calls f with 0..n-1, on that many processors. Which one does what has no part in the result.
func each(n, processors int, f func(int)) {
	if processors <= 1 || n <= 1 {
		for i := range n {
			f(i)
		}
		return
	}
	var wg sync.WaitGroup
	for p := range min(processors, n) {
		wg.Go(func() {
			for i := p; i < n; i += processors {
				f(i)
			}
		})
	}
	wg.Wait()
}
