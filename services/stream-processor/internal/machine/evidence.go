package machine

import (
	"math"
	"strconv"
	"strings"
	"time"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/detect"
)

// maxEvidence is the number of sensors that an anomaly names.
const maxEvidence = 10

// evidence says how much one sensor drove a finding.
type evidence struct {
	observed  float64
	slot      int32
	share     float32 // of all evidence kept
	low, high float32 // NaN: no expectation
	detector  int16   // index, or none
}

const noDetector = -1

// top keeps the sensors with the most weight, heaviest first, equal ones by slot, and makes their shares sum to 1.
type top struct {
	list []evidence
}

func (t *top) add(e evidence) {
	n := len(t.list)
	if n == maxEvidence {
		if e.share <= t.list[n-1].share {
			return
		}
		n--
		t.list = t.list[:n]
	}
	t.list = append(t.list, e)
	for i := n; i > 0 && t.list[i-1].share < e.share; i-- {
		t.list[i], t.list[i-1] = t.list[i-1], t.list[i]
	}
}

func (t *top) shares() []evidence {
	var sum float64
	for i := range t.list {
		sum += float64(t.list[i].share)
	}
	for i := range t.list {
		t.list[i].share = float32(float64(t.list[i].share) / sum)
	}
	return t.list
}

// behaviourEvidence weighs sensors by their surprise beyond the usual, or by their share in that of all together if it is more. The result is valid until the scratch is used again.
func (m *Machine) behaviourEvidence(sc *scratch) []evidence {
	const usual = 2 // one window in seven is as surprising
	t := top{list: sc.evidence[:0]}
	for i := range m.sensors {
		weight, by := 0.0, int(sc.loudest[i])
		if s := float64(sc.surprise[i]); s > usual && m.named(sc.surprise[i]) {
			weight = s - usual
		}
		if j := &sc.joint; j.surprise > usual && m.wide == nil {
			if share := float64(sc.scores[j.detector].Share[i]) * (j.surprise - usual); share > weight {
				weight, by = share, j.detector
			}
		}
		if weight > 0 {
			t.add(m.evidenceOf(i, by, weight, sc))
		}
	}
	return t.shares()
}

// limitEvidence names the sensors beyond a limit; critical ones weigh double.
func (m *Machine) limitEvidence(sc *scratch) []evidence {
	t := top{list: sc.evidence[:0]}
	for i := range m.sensors {
		for d := range m.detectors {
			if l := sc.scores[d].Level[i]; l > detect.Within && l == sc.level[i] {
				e := m.evidenceOf(i, d, float64(l), sc)
				// What is beyond a limit may be one value rather than the mean.
				v := &sc.window.Values[i]
				switch low, high := float64(e.low), float64(e.high); {
				case v.Mean > high || v.Mean < low:
				case v.Max > high:
					e.observed = v.Max
				case v.Min < low:
					e.observed = v.Min
				}
				t.add(e)
				break
			}
		}
	}
	return t.shares()
}

// sensorEvidence names the sensors chosen with what was observed of them, all with the same weight.
func (m *Machine) sensorEvidence(sc *scratch, chosen func(slot int) (observed float64, ok bool)) []evidence {
	t, nan := top{list: sc.evidence[:0]}, float32(math.NaN())
	for i := range m.sensors {
		if observed, ok := chosen(i); ok {
			t.add(evidence{slot: int32(i), detector: noDetector, share: 1, observed: observed, low: nan, high: nan})
		}
	}
	return t.shares()
}

func (m *Machine) evidenceOf(i, d int, weight float64, sc *scratch) evidence {
	s := &sc.scores[d]
	return evidence{
		slot: int32(i), detector: int16(d), share: float32(weight),
		observed: m.detectors[d].spec.Feature.Of(&sc.window.Values[i]), low: s.Low[i], high: s.High[i],
	}
}

func (m *Machine) contribution(e *evidence) Contribution {
	c := Contribution{
		Sensor: m.sensors[e.slot].name.Value(), Share: float64(e.share), Observed: e.observed, ExpectedLow: wide(e.low), ExpectedHigh: wide(e.high), Detector: "quality", Statistic: "mean",
	}
	if e.detector != noDetector {
		c.Detector = m.detectors[e.detector].title()
		if m.detectors[e.detector].spec.Feature == detect.Stddev {
			c.Statistic = "stddev"
		}
	}
	return c
}

