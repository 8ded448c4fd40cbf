// Package usagetest makes up hourly figures of businesses whose anomalies are known.
package usagetest

import (
	"math"
	"math/rand/v2"
	"slices"
)

// Days of each series. What is unusual lies after the first Learning days.
const (
	Days     = 90
	Learning = 35
)

// Series is one entity's metric.
type Series struct {
	Values []float64      // of each hour; day 0 is a Monday
	Truth  map[int]string // days with something unusual, and what
}

// VolumeKinds say how much, ShapeKinds when.
func VolumeKinds() []string { return []string{"more", "less", "burst", "outage"} }

// ShapeKinds are days as large as usual whose course is another.
func ShapeKinds() []string { return []string{"shifted", "flat", "night"} }

// Generate makes 90 days of counts: the week's and the day's course, growth, days that differ, noise that grows with the volume; and anomalies on 6 in 100 days.
func Generate(seed uint64) Series {
	r := rand.New(rand.NewPCG(seed, 90))
	level := math.Exp(3 + 4*r.Float64()) // 20 to 1100 an hour
	peak, width := 10+4*r.Float64(), 3+2*r.Float64()
	weekend, growth := 0.3+0.6*r.Float64(), 0.02*r.NormFloat64()
	noise := 0.04 + 0.06*r.Float64()
	shape := func(h float64) float64 { return 0.1 + math.Exp(-(h-peak)*(h-peak)/(2*width*width)) }
	g := Series{Values: make([]float64, Days*24), Truth: map[int]string{}}
	kinds := slices.Concat(VolumeKinds(), ShapeKinds())
	for d := range Days {
		day := level * math.Exp(growth*float64(d)/30)
		if d%7 >= 5 {
			day *= weekend
		}
		day *= 1 + 0.03*r.NormFloat64()
		kind := ""
		if d >= Learning && r.Float64() < 0.06 {
			kind = kinds[r.IntN(len(kinds))]
			g.Truth[d] = kind
		}
		total := 0.0
		for h := range 24 {
			total += shape(float64(h))
		}
		at := 6 + r.IntN(10)
		for h := range 24 {
			v := shape(float64(h))
			switch kind {
			case "more":
				v *= 1.6
			case "less":
				v *= 0.5
			case "burst":
				if h >= at && h < at+3 {
					v *= 2.5
				}
			case "outage":
				if h >= at && h < at+4 {
					v = 0
				}
			case "shifted":
				v = shape(float64((h + 19) % 24))
			case "flat":
				v = total / 24
			case "night":
				v = shape(float64((h + 12) % 24))
			}
			mean := v * day
			g.Values[d*24+h] = max(0, math.Round(mean*(1+noise*r.NormFloat64())+math.Sqrt(mean)*r.NormFloat64()))
		}
	}
	return g
}

// Score is how well days were found.
type Score struct{ Found, Missed, Wrong int }

// Precision is the share of what was said that is true; 1 of nothing.
func (s Score) Precision() float64 { return share(s.Found, s.Wrong) }

// Recall is the share of what is true that was said; 1 of nothing.
func (s Score) Recall() float64 { return share(s.Found, s.Missed) }

func share(n, others int) float64 {
	if n+others == 0 {
		return 1
	}
	return float64(n) / float64(n+others)
}

// Add counts a series; said are the days that something was said of.
func (s *Score) Add(truth map[int]string, said map[int]bool) {
	for d := range truth {
		if said[d] {
			s.Found++
		} else {
			s.Missed++
		}
	}
	for d, yes := range said {
		if _, there := truth[d]; yes && !there {
			s.Wrong++
		}
	}
}
