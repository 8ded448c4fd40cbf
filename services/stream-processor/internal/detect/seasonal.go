package detect

import (
	"math"

	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine/codec"
)

const (
	knots       = 24
	weekdays    = 7
	hourUS      = 3600 * 1_000_000
	dayUS       = knots * hourUS
	profileDays = 14   // days over which the course of the day forgets
	profileWeek = 8    // weeks over which the days of the week do
	fewestDays  = 2    // whole days seen before the course of the day may count
	youngDays   = 28   // days until which the spread about the profile is that of the last two days
	fewestWeeks = 2    // whole weeks before the day of the week does
	explains    = 0.75 // share of the variance that a profile may leave and still be worth having
)

// seasonal holds each sensor against its usual course over the day and the week, where there is one: a line between 24 knots at the full
// hours and a level for each weekday, fitted by normalised least mean squares (Widrow and Hoff 1960), and the spread about
// it (the decomposition into level, season and rest is Holt's and Winters', 1957 and 1960; the periods are fixed here, as machines follow people).
// It speaks from the third day on, of sensors whose variance the profile lessens, and is silent about all others. Days
// are those of UTC and of event time. 176 bytes per sensor.
type seasonal struct {
	memory int
	calendar
	sensors []seasonalSensor
}

type seasonalSensor struct {
	rest        baseline // what the profile leaves
	plain, vary float32  // a running level that forgets as fast, and its mean squared error: what a profile must beat
	knot        [knots]float32
	weekday     [weekdays]float32
	cyclic      bool
}

// calendar counts the days learned from.
type calendar struct {
	firstUS int64 // start of the first window learned
	lastUS  int64 // of the newest
	gapUS   float64
}

// phase is where in the day and the week a window is.
type phase struct {
	left, right int
	share       float64 // of the right knot
	weekday     int
}

