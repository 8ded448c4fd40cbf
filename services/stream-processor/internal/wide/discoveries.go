package wide

import (
	"math"
	"slices"
)

// Finding is one feature that stands out.
type Finding struct {
	Feature  int
	Surprise float32
}

// Verdict is what one row says of a machine as a whole.
type Verdict struct {
	// Surprise is that of the whole: -ln of the p-value of "no feature is unusual"; NaN: no opinion.
	Surprise float64
	// Judged is the number of features with an opinion, Outside how many of them are outside their SVM (score >= threshold).
	Judged, Outside int
	// Found are the features named at the false discovery rate, most surprising first, equal ones by number. It is valid until the next call.
	Found []Finding
}

// Jury joins the features' surprises. It holds scratch memory; it belongs to one goroutine at a time.
type Jury struct {
	keys  []uint64 // surprise, then feature, so that sorting keys sorts findings
	found []Finding
}

// suspect is the surprise from which features are sorted: p = 0.05. The verdict on the whole is exact below.
const suspect = 3

// Judge joins the surprises that m.Surprises gave for row. Features that are outside their SVM are named by the step-up procedure of Benjamini and Hochberg (1995), which holds
// for features that rise and fall together too (Benjamini and Yekutieli 2001, positive regression dependence): the expected share of false ones among
// those named is at most FDR. Two questions make the surprise of the whole, the more surprising one counts, doubled (Bonferroni): Simes' (1986) test, which
// rejects when any feature is named, and whether unusually many features are outside at once, held against this machine's own history.
//
// Cost: sorts the suspects, 5 % of the features while all is usual. No allocation once the Jury has seen as many suspects.
func (j *Jury) Judge(m *Model, surprises, row []float32) Verdict {
	j.keys, j.found = j.keys[:0], j.found[:0]
	v := Verdict{Surprise: math.NaN()}
	boundary := float32(m.Boundary())
	learned := m.learned[:len(surprises)]
	row = row[:len(surprises)]
	for i, t := range surprises {
		if learned[i] < ready || row[i] != row[i] {
			continue
		}
		v.Judged++
		if t >= boundary {
			v.Outside++
		}
		if t >= suspect {
			j.keys = append(j.keys, uint64(math.Float32bits(t))<<32|uint64(^uint32(i)))
		}
	}
	if v.Judged == 0 {
		return v
	}
	slices.Sort(j.keys)
	slices.Reverse(j.keys)
	named, n := 0, math.Log(float64(v.Judged))
	simes := 0.0 // nothing beyond p = 0.05: no opinion beyond "usual"
	strict := -math.Log(m.cfg.FDR)
	for k, key := range j.keys {
		t := float64(math.Float32frombits(uint32(key >> 32)))
		adjusted := t - n + math.Log(float64(k+1)) // -ln(n p / k)
		simes = max(simes, adjusted)
		if adjusted >= strict && t >= float64(boundary) {
			named = k + 1
		}
	}
	for _, key := range j.keys[:named] {
		j.found = append(j.found, Finding{Feature: int(^uint32(key)), Surprise: math.Float32frombits(uint32(key >> 32))})
	}
	v.Found = j.found
	v.Surprise = simes
	nu := 1 - m.cfg.Threshold
	if many := m.shareOut.surprise(float64(v.Outside)/float64(v.Judged), float64(v.Judged), nu); many == many {
		v.Surprise = max(0, max(simes, many)-math.Ln2)
	}
	return v
}
