// Package score holds the arithmetic that judges a detector: from labels and verdicts to the figures that papers and leaderboards print.
//
// Every function is pure and takes labels and verdicts as slices of the same length, one entry for each row in time order; a slice that is shorter than
// its partner is the caller's mistake and panics. Costs are linear in rows, or n log n where scores are sorted.
package score

// Confusion counts rows by what they are and what was said of them. The zero value is empty; counts of several files may be added up (micro averaging).
type Confusion struct{ TP, TN, FP, FN int }

// Add counts the rows of one file.
func (c *Confusion) Add(anomalous, flagged []bool) {
	for i, a := range anomalous {
		switch f := flagged[i]; {
		case a && f:
			c.TP++
		case a:
			c.FN++
		case f:
			c.FP++
		default:
			c.TN++
		}
	}
}

// Precision is the share of flagged rows that are anomalous; 0 without flags.
func (c *Confusion) Precision() float64 { return ratio(c.TP, c.TP+c.FP) }

// Recall is the share of anomalous rows that are flagged; 0 without anomalies.
func (c *Confusion) Recall() float64 { return ratio(c.TP, c.TP+c.FN) }

// F1 is the harmonic mean of precision and recall.
func (c *Confusion) F1() float64 { return ratio(2*c.TP, 2*c.TP+c.FP+c.FN) }

// FAR is the false alarm rate: the share of normal rows that are flagged, in [0,1].
func (c *Confusion) FAR() float64 { return ratio(c.FP, c.FP+c.TN) }

// MAR is the missing alarm rate: the share of anomalous rows that are not flagged, in [0,1].
func (c *Confusion) MAR() float64 { return ratio(c.FN, c.FN+c.TP) }

func ratio(a, b int) float64 {
	if b == 0 {
		return 0
	}
	return float64(a) / float64(b)
}

// Interval of rows, both ends within.
type Interval struct{ First, Last int }

// Rows in the interval.
func (v Interval) Rows() int { return v.Last - v.First + 1 }

// Runs are the stretches of true values, in order.
func Runs(mask []bool) []Interval {
	var out []Interval
	for i, m := range mask {
		switch {
		case !m:
		case i > 0 && mask[i-1]:
			out[len(out)-1].Last = i
		default:
			out = append(out, Interval{i, i})
		}
	}
	return out
}