func phaseOf(w *Window) phase {
	day := floorDiv(w.StartUS, dayUS)
	at := w.StartUS - day*dayUS
	i := int(at / hourUS)
	weekday := int(day % weekdays)
	if weekday < 0 {
		weekday += weekdays
	}
	return phase{left: i, right: (i + 1) % knots, share: float64(at%hourUS) / hourUS, weekday: weekday}
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

// note takes the time of a window to learn from; it is true when it is the first of another day.
func (c *calendar) note(w *Window) bool {
	if c.gapUS == 0 {
		c.firstUS, c.lastUS, c.gapUS = w.StartUS, w.StartUS, float64(max(1, w.EndUS-w.StartUS))
		return false
	}
	if w.StartUS <= c.lastUS {
		return false
	}
	gap := float64(w.StartUS - c.lastUS)
	c.gapUS += (min(gap, 2*c.gapUS) - c.gapUS) / 32
	turned := floorDiv(w.StartUS, dayUS) != floorDiv(c.lastUS, dayUS)
	c.lastUS = w.StartUS
	return turned
}

func (c *calendar) days() float64 { return float64(c.lastUS-c.firstUS) / dayUS }

// gain is the weight of one window among those of so many stretches of the given length.
func (c *calendar) gain(lengthUS, stretches float64) float64 {
	return 1 / (1 + max(1, lengthUS/c.gapUS)*stretches)
}

func newSeasonal(c *Config) Detector { return &seasonal{memory: c.Seasonal.Memory} }

func (d *seasonal) Grow(sensors []string) { d.sensors = grow(d.sensors, len(sensors)) }

func (e *seasonalSensor) course(f phase) float64 {
	return float64(e.knot[f.left])*(1-f.share) + float64(e.knot[f.right])*f.share
}

// usual is the profile at a time, without the level of what is left.
func (d *seasonal) usual(e *seasonalSensor, f phase) float64 {
	x := e.course(f)
	if d.days() >= fewestWeeks*weekdays {
		x += float64(e.weekday[f.weekday])
	}
	return x
}

func (d *seasonal) Score(w *Window, s *Scores) {
	f := phaseOf(w)
	for i := range w.Values {
		v, e := &w.Values[i], &d.sensors[i]
		b := &e.rest
		if !e.cyclic || v.Count == 0 || b.n < minLearned {
			continue
		}
		mid := b.mean + d.usual(e, f)
		sd := math.Sqrt(square(b.deviation(v.Resolution, b.thinness(v.Count)+1/max(b.effective(), 1))) + v.Drift)
		s.Low[i], s.High[i] = float32(mid-bandWidth*sd), float32(mid+bandWidth*sd)
		if sd > 0 {
			s.Surprise[i] = float32(studentSurprise((v.Mean-mid)/sd, b.freedom()))
		}
	}
}

// Follow does nothing: there is no running state.
func (d *seasonal) Follow(*Window) {}

func (d *seasonal) Learn(w *Window) {
	f := phaseOf(w)
	turned := d.note(w)
	days := d.days()
	knotGain := d.gain(hourUS, 1.5*min(days, profileDays)) // a knot hears of the hours to both sides, of each with half the weight
	dayGain := d.gain(dayUS, max(1, min(days/weekdays, profileWeek)))
	young := uint32(min(2*dayUS/d.gapUS, float64(d.memory)))
	normal := square(1-f.share) + square(f.share)
	for i := range w.Values {
		v, e := &w.Values[i], &d.sensors[i]
		if v.Count == 0 {
			continue
		}
		b := &e.rest
		first, before := b.n == 0, b.mean
		if first {
			e.plain = float32(v.Mean)
		}
		left := v.Mean - d.usual(e, f)
		b.learn(left, v.Resolution, v.Count, d.memory)
		a := 1 / float32(b.n)
		x := float32(v.Mean) - e.plain
		e.plain += float32(knotGain) * x
		e.vary += a * (x*x - e.vary)
		if first {
			continue
		}
		left -= before
		if limit := clipAt * b.deviation(v.Resolution, 1); e.cyclic {
			left = max(-limit, min(left, limit))
		}
		step := knotGain * left / normal
		e.knot[f.left] += float32(step * (1 - f.share))
		e.knot[f.right] += float32(step * f.share)
		if days < fewestDays {
			continue
		}
		e.weekday[f.weekday] += float32(dayGain * (left - step))
		if turned {
			if days < youngDays { // what a young profile missed is no measure of what an older one will
				b.n = min(b.n, max(young, minLearned))
			}
			limit := explains
			if e.cyclic {
				limit = 1
			}
			e.cyclic = b.variance < limit*float64(e.vary)
		}
	}
}

func (d *seasonal) AppendState(dst []byte) []byte {
	dst = codec.AppendI64(dst, d.firstUS)
	dst = codec.AppendI64(dst, d.lastUS)
	dst = codec.AppendF64(dst, d.gapUS)
	dst = codec.AppendU32(dst, uint32(len(d.sensors)))
	for i := range d.sensors {
		e := &d.sensors[i]
		dst = e.rest.appendState(dst)
		dst = codec.AppendF32(dst, e.plain)
		dst = codec.AppendF32(dst, e.vary)
		for _, k := range e.knot {
			dst = codec.AppendF32(dst, k)
		}
		for _, k := range e.weekday {
			dst = codec.AppendF32(dst, k)
		}
		dst = codec.AppendBool(dst, e.cyclic)
	}
	return dst
}

func (d *seasonal) RestoreState(r *codec.Reader) {
	d.calendar = calendar{firstUS: r.I64(), lastUS: r.I64(), gapUS: r.F64()}
	if !(d.gapUS >= 0 && d.gapUS < 1e18) {
		r.Fail("distance of windows out of range")
		d.calendar = calendar{}
	}
	for i := range r.Len(len(d.sensors), baselineSize+8+4*(knots+weekdays)+1) {
		e := &d.sensors[i]
		e.rest.restoreState(r)
		e.plain, e.vary = r.F32(), r.F32()
		for k := range e.knot {
			e.knot[k] = r.F32()
		}
		for k := range e.weekday {
			e.weekday[k] = r.F32()
		}
		e.cyclic = r.Bool()
	}
}
