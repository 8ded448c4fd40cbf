package detect

import (
	"math"

	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine/codec"
)

// CohortName is the detector that holds a machine against its sisters.
const CohortName = "cohort"

// Middle is where the members of a cohort are in one sensor, each less its own usual distance from the others: the middle one and its neighbours in order, of N. Of an even number
// Mid is the mean of the two in the middle, which are Low and High.
type Middle struct {
	N              uint32
	Low, Mid, High float64
}

// Without is the median of the others, for a member that is at x itself; for one that is none, it is that of all but the member nearest to it in rank.
func (m *Middle) Without(x float64) float64 {
	switch {
	case m.N%2 == 0 && x <= m.Low:
		return m.High
	case m.N%2 == 0:
		return m.Low
	case x < m.Mid:
		return (m.Mid + m.High) / 2
	case x > m.Mid:
		return (m.Low + m.Mid) / 2
	}
	return (m.Low + m.High) / 2
}

// Peered is a detector that is told, now and then, where the machine's sisters are. What it is told stands in the log, so it is no state of others.
type Peered interface {
	Detector
	// Compare takes a round: the means of the machine's own values over a stretch of time, and where its cohort was in it, by slot. Sensors without a count on either side are
	// passed over. learn says that what is seen may become usual. It must not allocate but in the first round.
	Compare(w *Window, r *Peers, learn bool)
	// Distance is what is usual between the sensor and the middle of the cohort; false while nothing is known of it.
	Distance(slot int) (float64, bool)
	// Sisters is the number of sisters that it was held against last.
	Sisters() int
}

// Peers is one round as one machine sees it.
type Peers struct {
	Middles []Middle // by slot
	Sisters int      // beside the machine
	Least   int      // members, itself included, that a sensor's middle needs
	Anew    bool     // nobody's usual distance was known: it begins now
}

// sisters finds the odd one out among machines of the same sensors in one place, the idea of self-organising fleet monitoring (Byttner et al. 2011, "Consensus self-organized models
// for fault detection (COSMO)"; Rögnvaldsson et al. 2018, "Self-monitoring for maintenance of vehicle fleets"): sisters share weather, season, shift and product, so what
// they have in common says nothing of any, and what one does alone does. They differ for good as well, so each is held against its own usual distance from the middle of the others.
//
// The distance moves slowly if at all, where the sensor itself follows the day: so what is usual is learned over days, not minutes, and a drift of hours or days, which a baseline
// of the machine alone takes along, shows. A running mean of the distance beyond the usual (Roberts 1959) is held against how far it really goes while nothing is wrong
// (Zhang 1998, as in ewma). The surprise of all sensors is that of the most surprising one, corrected for their number (Bonferroni).
//
// It says the same until the next round, and nothing once some rounds are missing, or while less than a day is known. Nothing is held but this until there is a round; then 24 bytes per sensor.
type sisters struct {
	lambda   float64
	memory   uint32
	sensors  []sisterSensor // empty until the first round
	grown    int
	rounds   uint32 // learned from, up to the memory
	others   uint32
	endUS    int64 // of the last round
	lengthUS int64
}

type sisterSensor struct {
	distance double  // usual, from the middle of the others
	sd       float32 // of a round's distance beyond the usual
	chart    float32 // running mean of it
	wander   float32 // mean square of the chart
	at       float32 // where the others would have it
}

const (
	sisterClip    = 4 // standard deviations of one round that count in the chart
	wanderClip    = 2 // deviations of the chart that count in what is usual of it, or a drift would soon be
	sisterFreedom = 100
)

func newSisters(c *Config) Detector {
	return &sisters{lambda: c.Cohort.Lambda, memory: uint32(c.Cohort.Memory)}
}

func (d *sisters) Grow(sensors []string) {
	d.grown = len(sensors)
	if len(d.sensors) > 0 {
		from := len(d.sensors)
		d.sensors = grow(d.sensors, d.grown)
		d.begin(from)
	}
}

func (d *sisters) begin(from int) {
	for i := from; i < len(d.sensors); i++ {
		d.sensors[i].at = float32(math.NaN())
	}
}

func (e *sisterSensor) known() bool { return e.at == e.at }

// scale is the standard deviation of the chart of a sensor of which nothing is wrong.
func (d *sisters) scale(e *sisterSensor, resolution float64) float64 {
	sd := d.deviation(e, resolution)
	n := float64(max(d.rounds, 1))
	return math.Sqrt(max(sd*sd*d.lambda/(2-d.lambda), float64(e.wander)) + sd*sd/n)
}

func (d *sisters) deviation(e *sisterSensor, resolution float64) float64 {
	floor := max(resolution/2, math.Abs(float64(e.at))*relativeEps)
	return math.Sqrt(float64(e.sd)*float64(e.sd) + floor*floor)
}

