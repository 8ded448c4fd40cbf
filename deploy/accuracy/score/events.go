package score

import "slices"

// Events counts whole anomalies and whole alarms instead of rows, without point adjustment: one flag finds an anomaly but does not make its other rows
// right. The zero value is empty; files may be added up.
type Events struct {
	Total, Found int // anomalies, and those with at least one flagged row
	TrueRuns     int // runs of flags that touch an anomaly
	FalseRuns    int // runs of flags that touch none
	Delays       []int
	LostShare    float64 // sum over anomalies of delay / length, 1 for one that was missed
	normalRows   int
}

// Add counts the events of one file: runs of anomalous rows are the anomalies.
func (e *Events) Add(anomalous, flagged []bool) {
	for _, v := range Runs(anomalous) {
		e.Total++
		at := slices.Index(flagged[v.First:v.Last+1], true)
		if at < 0 {
			e.LostShare++
			continue
		}
		e.Found++
		e.Delays = append(e.Delays, at)
		e.LostShare += float64(at) / float64(v.Rows())
	}
	for _, v := range Runs(flagged) {
		if slices.Contains(anomalous[v.First:v.Last+1], true) {
			e.TrueRuns++
		} else {
			e.FalseRuns++
		}
	}
	for _, a := range anomalous {
		if !a {
			e.normalRows++
		}
	}
}

// Recall is the share of anomalies found.
func (e *Events) Recall() float64 { return ratio(e.Found, e.Total) }

// Precision is the share of alarms (runs of flags) that touch an anomaly; 0 without alarms.
func (e *Events) Precision() float64 { return ratio(e.TrueRuns, e.TrueRuns+e.FalseRuns) }

// F1 is the harmonic mean of both.
func (e *Events) F1() float64 { return HarmonicMean(e.Precision(), e.Recall()) }

// FalseRunsPer1000 is the number of false alarms in a thousand normal rows.
func (e *Events) FalseRunsPer1000() float64 { return 1000 * ratio(e.FalseRuns, e.normalRows) }

// TimeToDetection is the BATADAL competition's S_TTD: 1 when each anomaly is found at its first row, 0 when none is found.
// (Taormina et al., Battle of the Attack Detection Algorithms, J. Water Resour. Plan. Manage. 144(8), 2018.)
func (e *Events) TimeToDetection() float64 {
	if e.Total == 0 {
		return 0
	}
	return 1 - e.LostShare/float64(e.Total)
}

// Batadal is the competition's S: the mean of S_TTD and of the balanced accuracy of the rows (its S_CM).
func Batadal(e *Events, c *Confusion) float64 {
	return (e.TimeToDetection() + (c.Recall()+1-c.FAR())/2) / 2
}

// HarmonicMean of two numbers that are not negative; 0 when both are.
func HarmonicMean(a, b float64) float64 {
	if a+b == 0 {
		return 0
	}
	return 2 * a * b / (a + b)
}

// Median of whole numbers; the mean of the middle two of an even count; 0 of none.
func Median(v []int) float64 {
	if len(v) == 0 {
		return 0
	}
	s := slices.Sorted(slices.Values(v))
	m := len(s) / 2
	if len(s)%2 == 1 {
		return float64(s[m])
	}
	return float64(s[m-1]+s[m]) / 2
}