// summary is one sentence for a human.
func (m *Machine) summary(c cause, phase eventv1.Phase, atUS int64, evid []evidence) string {
	e := &m.episodes[c]
	if phase == eventv1.Phase_PHASE_ENDED {
		switch c {
		case silence:
			return "data arrives again"
		case clock:
			return "gateway " + strconv.Quote(m.gateway) + " is on time again"
		case model:
			return "all detectors judge again after " + e.since(atUS)
		case behaviour:
			if len(evid) == 0 {
				return "declared to be how it is meant to be after " + e.since(atUS) + "; learning anew"
			}
		}
		return "back to usual after " + e.since(atUS) + m.reasons("; it was: ", c, evid)
	}
	switch c {
	case silence:
		if m.cover.refused > 0 {
			return "frames arrive from this machine and are refused (" + strconv.FormatUint(uint64(m.cover.refused), 10) +
				" dead letters since the last that was taken); nothing about it can be judged"
		}
		if phase == eventv1.Phase_PHASE_ONGOING {
			return "still no data from this machine; nothing about it can be judged"
		}
		return "no data arrives from this machine any more; nothing about it can be judged"
	case model:
		return m.modelText()
	case clock:
		if late := m.lateText(); late != "" {
			return late
		}
		if m.logMS > m.inTimeMS {
			return "gateway " + strconv.Quote(m.gateway) + " has sent nothing but samples too old to be judged for " +
				(time.Duration(m.logMS-m.inTimeMS) * time.Millisecond).String() + ": its clock is behind, or what it kept comes out of order"
		}
		return "gateway " + strconv.Quote(m.gateway) + " stamps samples more than " + m.cfg.MaxFuture.String() +
			" ahead of the broker's clock; they are stored but not judged"
	case behaviour:
		if len(evid) == 0 {
			return "the sensors together are not as usual"
		}
	}
	lasting := ""
	if phase == eventv1.Phase_PHASE_ONGOING {
		lasting = "; lasting " + e.since(atUS)
	}
	return m.reasons("", c, evid) + lasting
}

// reasons says what is wrong with the first sensors of the evidence.
func (m *Machine) reasons(prefix string, c cause, evid []evidence) string {
	const named = 3
	if len(evid) == 0 {
		return ""
	}
	parts := make([]string, 0, named+1)
	for i := range evid {
		if i == named {
			parts = append(parts, "and "+strconv.Itoa(len(evid)-named)+" more")
			break
		}
		parts = append(parts, m.reason(c, &evid[i]))
	}
	return prefix + strings.Join(parts, "; ")
}

func (m *Machine) reason(c cause, e *evidence) string {
	name := m.sensors[e.slot].name.Value()
	switch c {
	case blind:
		return m.blindReason(e.slot)
	case flatline:
		return name + " is stuck at " + number(e.observed)
	case badQuality:
		return name + " sends values that cannot be used"
	}
	if text, ok := m.besideSisters(e); ok {
		return text
	}
	expected := "expected"
	if c == limit {
		expected = "allowed"
	}
	var where string
	low, high := float64(e.low), float64(e.high)
	switch {
	case low != low && high != high:
		return name + " " + number(e.observed) + " does not go with the other sensors as usual"
	case e.observed > high:
		where = "above the " + expected + " " + band(low, high)
	case e.observed < low:
		where = "below the " + expected + " " + band(low, high)
	case c == limit:
		return name + " " + number(e.observed) + " changes faster than allowed"
	default:
		where = "off its usual course, though within the " + expected + " " + band(low, high)
	}
	if e.detector != noDetector && m.detectors[e.detector].spec.Feature == detect.Stddev {
		return name + " has a spread (standard deviation) of " + number(e.observed) + ", " + where
	}
	return name + " " + number(e.observed) + " is " + where
}

func band(low, high float64) string {
	switch {
	case low != low:
		return "at most " + number(high)
	case high != high:
		return "at least " + number(low)
	}
	return number(low) + " to " + number(high)
}

// number writes four significant digits.
func number(x float64) string { return strconv.FormatFloat(x, 'g', 4, 64) }
