// Package benchwide measures how fast frames of 25,000 features are judged, beside what memory can deliver in the same run. It prints a table of ratios and writes
// it as JSON. Rounds are interleaved and the smallest time of each row counts: the machine's own speed moves between runs, ratios of one run do not.
package benchwide

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"text/tabwriter"
	"time"

	"github.com/tocsin-io/tocsin/services/stream-processor/internal/wide"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/wide/bandwidth"
)

const (
	features = 25_000
	batch    = 64
	warm     = 200
	budget   = time.Millisecond // promised for one frame
	share    = 0.8              // of the bandwidth, promised for a batch
	batches  = 4                // gone through in turn, 128 MB, so that they come from memory and not from a cache
)

// row is one line of the table.
type row struct {
	Name         string  `json:"name"`
	Microseconds float64 `json:"microseconds"`
	Bytes        int     `json:"bytes"` // that must be moved
	GBPerSecond  float64 `json:"gb_per_second"`
	OfRead       float64 `json:"of_read_bandwidth"`
	OfFiveToOne  float64 `json:"of_five_to_one_bandwidth"`
	run          func()
}

// report is out/wide.json.
type report struct {
	Features  int    `json:"features"`
	Batch     int    `json:"batch"`
	Rounds    int    `json:"rounds"`
	Processor string `json:"goarch"`
	Go        string `json:"go"`
	Rows      []row  `json:"rows"`
	FrameMet  bool   `json:"one_frame_within_1ms"`
	BatchMet  bool   `json:"batch_at_80_percent_of_bandwidth"`
}

// Run measures, prints the table to w, and writes the JSON to path.
func Run(w io.Writer, path string, rounds int) error {
	rows := problem()
	for i := range rows {
		rows[i].Microseconds = math.Inf(1)
	}
	for range rounds {
		for i := range rows {
			r := &rows[i]
			repeat := 1
			if r.Bytes < 8<<20 { // a single frame: its memory stays in the last-level cache, as it does between frames of one machine
				repeat = 10
			}
			start := time.Now()
			for range repeat {
				r.run()
			}
			r.Microseconds = min(r.Microseconds, float64(time.Since(start).Nanoseconds())/1e3/float64(repeat))
		}
	}
	for i := range rows {
		rows[i].GBPerSecond = float64(rows[i].Bytes) / rows[i].Microseconds / 1e3
	}
	for i := range rows {
		rows[i].OfRead = rows[i].GBPerSecond / rows[0].GBPerSecond
		rows[i].OfFiveToOne = rows[i].GBPerSecond / rows[1].GBPerSecond
	}
	rep := report{
		Features: features, Batch: batch, Rounds: rounds, Processor: runtime.GOARCH, Go: runtime.Version(), Rows: rows,
		FrameMet: rows[4].Microseconds <= float64(budget.Microseconds()), BatchMet: rows[2].OfRead >= share,
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\tmicroseconds\tMB moved\tGB/s\tof reading\tof five to one\t")
	for _, r := range rows {
		fmt.Fprintf(t, "%s\t%.0f\t%.1f\t%.1f\t%.0f %%\t%.0f %%\t\n", r.Name, r.Microseconds, float64(r.Bytes)/1e6, r.GBPerSecond, 100*r.OfRead, 100*r.OfFiveToOne)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(w, "one frame of %d within %v: %v; [%d,5,%d] at %.0f %% or more of the bandwidth of reading: %v\n",
		features, budget, rep.FrameMet, batch, features, 100*share, rep.BatchMet)
	b, err := json.MarshalIndent(rep, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o644)
}

// problem is a model that has learned, and the loops over it. The first two are what memory can do.
func problem() []row {
	r := rand.New(rand.NewPCG(1, 2))
	const float = 4
	m := wide.New(wide.DefaultConfig())
	m.Grow(features)
	newest, surprise := make([]float32, features), make([]float32, features)
	draw := func(dst []float32) {
		for i := range dst {
			dst[i] = float32(50 + 3*r.NormFloat64())
		}
	}
	at := int64(0)
	learn := func() {
		at++
		m.Push(newest, surprise, at)
		m.Learn(newest, nil, at)
	}
	for range warm {
		draw(newest)
		m.Surprises(surprise, newest)
		learn()
	}
	var all [batches][]float32
	for i := range all {
		all[i] = make([]float32, batch*wide.WindowSize*features)
		draw(all[i])
	}
	turn := 0
	next := func() []float32 {
		turn++
		return all[turn%batches]
	}
	scores := make([]float32, batch*features)
	size := len(all[0]) * float
	var jury wide.Jury
	var sink float32
	return []row{
		{Name: "reading the batch", Bytes: size, run: func() { sink += bandwidth.Read(next()) }},
		{Name: "five rows to one", Bytes: size + len(scores)*float, run: func() {
			x := next()
			for b := range batch { // row by row, as the kernel does
				from := x[b*wide.WindowSize*features:]
				bandwidth.FiveToOne(scores[b*features:][:features], from, from[features:], from[2*features:], from[3*features:], from[4*features:])
			}
		}},
		{Name: "scores of [64,5,25000]", Bytes: size + len(scores)*float, run: func() { m.Scores(scores, next()) }},
		{Name: "the same in plain Go", Bytes: size + len(scores)*float, run: func() { m.ScoresGo(scores, next()) }},
		{Name: "one frame scored", Bytes: 13 * features * float, run: func() { m.Surprises(surprise, newest) }},
		{Name: "one frame scored, false discoveries controlled", Bytes: 14 * features * float, run: func() {
			m.Surprises(surprise, newest)
			jury.Judge(m, surprise, newest)
		}},
		{Name: "one frame scored, controlled and learned", Bytes: 40 * features * float, run: func() {
			m.Surprises(surprise, newest)
			jury.Judge(m, surprise, newest)
			learn()
		}},
	}
}
