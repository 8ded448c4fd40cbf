package main

import (
	"math"
	"slices"
)

// median of the values, which it sorts.
func median[T float32 | float64](v []T) float64 {
	if len(v) == 0 {
		return math.NaN()
	}
	slices.Sort(v)
	return (float64(v[(len(v)-1)/2]) + float64(v[len(v)/2])) / 2
}

// quantile of sorted values, by the nearest rank.
func quantile(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return math.NaN()
	}
	return sorted[min(len(sorted)-1, int(q*float64(len(sorted))))]
}

// poissonBounds is the exact two-sided 95 % confidence interval of the mean of a Poisson count (Garwood 1936, "Fiducial limits for the Poisson
// distribution").
func poissonBounds(count int) (low, high float64) {
	const tail = 0.025
	atMost := func(k int, mean float64) float64 { // P(X <= k)
		sum, term := 0.0, math.Exp(-mean)
		if term == 0 { // normal approximation, far from any count that is printed
			return 0.5 * math.Erfc((mean-float64(k)-0.5)/math.Sqrt(2*mean))
		}
		for i := 0; i <= k; i++ {
			sum += term
			term *= mean / float64(i+1)
		}
		return sum
	}
	solve := func(f func(mean float64) bool) float64 { // f falls from true to false
		lo, hi := 0.0, 10*float64(count)+20
		for range 100 {
			if mid := (lo + hi) / 2; f(mid) {
				lo = mid
			} else {
				hi = mid
			}
		}
		return lo
	}
	if count > 0 {
		low = solve(func(m float64) bool { return 1-atMost(count-1, m) < tail })
	}
	return low, solve(func(m float64) bool { return atMost(count, m) > tail })
}
