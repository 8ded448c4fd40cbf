package report

import (
	"fmt"
	"html"
	"math"
	"slices"
	"strings"

	"github.com/tocsin-io/tocsin/deploy/accuracy/score"
	"github.com/tocsin-io/tocsin/deploy/accuracy/trial"
)

// Plot is one file's score in time, with what was true.
type Plot struct {
	Name string
	SVG  string
}

// Sizes of a plot in pixels.
const (
	plotWidth    = 960
	scoreHeight  = 80
	signalHeight = 34
	flagHeight   = 8
	gap          = 3
)

// Draw one file: its anomalies shaded, rows that do not count grey; some sensors, each over its own range; the score from 0 to 1 (the highest of each pixel's
// rows), with the threshold if the protocol has one; the flags as a band. Colours come from the page's style.
func Draw(j *trial.Judged, threshold float64, signals []trial.Signal) string {
	var b strings.Builder
	rows := max(1, j.Rows())
	x := func(row int) float64 { return float64(row) * plotWidth / float64(rows) }
	top := len(signals) * (signalHeight + gap)
	bottom := top + scoreHeight
	fmt.Fprintf(&b, `<svg viewBox="0 0 %d %d" role="img">`, plotWidth, bottom+2*gap+flagHeight)
	if j.From > 0 {
		fmt.Fprintf(&b, `<rect class="train" x="0" y="0" width="%.1f" height="%d"/>`, x(j.From), bottom)
	}
	for _, v := range j.Events {
		fmt.Fprintf(&b, `<rect class="event" x="%.1f" y="0" width="%.1f" height="%d"/>`, x(v.First), max(1, x(v.Last+1)-x(v.First)), bottom)
	}
	for i, s := range signals {
		at := i * (signalHeight + gap)
		fmt.Fprintf(&b, `<path class="signal" d="%s"/><text x="4" y="%d">%s</text>`, envelope(s.Values, at), at+10, html.EscapeString(s.Sensor))
	}
	if threshold > 0 && threshold <= 1 {
		y := float64(top) + (1-threshold)*scoreHeight
		fmt.Fprintf(&b, `<line class="threshold" x1="0" x2="%d" y1="%.1f" y2="%.1f"/>`, plotWidth, y, y)
	}
	b.WriteString(`<polyline class="score" points="`)
	pixels := min(plotWidth, j.Rows())
	for p := range pixels {
		highest := slices.Max(j.Scores[p*rows/pixels : (p+1)*rows/pixels])
		fmt.Fprintf(&b, "%.0f,%.1f ", float64(p)*plotWidth/float64(pixels), float64(top)+(1-highest)*scoreHeight)
	}
	b.WriteString(`"/>`)
	for _, v := range score.Runs(j.Flags) {
		class := "false"
		if slices.Contains(j.Anomalous[v.First:v.Last+1], true) {
			class = "true"
		}
		fmt.Fprintf(&b, `<rect class="%s" x="%.1f" y="%d" width="%.1f" height="%d"/>`, class, x(v.First), bottom+gap, max(1, x(v.Last+1)-x(v.First)), flagHeight)
	}
	b.WriteString(`</svg>`)
	return b.String()
}

// envelope draws the lowest and the highest value of every second pixel; pixels without values break the line.
func envelope(values []float64, at int) string {
	lowest, highest := math.Inf(1), math.Inf(-1)
	for _, v := range values {
		if !math.IsNaN(v) {
			lowest, highest = min(lowest, v), max(highest, v)
		}
	}
	span := max(highest-lowest, math.SmallestNonzeroFloat32)
	y := func(v float64) float64 { return float64(at+signalHeight) - (v-lowest)/span*signalHeight }
	var b strings.Builder
	pixels := min(plotWidth/2, len(values))
	move := byte('M')
	for p := range pixels {
		lo, hi := math.Inf(1), math.Inf(-1)
		for _, v := range values[p*len(values)/pixels : (p+1)*len(values)/pixels] {
			if !math.IsNaN(v) {
				lo, hi = min(lo, v), max(hi, v)
			}
		}
		if lo > hi {
			move = 'M'
			continue
		}
		px := float64(p) * plotWidth / float64(pixels)
		fmt.Fprintf(&b, "%c%.0f,%.0f", move, px, y(lo))
		if hi > lo {
			fmt.Fprintf(&b, "L%.0f,%.0f", px, y(hi))
		}
		move = 'L'
	}
	return b.String()
}
