package detect

import (
	"math"

	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine/codec"
)

const (
	shapeWeeks  = 8  // weeks over which a weekday's shape forgets
	shapeSeen   = 2  // days of a weekday learned before it is compared with
	shapeHours  = 8  // hours of a day known before it is compared
	shapeTaught = 18 // hours that make a day worth learning
)

// dayShape compares the day so far with the usual one of its weekday, hour by hour: the cosine of the angle between the two vectors of 24 hourly means
// (Salton's 1975 measure of likeness, here of deviations from the sensor's level), and a z-score of their volume, the sum. It finds days of another shape, such as
// a holiday or a shift that did not come, where each hour by itself could be. It speaks from the third week on, once in each completed hour.
//
// Hours and weekdays are those of UTC and of event time. 1.1 KiB per sensor.
type dayShape struct {
	memory  int
	now     dayAt // the day that is followed
	taught  dayAt // the day that is learned
	sensors []shapeSensor
}

// dayAt is a day that is being filled.
type dayAt struct {
	day   int64 // days since 1970
	begun bool
}

type shapeSensor struct {
	level    baseline
	usual    [weekdays][knots]float32 // hourly means by weekday
	days     [weekdays]uint8          // learned
	today    dayHours
	teaching dayHours
	angle    rarity // of completed days against what was usual
	volume   baseline
}

// dayHours are the running means of a day's hours.
type dayHours struct {
	mean  [knots]float32
	count [knots]uint16
}

func (h *dayHours) add(hour int, x float64) {
	if h.count[hour] < math.MaxUint16 {
		h.count[hour]++
	}
	h.mean[hour] += (float32(x) - h.mean[hour]) / float32(h.count[hour])
}

func newDayShape(c *Config) Detector { return &dayShape{memory: c.Seasonal.Memory} }

func (d *dayShape) Grow(sensors []string) { d.sensors = grow(d.sensors, len(sensors)) }

// compare holds the hours before the given one against a weekday's: the distance by angle, near to normal as a root, and by volume. hours is how many could be compared.
func (e *shapeSensor) compare(h *dayHours, weekday, before int) (angle, volume float64, hours int) {
	var xx, yy, xy float64
	for i := range before {
		if h.count[i] == 0 {
			continue
		}
		x, y := float64(h.mean[i])-e.level.mean(), float64(e.usual[weekday][i])-e.level.mean()
		xx, yy, xy = xx+x*x, yy+y*y, xy+x*y
		volume += x - y
		hours++
	}
	if hours == 0 {
		return 0, 0, 0
	}
	noise := 1e-3 * e.level.variance() * float64(hours) // a flat day has no direction
	cos := (xy + noise) / math.Sqrt((xx+noise)*(yy+noise)+math.SmallestNonzeroFloat64)
	return math.Sqrt(max(0, 1-cos)), volume / float64(hours), hours
}

func (d *dayShape) Score(w *Window, s *Scores) {
	f := phaseOf(w)
	if !d.now.begun || d.now.day != floorDiv(w.StartUS, dayUS) {
		return
	}
	for i := range w.Values {
		e := &d.sensors[i]
		if w.Values[i].Count == 0 || e.days[f.weekday] < shapeSeen || e.level.variance() == 0 {
			continue
		}
		angle, volume, hours := e.compare(&e.today, f.weekday, f.left)
		if hours < shapeHours || e.volume.n < minLearned {
			continue
		}
		t := aboveSurprise(angle, e.angle.mean(), e.angle.variance()+leastRarity, e.angle.freedom())
		sd := math.Sqrt(e.volume.variance()*float64(knots)/float64(hours) + square(w.Values[i].Resolution))
		if sd > 0 {
			t = max(t, studentSurprise((volume-e.volume.mean())/sd, e.volume.freedom()))
		}
		s.Surprise[i] = float32(max(0, t-math.Ln2)) // the larger of two
	}
}

