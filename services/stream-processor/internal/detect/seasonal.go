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
// are those of UTC and of event time. 112 bytes per sensor.
//
// Only the two knots of the hour and the weekday that is learned now are at full precision; the others rest at 16 bits, which is far below what is left about a profile.
type seasonal struct {
	memory int
	calendar
	now     phase // whose knots and weekday are awake; those of the newest window learned
	awake   bool
	sensors []seasonalSensor
}

type seasonalSensor struct {
	rest                 baseline // what the profile leaves
	plain, vary          float32  // a running level that forgets as fast, and its mean squared error: what a profile must beat
	left, right, weekday float32  // what is awake
	profile
}

// profile is 31 numbers of one scale: 24 knots and 7 weekdays. Each is value times 2^exponent.
type profile struct {
	value    [knots + weekdays]int16
	exponent int8
	cyclic   bool // worth having; here because it costs nothing here
}

func (p *profile) at(i int) float64 { return math.Ldexp(float64(p.value[i]), int(p.exponent)) }

// set rounds x to the scale that it and all others need. The scale is a power of two, so units make no difference.
func (p *profile) set(i int, x float64) {
	const most = math.MaxInt16
	if x != x {
		x = 0
	}
	x = max(-math.MaxFloat32/2, min(x, math.MaxFloat32/2))
	p.value[i] = 0
	widest := math.Abs(x)
	for _, v := range p.value {
		widest = max(widest, math.Ldexp(math.Abs(float64(v)), int(p.exponent)))
	}
	if widest == 0 {
		return
	}
	_, e := math.Frexp(widest / most)
	if e = max(e, math.MinInt8); e != int(p.exponent) {
		for k, v := range p.value {
			p.value[k] = int16(math.RoundToEven(math.Ldexp(float64(v), int(p.exponent)-e)))
		}
		p.exponent = int8(e)
	}
	p.value[i] = int16(math.RoundToEven(math.Ldexp(x, -e)))
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

// usual is the profile at a time, without the level of what is left.
func (d *seasonal) usual(e *seasonalSensor, f phase) float64 {
	left, right, weekday := float64(e.left), float64(e.right), float64(e.weekday)
	if f.left != d.now.left {
		left, right = e.profile.at(f.left), e.profile.at(f.right)
		if f.left == d.now.right {
			left = float64(e.right)
		} else if f.right == d.now.left {
			right = float64(e.left)
		}
	}
	x := left*(1-f.share) + right*f.share
	if d.days() >= fewestWeeks*weekdays {
		if f.weekday != d.now.weekday {
			weekday = e.profile.at(knots + f.weekday)
		}
		x += weekday
	}
	return x
}

// turn puts to rest what the hour or the day no longer needs, and wakes what it does.
func (d *seasonal) turn(f phase) {
	was := d.now
	d.now = f
	if d.awake && was.left == f.left && was.weekday == f.weekday {
		return
	}
	for i := range d.sensors {
		e := &d.sensors[i]
		if d.awake {
			e.profile.set(was.left, float64(e.left))
			e.profile.set(was.right, float64(e.right))
			e.profile.set(knots+was.weekday, float64(e.weekday))
		}
		e.left, e.right, e.weekday = float32(e.profile.at(f.left)), float32(e.profile.at(f.right)), float32(e.profile.at(knots+f.weekday))
	}
	d.awake = true
}

func (d *seasonal) Score(w *Window, s *Scores) {
	f := phaseOf(w)
	for i := range w.Values {
		v, e := &w.Values[i], &d.sensors[i]
		b := &e.rest
		if !e.cyclic || v.Count == 0 || b.n < minLearned {
			continue
		}
		mid := b.mean() + d.usual(e, f)
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
	d.turn(f)
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
		first, before := b.n == 0, b.mean()
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
		e.left += float32(step * (1 - f.share))
		e.right += float32(step * f.share)
		if days < fewestDays {
			continue
		}
		e.weekday += float32(dayGain * (left - step))
		if turned {
			if days < youngDays { // what a young profile missed is no measure of what an older one will
				b.n = min(b.n, max(young, minLearned))
			}
			limit := explains
			if e.cyclic {
				limit = 1
			}
			e.cyclic = b.variance() < limit*float64(e.vary)
		}
	}
}

func (d *seasonal) AppendState(dst []byte) []byte {
	dst = codec.AppendI64(dst, d.firstUS)
	dst = codec.AppendI64(dst, d.lastUS)
	dst = codec.AppendF64(dst, d.gapUS)
	dst = codec.AppendBool(dst, d.awake)
	dst = append(dst, byte(d.now.left), byte(d.now.weekday))
	dst = codec.AppendU32(dst, uint32(len(d.sensors)))
	for i := range d.sensors {
		e := &d.sensors[i]
		dst = e.rest.appendState(dst)
		for _, x := range [...]float32{e.plain, e.vary, e.left, e.right, e.weekday} {
			dst = codec.AppendF32(dst, x)
		}
		for _, v := range e.profile.value {
			dst = append(dst, byte(v), byte(uint16(v)>>8))
		}
		dst = append(dst, byte(e.profile.exponent))
		dst = codec.AppendBool(dst, e.cyclic)
	}
	return dst
}

const seasonalSensorSize = baselineSize + 5*4 + 2*(knots+weekdays) + 2

func (d *seasonal) RestoreState(r *codec.Reader) {
	d.calendar = calendar{firstUS: r.I64(), lastUS: r.I64(), gapUS: r.F64()}
	if !(d.gapUS >= 0 && d.gapUS < 1e18) {
		r.Fail("distance of windows out of range")
		d.calendar = calendar{}
	}
	d.awake, d.now = r.Bool(), phase{left: int(r.U8()), weekday: int(r.U8())}
	d.now.right = (d.now.left + 1) % knots
	if d.now.left >= knots || d.now.weekday >= weekdays {
		r.Fail("hour out of range")
		d.now = phase{}
	}
	for i := range r.Len(len(d.sensors), seasonalSensorSize) {
		e := &d.sensors[i]
		e.rest.restoreState(r)
		e.plain, e.vary, e.left, e.right, e.weekday = r.F32(), r.F32(), r.F32(), r.F32(), r.F32()
		for k := range e.profile.value {
			e.profile.value[k] = int16(uint16(r.U8()) | uint16(r.U8())<<8)
		}
		e.profile.exponent, e.cyclic = int8(r.U8()), r.Bool()
	}
}
