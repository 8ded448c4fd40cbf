package score

import (
	"math"
)

// NABProfile weighs what the Numenta benchmark counts. The weight of a true negative is not used by its scoring function.
type NABProfile struct {
	Name                             string
	TruePositive, Missed, FalseAlarm float64
}

// NABProfiles are the benchmark's three application profiles, the standard one first.
func NABProfiles() []NABProfile {
	return []NABProfile{
		{"standard", 1, 1, 0.11},
		{"low FP", 1, 1, 0.22},
		{"low FN", 1, 2, 0.11},
	}
}

// NAB collects files for the scoring function of the Numenta Anomaly Benchmark (Lavin, Ahmad: Evaluating Real-time Anomaly Detection Algorithms,
// ICMLA 2015; version 1.1). Not safe for concurrent use; memory is 20 bytes a row.
type NAB struct {
	windows int // of all files, those wholly in probation too
	files   []nabFile
}

type nabFile struct {
	scores []float64
	window []int32   // corpus-wide number of the row's window, -1 outside
	worth  []float64 // of a detection at this row, at weight 1
}

// NABProbation is the number of rows at a file's begin that are neither right nor wrong: 15 %, at most 750.
func NABProbation(rows int) int { return int(min(math.Floor(0.15*float64(rows)), 0.15*5000)) }

// nabSigmoid is the benchmark's scaled sigmoid of a relative position: near 1 at a window's left edge (-1), 0 at its right edge, -1 far behind it.
func nabSigmoid(y float64) float64 {
	if y > 3 {
		return -1
	}
	return 2/(1+math.Exp(5*y)) - 1
}

// Add takes one file: a score in [0,1] for each row and its windows in order of time, not overlapping.
func (n *NAB) Add(scores []float64, windows []Interval) {
	f := nabFile{scores: scores, window: make([]int32, len(scores)), worth: make([]float64, len(scores))}
	for i := range scores {
		f.window[i], f.worth[i] = -1, -1
	}
	for k, w := range windows {
		rows := float64(w.Rows())
		for i := w.First; i <= w.Last; i++ {
			f.window[i] = int32(n.windows + k)
			f.worth[i] = nabSigmoid(-float64(w.Last-i+1)/rows) / nabSigmoid(-1)
		}
		// A false alarm costs the less the closer it follows a window; before the first window, all of the weight.
		end := len(scores)
		if k+1 < len(windows) {
			end = windows[k+1].First
		}
		for i := w.Last + 1; i < end && w.Rows() > 1; i++ {
			f.worth[i] = nabSigmoid(float64(i-w.Last) / (rows - 1))
		}
	}
	n.windows += len(windows)
	p := NABProbation(len(scores))
	f.scores, f.window, f.worth = f.scores[p:], f.window[p:], f.worth[p:]
	n.files = append(n.files, f)
}

// NABResult is what one threshold for all files gives.
type NABResult struct {
	Score     float64 // 0: never fires, 100: each window at its first row and nothing else
	Threshold float64 // a detection is a score >= this
	Raw       float64
	Hit       int // windows
	FalseRows int
}

// Never is a threshold that no score in [0,1] reaches.
const Never = 1.1

// Optimize finds the one threshold that maximises the profile's raw score over all files, as the benchmark does for every detector.
func (n *NAB) Optimize(p NABProfile) NABResult {
	var scores, worth []float64
	var window []int32
	for _, f := range n.files {
		scores, worth, window = append(scores, f.scores...), append(worth, f.worth...), append(window, f.window...)
	}
	part := n.unhit(window, p)
	total := 0.0
	for _, v := range part {
		total += v
	}
	best := NABResult{Raw: total, Threshold: Never}
	order := descending(scores)
	for i := 0; i < len(order); {
		at := scores[order[i]]
		for ; i < len(order) && scores[order[i]] == at; i++ {
			row := order[i]
			if k := window[row]; k < 0 {
				total += p.FalseAlarm * worth[row]
			} else if v := p.TruePositive * worth[row]; v > part[k] {
				total += v - part[k]
				part[k] = v
			}
		}
		if total > best.Raw {
			best.Raw, best.Threshold = total, at
		}
	}
	return n.At(p, best.Threshold)
}

// unhit is what each window that has a row outside probation gives until something fires in it.
func (n *NAB) unhit(window []int32, p NABProfile) map[int32]float64 {
	part := map[int32]float64{}
	for _, k := range window {
		if k >= 0 {
			part[k] = -p.Missed
		}
	}
	return part
}

// At is the result at a given threshold.
func (n *NAB) At(p NABProfile, threshold float64) NABResult {
	r := NABResult{Threshold: threshold}
	scorable := 0
	for _, f := range n.files {
		part := n.unhit(f.window, p)
		scorable += len(part)
		hit := map[int32]bool{}
		for i, s := range f.scores {
			if s < threshold {
				continue
			}
			if k := f.window[i]; k < 0 {
				r.Raw += p.FalseAlarm * f.worth[i]
				r.FalseRows++
			} else {
				hit[k] = true
				part[k] = max(part[k], p.TruePositive*f.worth[i])
			}
		}
		r.Hit += len(hit)
		for _, v := range part {
			r.Raw += v
		}
	}
	null := -p.Missed * float64(scorable)
	if perfect := p.TruePositive * float64(n.windows); perfect > null {
		r.Score = 100 * (r.Raw - null) / (perfect - null)
	}
	return r
}