func (d *sisters) Score(w *Window, s *Scores) {
	if len(d.sensors) == 0 || int64(d.rounds) < min(dayUS/d.lengthUS, int64(d.memory)) || w.StartUS > d.endUS+3*d.lengthUS || w.EndUS < d.endUS-3*d.lengthUS {
		return
	}
	most, n, sum := -1.0, 0, float32(0)
	freedom := max(minFreedom, min(float64(d.rounds)*d.lambda/2, sisterFreedom)) // the chart takes 2/lambda rounds to forget
	for i := range w.Values {
		e, v := &d.sensors[i], &w.Values[i]
		if v.Count == 0 || !e.known() {
			continue
		}
		sd := d.deviation(e, v.Resolution)
		s.Low[i], s.High[i] = e.at-float32(bandWidth*sd), e.at+float32(bandWidth*sd)
		scale := d.scale(e, v.Resolution)
		if !(scale > 0) {
			continue
		}
		t := studentSurprise(float64(e.chart)/scale, freedom)
		n++
		most = max(most, t)
		if len(s.Share) > i {
			s.Share[i] = float32(max(0, t-threshold))
			sum += s.Share[i]
		}
	}
	if n == 0 {
		return
	}
	s.Joint = float32(max(0, most-math.Log(float64(n))))
	for i := range s.Share {
		if sum > 0 {
			s.Share[i] /= sum
		}
	}
}

// threshold is the surprise from which a sensor has a share in that of all.
const threshold = 3

func (d *sisters) Follow(*Window) {}
func (d *sisters) Learn(*Window)  {}

func (d *sisters) Compare(w *Window, r *Peers, learn bool) {
	switch {
	case len(d.sensors) == 0:
		d.sensors = grow(d.sensors, d.grown)
		d.begin(0)
	case w.EndUS <= d.endUS:
		return // it was taken already: two owners may write the same round
	}
	d.endUS, d.lengthUS, d.others = w.EndUS, w.EndUS-w.StartUS, uint32(r.Sisters)
	if r.Anew {
		d.rounds = 0
	}
	if learn && d.rounds < d.memory {
		d.rounds++
	}
	for i := range w.Values {
		v, e := &w.Values[i], &d.sensors[i]
		if v.Count == 0 || i >= len(r.Middles) || int(r.Middles[i].N) < r.Least {
			continue
		}
		if !e.known() || r.Anew {
			e.distance = doubled(v.Mean - r.Middles[i].Mid)
			e.sd, e.chart, e.wander, e.at = 0, 0, 0, float32(v.Mean)
			continue
		}
		d.take(e, v, &r.Middles[i], learn)
	}
}

func (d *sisters) take(e *sisterSensor, v *Value, m *Middle, learn bool) {
	usual := e.distance.value()
	at := m.Without(v.Mean-usual) + usual
	off := v.Mean - at
	if !(math.Abs(off) < 1e15) {
		return
	}
	e.at = float32(at)
	limit := math.Inf(1)
	if d.rounds >= clipFrom {
		limit = sisterClip * d.deviation(e, v.Resolution)
	}
	off = max(-limit, min(off, limit))
	chart := float64(e.chart) + d.lambda*(off-float64(e.chart))
	e.chart = float32(chart)
	if !learn {
		return
	}
	a := 1 / float64(max(d.rounds, 2))
	e.distance = doubled(usual + a*off)
	e.sd = float32(math.Sqrt((1 - a) * (float64(e.sd)*float64(e.sd) + a*off*off)))
	square := chart * chart
	if d.rounds >= clipFrom {
		sd := d.deviation(e, v.Resolution)
		square = min(square, wanderClip*wanderClip*max(float64(e.wander), sd*sd*d.lambda/(2-d.lambda)))
	}
	e.wander = float32(float64(e.wander) + a*(square-float64(e.wander)))
}

func (d *sisters) Distance(slot int) (float64, bool) {
	if slot >= len(d.sensors) || !d.sensors[slot].known() {
		return 0, false
	}
	return d.sensors[slot].distance.value(), true
}

func (d *sisters) Sisters() int { return int(d.others) }

func (d *sisters) AppendState(dst []byte) []byte {
	dst = codec.AppendU32(dst, uint32(len(d.sensors)))
	if len(d.sensors) == 0 {
		return dst
	}
	dst = codec.AppendU32(codec.AppendU32(dst, d.rounds), d.others)
	dst = codec.AppendI64(codec.AppendI64(dst, d.endUS), d.lengthUS)
	for i := range d.sensors {
		e := &d.sensors[i]
		dst = e.distance.appendState(dst)
		for _, x := range [...]float32{e.sd, e.chart, e.wander, e.at} {
			dst = codec.AppendF32(dst, x)
		}
	}
	return dst
}

func (d *sisters) RestoreState(r *codec.Reader) {
	n := r.Len(d.grown, 24)
	if n == 0 {
		return
	}
	d.sensors = grow(d.sensors, d.grown)
	d.begin(n)
	d.rounds, d.others = r.U32(), r.U32()
	d.endUS, d.lengthUS = r.I64(), r.I64()
	const far = 1 << 61
	if d.lengthUS <= 0 || d.lengthUS > far || d.endUS > far || d.endUS < -far {
		r.Fail("round out of range")
	}
	for i := range n {
		e := &d.sensors[i]
		e.distance.restoreState(r)
		e.sd, e.chart, e.wander, e.at = r.F32(), r.F32(), r.F32(), r.F32()
	}
}