// Follow fills today.
func (d *dayShape) Follow(w *Window) {
	day := floorDiv(w.StartUS, dayUS)
	if !d.now.begun || day != d.now.day {
		d.now = dayAt{day: day, begun: true}
		for i := range d.sensors {
			d.sensors[i].today = dayHours{}
		}
	}
	hour := phaseOf(w).left
	for i := range w.Values {
		if v := &w.Values[i]; v.Count > 0 {
			d.sensors[i].today.add(hour, v.Mean)
		}
	}
}

// Learn fills the day that is learned from, and takes it into its weekday when it is over.
func (d *dayShape) Learn(w *Window) {
	day := floorDiv(w.StartUS, dayUS)
	if d.taught.begun && day != d.taught.day {
		weekday := int(d.taught.day % weekdays)
		if weekday < 0 {
			weekday += weekdays
		}
		for i := range d.sensors {
			d.sensors[i].teach(weekday)
		}
	}
	d.taught = dayAt{day: day, begun: true}
	hour := phaseOf(w).left
	for i := range w.Values {
		v, e := &w.Values[i], &d.sensors[i]
		if v.Count > 0 {
			e.teaching.add(hour, v.Mean)
			e.level.learn(v.Mean, v.Resolution, v.Count, d.memory)
		}
	}
}

// teach takes the completed day into its weekday's.
func (e *shapeSensor) teach(weekday int) {
	hours := 0
	for _, n := range e.teaching.count {
		if n > 0 {
			hours++
		}
	}
	if hours >= shapeTaught {
		n := &e.days[weekday]
		if *n > 0 {
			angle, volume, _ := e.compare(&e.teaching, weekday, knots)
			e.angle.learn(angle, shapeWeeks*weekdays)
			e.volume.learn(volume, 0, 1, shapeWeeks*weekdays)
		}
		if *n < shapeWeeks {
			*n++
		}
		for i, x := range e.teaching.mean {
			switch u := &e.usual[weekday][i]; {
			case e.teaching.count[i] == 0:
			case *n == 1:
				*u = x
			default:
				*u += (x - *u) / float32(*n)
			}
		}
	}
	e.teaching = dayHours{}
}

func (h *dayHours) appendState(dst []byte) []byte {
	for i := range h.mean {
		dst = codec.AppendF32(dst, h.mean[i])
		dst = append(dst, byte(h.count[i]), byte(h.count[i]>>8))
	}
	return dst
}

func (h *dayHours) restoreState(r *codec.Reader) {
	for i := range h.mean {
		h.mean[i] = r.F32()
		h.count[i] = uint16(r.U8()) | uint16(r.U8())<<8
	}
}

func (a *dayAt) appendState(dst []byte) []byte {
	return codec.AppendBool(codec.AppendI64(dst, a.day), a.begun)
}

func (a *dayAt) restoreState(r *codec.Reader) { *a = dayAt{day: r.I64(), begun: r.Bool()} }

func (d *dayShape) AppendState(dst []byte) []byte {
	dst = d.now.appendState(dst)
	dst = d.taught.appendState(dst)
	dst = codec.AppendU32(dst, uint32(len(d.sensors)))
	for i := range d.sensors {
		e := &d.sensors[i]
		dst = e.level.appendState(dst)
		for k := range e.usual {
			for _, x := range e.usual[k] {
				dst = codec.AppendF32(dst, x)
			}
			dst = append(dst, e.days[k])
		}
		dst = e.today.appendState(dst)
		dst = e.teaching.appendState(dst)
		dst = e.angle.appendState(dst)
		dst = e.volume.appendState(dst)
	}
	return dst
}

const shapeSensorSize = 3*baselineSize + weekdays*(4*knots+1) + 2*6*knots

func (d *dayShape) RestoreState(r *codec.Reader) {
	d.now.restoreState(r)
	d.taught.restoreState(r)
	for i := range r.Len(len(d.sensors), shapeSensorSize) {
		e := &d.sensors[i]
		e.level.restoreState(r)
		for k := range e.usual {
			for j := range e.usual[k] {
				e.usual[k][j] = r.F32()
			}
			e.days[k] = r.U8()
		}
		e.today.restoreState(r)
		e.teaching.restoreState(r)
		e.angle.restoreState(r)
		e.volume.restoreState(r)
	}
}
