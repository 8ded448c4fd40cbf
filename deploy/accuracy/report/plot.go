package report

import (
	"fmt"
	"strings"

	"github.com/tocsin-io/tocsin/deploy/accuracy/score"
	"github.com/tocsin-io/tocsin/deploy/accuracy/trial"
)

// Plot is one file's score in time, with what was true.
type Plot struct {
	Name, Note string
	SVG        string
}

// Sizes of a plot in pixels.
const (
	plotWidth  = 960
	plotHeight = 90
	flagHeight = 8
)

// Draw one file: its anomalies shaded, rows that do not count grey, the score (the highest of each pixel's rows), flags as a band below it, and the
// threshold if the protocol has one. Colours come from the page's style.
func Draw(j *trial.Judged, threshold float64) string {
	var b strings.Builder
	rows := max(1, j.Rows())
	x := func(row int) float64 { return float64(row) * plotWidth / float64(rows) }
	fmt.Fprintf(&b, `<svg viewBox="0 0 %d %d" role="img">`, plotWidth, plotHeight+flagHeight+4)
	if j.From > 0 {
		fmt.Fprintf(&b, `<rect class="train" x="0" y="0" width="%.1f" height="%d"/>`, x(j.From), plotHeight)
	}
	for _, v := range j.Events {
		fmt.Fprintf(&b, `<rect class="event" x="%.1f" y="0" width="%.1f" height="%d"/>`, x(v.First), max(1, x(v.Last+1)-x(v.First)), plotHeight)
	}
	if threshold > 0 && threshold <= 1 {
		fmt.Fprintf(&b, `<line class="threshold" x1="0" x2="%d" y1="%.1f" y2="%.1f"/>`, plotWidth, (1-threshold)*plotHeight, (1-threshold)*plotHeight)
	}
	b.WriteString(`<polyline class="score" points="`)
	pixels := min(plotWidth, rows)
	for p := range pixels {
		first, last := p*rows/pixels, (p+1)*rows/pixels
		top := 0.0
		for _, s := range j.Scores[first:last] {
			top = max(top, s)
		}
		fmt.Fprintf(&b, "%.0f,%.1f ", float64(p)*plotWidth/float64(pixels), (1-top)*plotHeight)
	}
	b.WriteString(`"/>`)
	for _, v := range score.Runs(j.Flags) {
		class := "false"
		for i := v.First; i <= v.Last; i++ {
			if j.Anomalous[i] {
				class = "true"
				break
			}
		}
		fmt.Fprintf(&b, `<rect class="%s" x="%.1f" y="%d" width="%.1f" height="%d"/>`, class, x(v.First), plotHeight+2, max(1, x(v.Last+1)-x(v.First)), flagHeight)
	}
	b.WriteString(`</svg>`)
	return b.String()
}
