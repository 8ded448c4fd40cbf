package score

// RootCauses counts how early the true cause stands in the list of suspects. The zero value is empty.
type RootCauses struct {
	ranks   []int // 1-based place of the first accepted sensor; 0: not named
	chances [][]float64
}

// Add takes one event: suspects from the most suspected on (none: the event was missed), the sensors accepted as cause, and how many sensors there are.
// An event without accepted sensors is not counted.
func (r *RootCauses) Add(suspects, accepted []string, sensors int) {
	if len(accepted) == 0 {
		return
	}
	ok := map[string]bool{}
	for _, s := range accepted {
		ok[s] = true
	}
	rank := 0
	for i, s := range suspects {
		if ok[s] {
			rank = i + 1
			break
		}
	}
	r.ranks = append(r.ranks, rank)
	// The chance of k random suspects to hold one that is accepted.
	none, chance := 1.0, make([]float64, 5)
	for k := range chance {
		if left := sensors - k; left > 0 {
			none *= float64(max(0, left-len(ok))) / float64(left)
		}
		chance[k] = 1 - none
	}
	r.chances = append(r.chances, chance)
}

// Events counted.
func (r *RootCauses) Events() int { return len(r.ranks) }

// Ranks of the events in the order they were added: the place of the first accepted sensor, 0 when it was not named.
func (r *RootCauses) Ranks() []int { return r.ranks }

// Top is AC@k: the share of events with an accepted sensor among the first k suspects.
func (r *RootCauses) Top(k int) float64 {
	n := 0
	for _, rank := range r.ranks {
		if rank > 0 && rank <= k {
			n++
		}
	}
	return ratio(n, len(r.ranks))
}

// MRR is the mean reciprocal rank.
func (r *RootCauses) MRR() float64 {
	if len(r.ranks) == 0 {
		return 0
	}
	sum := 0.0
	for _, rank := range r.ranks {
		if rank > 0 {
			sum += 1 / float64(rank)
		}
	}
	return sum / float64(len(r.ranks))
}

// Chance is AC@k of a random order, for k from 1 to 5.
func (r *RootCauses) Chance(k int) float64 {
	if len(r.chances) == 0 {
		return 0
	}
	sum := 0.0
	for _, c := range r.chances {
		sum += c[k-1]
	}
	return sum / float64(len(r.chances))
}
