package trial

import "time"

// buckets is how many points a course has at most: more than a screen shows.
const buckets = 720

// axis divides time into at most buckets buckets of equal width, which doubles when time has gone on.
type axis struct {
	from  time.Time
	width time.Duration
}

// at gives the bucket of a time, or how often the width must be doubled first. Times before the first one belong to its bucket.
func (a *axis) at(t time.Time) (bucket, double int) {
	if a.width == 0 {
		a.from, a.width = t, time.Second
	}
	bucket = max(0, int(t.Sub(a.from)/a.width))
	for bucket >= buckets {
		bucket /= 2
		a.width *= 2
		double++
	}
	return bucket, double
}

// Time is when a bucket begins.
func (a *axis) Time(bucket int) time.Time { return a.from.Add(time.Duration(bucket) * a.width) }

// Width of a bucket.
func (a *axis) Width() time.Duration { return a.width }

// Point is what one bucket holds of a machine's windows. Windows is 0 where there are none.
type Point struct {
	Windows  int
	Surprise float64 // the highest, -ln(p)
	Demand   float64 // the lowest that would have paged
	Flagged  int     // windows that reached it
	Learning bool
}

// Series is the course of a machine's score. Memory: buckets points, whatever the time.
type Series struct {
	axis
	Points []Point
}

// halve merges neighbours, in place.
func halve[T any](s []T, merge func(*T, T)) []T {
	for j := range s {
		if j%2 == 0 {
			s[j/2] = s[j]
		} else {
			merge(&s[j/2], s[j])
		}
	}
	return s[:(len(s)+1)/2]
}

func (s *Series) add(t time.Time, surprise, demand float64, learning bool) {
	i, double := s.at(t)
	for range double {
		s.Points = halve(s.Points, (*Point).merge)
	}
	for len(s.Points) <= i {
		s.Points = append(s.Points, Point{})
	}
	if learning || surprise != surprise {
		s.Points[i].merge(Point{Windows: 1, Learning: learning})
		return
	}
	p := Point{Windows: 1, Surprise: surprise, Demand: demand}
	if surprise >= demand {
		p.Flagged = 1
	}
	s.Points[i].merge(p)
}

func (p *Point) merge(q Point) {
	if q.Windows == 0 {
		return
	}
	if p.Windows == 0 {
		*p = q
		return
	}
	p.Windows += q.Windows
	p.Surprise = max(p.Surprise, q.Surprise)
	p.Flagged += q.Flagged
	switch {
	case p.Demand == 0:
		p.Demand = q.Demand
	case q.Demand > 0:
		p.Demand = min(p.Demand, q.Demand)
	}
	p.Learning = p.Learning && q.Learning
}

// Range is the lowest and highest value in a bucket; N is 0 where there is none.
type Range struct {
	N         uint32
	Low, High float32
}

// Envelope is the course of a sensor.
type Envelope struct {
	Sensor string
	axis
	Ranges []Range
}

func (e *Envelope) add(t time.Time, v float64) {
	if v != v {
		return
	}
	i, double := e.at(t)
	for range double {
		e.Ranges = halve(e.Ranges, (*Range).merge)
	}
	for len(e.Ranges) <= i {
		e.Ranges = append(e.Ranges, Range{})
	}
	e.Ranges[i].merge(Range{1, float32(v), float32(v)})
}

func (r *Range) merge(q Range) {
	switch {
	case q.N == 0:
	case r.N == 0:
		*r = q
	default:
		r.N, r.Low, r.High = r.N+q.N, min(r.Low, q.Low), max(r.High, q.High)
	}
}
