// Package benchwide measures how fast frames of 25,000 features are judged, beside what memory can deliver in the same run. It prints a table of ratios and writes
// it as JSON.
//
// Each round runs every loop once, right after each other, and the ratios are taken within the round, of processor time: what else runs on the machine moves all of them. Medians count, and
// the quartiles say how far rounds differ. What memory can do is said by two loops that do nearly nothing else: reading it, and five rows to one, which is the kernel's own
// access pattern and the harder mark: five streams come faster than one. Bytes are those that must be moved: the windows in and the scores out (each once), for a single frame its five rows, the model's parameters and the surprises. A batch is 32 MB, and four are gone
// through in turn, so that they come from memory; a model's parameters (0.7 MB) stay in the level 2 cache and are not counted for batches. A single frame's memory stays in the caches, as it does
// between frames of one machine: its bandwidth is that of a cache.
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
	"slices"
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

// row is one line of the table. Times and ratios are medians over rounds.
type row struct {
	Name         string     `json:"name"`
	Microseconds float64    `json:"microseconds"`
	Least        float64    `json:"least_microseconds"`
	Bytes        int        `json:"bytes"` // that must be moved
	GBPerSecond  float64    `json:"gb_per_second"`
	OfRead       float64    `json:"of_read_bandwidth"` // of the same round
	OfPattern    float64    `json:"of_five_to_one_bandwidth"`
	Quartiles    [2]float64 `json:"of_five_to_one_bandwidth_quartiles"`
	run          func()
	slow         bool
	times        []float64 // by round; NaN: not run
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

const slowEvery = 10 // rounds between those in which what takes long is run

// Run measures, prints the table to w, and writes the JSON to path.
func Run(w io.Writer, path string, rounds int) error {
	runtime.LockOSThread() // times are of the thread
	defer runtime.UnlockOSThread()
	rows := problem()
	for n := range rounds {
		for i := range rows {
			r := &rows[i]
			if r.slow && n%slowEvery > 0 {
				r.times = append(r.times, math.NaN())
				continue
			}
			repeat := 1
			if r.Bytes < 8<<20 {
				repeat = 10
			}
			start := elapsed()
			for range repeat {
				r.run()
			}
			r.times = append(r.times, float64((elapsed()-start).Nanoseconds())/1e3/float64(repeat))
		}
	}
	for i := range rows {
		rows[i].summarise(&rows[0], &rows[1])
	}
	rep := report{
		Features: features, Batch: batch, Rounds: rounds, Processor: runtime.GOARCH, Go: runtime.Version(), Rows: rows,
		FrameMet: rows[4].Microseconds <= float64(budget.Microseconds()), BatchMet: rows[2].OfRead >= share,
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\tmicroseconds\tleast\tMB moved\tGB/s\tof reading\tof five to one\tquartiles\t")
	for _, r := range rows {
		fmt.Fprintf(t, "%s\t%.0f\t%.0f\t%.1f\t%.1f\t%.0f %%\t%.0f %%\t%.0f to %.0f %%\t\n",
			r.Name, r.Microseconds, r.Least, float64(r.Bytes)/1e6, r.GBPerSecond, 100*r.OfRead, 100*r.OfPattern, 100*r.Quartiles[0], 100*r.Quartiles[1])
	}
	if err := t.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(w, "one frame of %d within %v: %v; [%d,5,%d] at %.0f %% or more of the bandwidth of reading memory: %v (median %.0f %%; of five rows to one, which moves the same bytes in the same order, %.0f %%)\n",
		features, budget, rep.FrameMet, batch, features, 100*share, rep.BatchMet, 100*rows[2].OfRead, 100*rows[2].OfPattern)
	b, err := json.MarshalIndent(rep, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o644)
}

// summarise compares a row with the two loops that say what memory can do, round by round.
func (r *row) summarise(read, pattern *row) {
	at := func(list []float64, share float64) float64 { return list[int(share*float64(len(list)-1)+0.5)] }
	ratios := func(to *row) (list []float64) {
		for n, t := range r.times {
			if t == t {
				list = append(list, float64(r.Bytes)/t/(float64(to.Bytes)/to.times[n]))
			}
		}
		slices.Sort(list)
		return list
	}
	times := slices.DeleteFunc(slices.Clone(r.times), func(t float64) bool { return t != t })
	slices.Sort(times)
	r.Microseconds, r.Least = at(times, 0.5), times[0]
	r.GBPerSecond = float64(r.Bytes) / r.Microseconds / 1e3
	ofPattern := ratios(pattern)
	r.OfRead, r.OfPattern, r.Quartiles = at(ratios(read), 0.5), at(ofPattern, 0.5), [2]float64{at(ofPattern, 0.25), at(ofPattern, 0.75)}
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
		{Name: "the same in plain Go", slow: true, Bytes: size + len(scores)*float, run: func() { m.ScoresGo(scores, next()) }},
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
