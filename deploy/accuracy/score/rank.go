package score

import (
	"cmp"
	"math"
	"slices"
)

// Ranking says how well scores order rows, whatever the threshold.
type Ranking struct {
	AUC    float64 // area under the ROC curve: the chance that an anomalous row outranks a normal one, ties counting half
	AP     float64 // average precision, step form
	BestF1 float64 // over all thresholds: an upper bound, no result
}

// Rank judges scores; ok is false unless there are both anomalous and normal rows.
func Rank(anomalous []bool, scores []float64) (r Ranking, ok bool) {
	order := descending(scores)
	pos, neg := 0, 0
	for _, a := range anomalous {
		if a {
			pos++
		} else {
			neg++
		}
	}
	if pos == 0 || neg == 0 {
		return r, false
	}
	tp, fp := 0, 0
	for i := 0; i < len(order); {
		p, n := 0, 0
		for at := scores[order[i]]; i < len(order) && scores[order[i]] == at; i++ {
			if anomalous[order[i]] {
				p++
			} else {
				n++
			}
		}
		r.AUC += float64(n) * (float64(tp) + float64(p)/2)
		tp, fp = tp+p, fp+n
		r.AP += float64(p) / float64(pos) * ratio(tp, tp+fp)
		r.BestF1 = max(r.BestF1, ratio(2*tp, tp+fp+pos))
	}
	r.AUC /= float64(pos) * float64(neg)
	return r, true
}

// descending gives the rows' indices from the highest score to the lowest.
func descending(scores []float64) []int {
	order := make([]int, len(scores))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(scores[b], scores[a]) })
	return order
}

// ThresholdAt is the threshold t with the most detections at which no more than the share far of the normal scores is >= t: just above the highest score that
// too many rows reach. With it, detectors are compared at equal false alarms. Without normal scores it is +Inf.
func ThresholdAt(normal []float64, far float64) float64 {
	order := descending(normal)
	allowed := int(far * float64(len(normal)))
	lowest := math.Inf(1)
	for i := 0; i < len(order); {
		at := normal[order[i]]
		for i < len(order) && normal[order[i]] == at {
			i++
		}
		if i > allowed {
			return math.Nextafter(at, math.Inf(1))
		}
		lowest = at
	}
	return lowest
}

// Top flags the share of rows with the highest scores. Ties at the edge are flagged all or none, whichever comes closer to the share.
func Top(scores []float64, share float64) []bool {
	order := descending(scores)
	want := int(math.Round(share * float64(len(scores))))
	flagged := make([]bool, len(scores))
	for i := 0; i < want; {
		j := i
		for j < len(order) && scores[order[j]] == scores[order[i]] {
			j++
		}
		if j-want > want-i {
			break
		}
		for ; i < j; i++ {
			flagged[order[i]] = true
		}
	}
	return flagged
}

// AtLeast flags scores of at least the threshold.
func AtLeast(scores []float64, threshold float64) []bool {
	out := make([]bool, len(scores))
	for i, s := range scores {
		out[i] = s >= threshold
	}
	return out
}
