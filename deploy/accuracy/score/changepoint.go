package score

import "math"

// ChangePoints scores the moments at which verdicts change against the moments at which the machine did, as the Skoltech benchmark's change-point table
// does: each true change opens a window; its first prediction counts, the more the earlier; predictions outside all windows are false.
// The zero value is empty; files may be added up.
type ChangePoints struct {
	Windows, Missed, False int
	hits                   []float64 // position of each hit in its window, in [0,1]
}

// ChangePointWindow is the benchmark's window, in seconds.
const ChangePointWindow = 60

// Add takes one file: times in seconds, in order; where the machine changed; the rows' flags. The first row's flag and each change of flag are predictions.
func (c *ChangePoints) Add(seconds []float64, changed, flagged []bool) {
	type span struct{ lo, hi float64 }
	var windows []span
	var predicted []float64
	for i, t := range seconds {
		if changed[i] {
			w := span{t, t + ChangePointWindow}
			if k := len(windows); k > 0 && windows[k-1].hi >= w.lo {
				w.lo = windows[k-1].hi // windows that would overlap share only their edge
			}
			windows = append(windows, w)
		}
		if flagged[i] != (i > 0 && flagged[i-1]) {
			predicted = append(predicted, t)
		}
	}
	c.Windows += len(windows)
	hit := make([]bool, len(windows))
	for _, t := range predicted {
		inside := false
		for k, w := range windows {
			if t < w.lo || t > w.hi {
				continue
			}
			inside = true
			if !hit[k] {
				hit[k] = true
				position := 0.0
				if w.hi > w.lo {
					position = (t - w.lo) / (w.hi - w.lo)
				}
				c.hits = append(c.hits, position)
			}
		}
		if !inside {
			c.False++
		}
	}
	for _, h := range hit {
		if !h {
			c.Missed++
		}
	}
}

// Score is the normalised score: 0 for silence, 100 for each change predicted at once and nothing else.
func (c *ChangePoints) Score(p NABProfile) float64 {
	if c.Windows == 0 {
		return 0
	}
	n := float64(c.Windows)
	raw := -p.FalseAlarm*float64(c.False) - p.Missed*float64(c.Missed)
	for _, at := range c.hits {
		raw += changeWorth(at, p)
	}
	return 100 * (raw + n*p.Missed) / (n*p.TruePositive + n*p.Missed)
}

// changeWorth falls from the weight of a hit to that of a false alarm along a hyperbolic tangent, which the benchmark reads from a table of 1000 places.
func changeWorth(position float64, p NABProfile) float64 {
	const places = 1000
	k := min(int(position*places), places-1)
	x := -math.Pi/2 + math.Pi*float64(k)/(places-1)
	half := (p.TruePositive + p.FalseAlarm) / 2
	return -half*math.Tanh(x)/math.Tanh(math.Pi/2) + half - p.FalseAlarm
}
