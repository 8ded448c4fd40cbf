package detect

import (
	"math"
	"path"

	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine/codec"
)

// limits holds sensors against fixed bounds of value and of rate of change (ISA-18.2 calls them absolute and rate-of-change alarms).
// It needs no learning and speaks from the first window. A mean beyond the critical bound is critical; when only
// some values of the window are beyond it, that is a warning. Memory: only sensors that have limits, 96 bytes each.
type limits struct {
	rules   []Limit
	known   int // sensors told so far
	sensors []limitSensor
}

type limitSensor struct {
	slot                      int
	lowWarning, highWarning   float64 // infinite: none
	lowCritical, highCritical float64
	rateWarning, rateCritical float64
	previous                  float64 // mean of the last window
	previousUS                int64   // its start
	seen                      bool
}

func newLimits(c *Config) Detector { return &limits{rules: c.Limits} }

func (d *limits) Grow(sensors []string) {
	for ; d.known < len(sensors); d.known++ {
		if s, ok := d.match(sensors[d.known]); ok {
			s.slot = d.known
			d.sensors = append(d.sensors, s)
		}
	}
}

// match joins all rules for a sensor: the tightest bounds hold.
func (d *limits) match(sensor string) (limitSensor, bool) {
	inf := math.Inf(1)
	s := limitSensor{
		lowWarning: -inf, lowCritical: -inf, highWarning: inf, highCritical: inf, rateWarning: inf, rateCritical: inf,
	}
	found := false
	for i := range d.rules {
		l := &d.rules[i]
		if ok, err := path.Match(l.Sensor, sensor); err != nil || !ok {
			continue
		}
		found = true
		for _, b := range []struct {
			to *float64
			v  *float64
		}{{&s.highWarning, l.HighWarning}, {&s.highCritical, l.HighCritical}, {&s.rateWarning, l.RateWarning}, {&s.rateCritical, l.RateCritical}} {
			if b.v != nil {
				*b.to = min(*b.to, *b.v)
			}
		}
		if l.LowWarning != nil {
			s.lowWarning = max(s.lowWarning, *l.LowWarning)
		}
		if l.LowCritical != nil {
			s.lowCritical = max(s.lowCritical, *l.LowCritical)
		}
	}
	return s, found
}

func (d *limits) Score(w *Window, s *Scores) {
	for i := range d.sensors {
		e := &d.sensors[i]
		v := &w.Values[e.slot]
		if v.Count == 0 {
			continue
		}
		s.Low[e.slot] = finite(max(e.lowWarning, e.lowCritical))
		s.High[e.slot] = finite(min(e.highWarning, e.highCritical))
		rate := 0.0
		if e.seen && w.StartUS > e.previousUS {
			rate = math.Abs(v.Mean-e.previous) / (float64(w.StartUS-e.previousUS) / 1e6)
		}
		switch {
		case v.Mean < e.lowCritical, v.Mean > e.highCritical, rate > e.rateCritical:
			s.Level[e.slot] = Critical
		case v.Min < max(e.lowWarning, e.lowCritical), v.Max > min(e.highWarning, e.highCritical), rate > e.rateWarning:
			s.Level[e.slot] = Warning
		}
	}
}

func finite(x float64) float32 {
	if math.IsInf(x, 0) {
		return float32(math.NaN())
	}
	return float32(x)
}

// Learn does nothing: limits are fixed.
func (d *limits) Learn(*Window) {}

func (d *limits) Follow(w *Window) {
	for i := range d.sensors {
		e := &d.sensors[i]
		if v := &w.Values[e.slot]; v.Count > 0 {
			e.previous, e.previousUS, e.seen = v.Mean, w.StartUS, true
		}
	}
}

func (d *limits) AppendState(dst []byte) []byte {
	dst = codec.AppendU32(dst, uint32(len(d.sensors)))
	for i := range d.sensors {
		e := &d.sensors[i]
		dst = codec.AppendU32(dst, uint32(e.slot))
		dst = codec.AppendF64(dst, e.previous)
		dst = codec.AppendI64(dst, e.previousUS)
		dst = codec.AppendBool(dst, e.seen)
	}
	return dst
}

func (d *limits) RestoreState(r *codec.Reader) {
	j := 0
	for range r.Len(math.MaxInt32, 21) {
		slot, previous, previousUS, seen := int(r.U32()), r.F64(), r.I64(), r.Bool()
		for j < len(d.sensors) && d.sensors[j].slot < slot {
			j++
		}
		if j < len(d.sensors) && d.sensors[j].slot == slot { // else the configuration has no limit for it any more
			e := &d.sensors[j]
			e.previous, e.previousUS, e.seen = previous, previousUS, seen
		}
	}
}
