// Package benchmemory measures what machines take of the heap once they hold all that they keep, and what for. It prints a table and writes it as JSON.
package benchmemory

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/tocsin-io/tocsin/pkg/frame"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine"
)

const (
	sensors = 100_000
	promise = 1024 // bytes per sensor
	windows = 12   // of 5 s: closed ones are kept, one is open
	epochUS = 1_700_000_000 * 1_000_000
)

// shape is how the sensors are spread over machines.
type shape struct {
	PerMachine int  `json:"sensors_per_machine"`
	Ragged     bool `json:"ragged"` // one value in ten is missing, so no two sensors have equal counts
}

func (s shape) String() string {
	text := fmt.Sprintf("%d machines x %d sensors", sensors/s.PerMachine, s.PerMachine)
	if s.Ragged {
		text += ", a tenth of the values missing"
	}
	return text
}

// result is what one shape took, in bytes per sensor.
type result struct {
	shape
	Total float64            `json:"bytes_per_sensor"`
	Parts map[string]float64 `json:"parts"`
}

// report is out/memory.json.
type report struct {
	Sensors int      `json:"sensors"`
	Promise int      `json:"promised_bytes_per_sensor"`
	Go      string   `json:"go"`
	Results []result `json:"results"`
	Met     bool     `json:"met"`
}

// Run measures every shape, prints the table to w, and writes the JSON to path. runtime.MemProfileRate must be 1 from the program's start, or there are no parts.
func Run(w io.Writer, path string) error {
	rep := report{Sensors: sensors, Promise: promise, Go: runtime.Version(), Met: true}
	for _, s := range []shape{{PerMachine: 10}, {PerMachine: 100}, {PerMachine: 10, Ragged: true}} {
		r := measure(s)
		rep.Results = append(rep.Results, r)
		rep.Met = rep.Met && (s.Ragged || r.Total <= promise)
	}
	if err := rep.print(w); err != nil {
		return err
	}
	b, err := json.MarshalIndent(rep, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o644)
}

func (rep *report) print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(t, "bytes per sensor\t")
	parts := map[string]bool{}
	for _, r := range rep.Results {
		fmt.Fprintf(t, "%s\t", r.shape)
		for p := range r.Parts {
			parts[p] = true
		}
	}
	fmt.Fprintln(t)
	names := make([]string, 0, len(parts))
	for p := range parts {
		names = append(names, p)
	}
	first := rep.Results[0].Parts
	slices.SortFunc(names, func(a, b string) int {
		if d := int(first[b] - first[a]); d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
	for _, p := range names {
		fmt.Fprintf(t, "%s\t", p)
		for _, r := range rep.Results {
			fmt.Fprintf(t, "%.0f\t", r.Parts[p])
		}
		fmt.Fprintln(t)
	}
	fmt.Fprint(t, "all of the heap\t")
	for _, r := range rep.Results {
		fmt.Fprintf(t, "%.0f\t", r.Total)
	}
	fmt.Fprintln(t)
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "%d bytes per sensor or less with the default detectors: %v\n", promise, rep.Met)
	return err
}

// measure feeds machines until they hold all that they keep. Parts are of the heap's profile, which is exact at a rate of 1; the total is the heap's growth.
func measure(s shape) result {
	before, partsBefore := heap(), parts()
	machines := fill(s)
	r := result{shape: s, Total: float64(heap()-before) / sensors, Parts: map[string]float64{}}
	for p, n := range parts() {
		if n -= partsBefore[p]; n >= sensors/2 {
			r.Parts[p] = float64(n) / sensors
		}
	}
	runtime.KeepAlive(machines)
	return r
}

func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC() // the profile is complete one cycle later
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// fill makes machines of a site: sensors of equal names, sampled together once a second.
func fill(s shape) []*machine.Machine {
	cfg := machine.DefaultConfig()
	r := rand.New(rand.NewPCG(1, 2))
	f := &frame.Frame{GatewayID: []byte("gateway-1"), SchemaID: []byte("sha256-00112233445566778899aabbccddeeff")}
	for i := range s.PerMachine {
		f.Sensors = append(f.Sensors, fmt.Appendf(nil, "bearing_%d_temperature", i))
	}
	f.Values, f.Qualities = make([]float32, s.PerMachine), make([]uint8, s.PerMachine)
	out := make([]*machine.Machine, 0, sensors/s.PerMachine)
	var o machine.Output
	for i := range cap(out) {
		m := machine.New(&cfg, fmt.Sprintf("pump-%05d", i))
		f.BaseTimeUS = epochUS + int64(i%5)*1_000_000 // machines are anywhere in their window
		for range windows * 5 {
			f.Sequence++
			f.BaseTimeUS += 1_000_000
			for k := range f.Values {
				f.Values[k], f.Qualities[k] = float32(50+r.NormFloat64()), 1
				if s.Ragged && r.IntN(10) == 0 {
					f.Qualities[k] = 4 // missing
				}
			}
			o.Reset()
			m.Apply(f, f.Sensors, machine.Meta{LogTimeMS: f.BaseTimeUS / 1000}, &o)
		}
		out = append(out, m)
	}
	return out
}

// owners tell by the innermost of these functions whose an allocation is. The names are those of the heap's profile, without the module's path.
var owners = []struct{ function, part string }{
	{"window.(*Pool).buffer", "closed windows"},
	{"window.(*Columns).grow", "open windows"},
	{"window.", "panes"},
	{"detect.newLimits", "detector limits"},
	{"detect.(*ewma)", "detector ewma"},
	{"detect.newEWMA", "detector ewma"},
	{"detect.(*spread)", "detector spread"},
	{"detect.newSpread", "detector spread"},
	{"detect.(*seasonal)", "detector seasonal"},
	{"detect.newSeasonal", "detector seasonal"},
	{"detect.(*pca)", "detector pca"},
	{"detect.newPCA", "detector pca"},
	{"machine.(*Machine).grow", "calibration of detectors"},
	{"machine.(*sequences)", "gateways and sequences"},
	{"machine.(*Machine).slot", "sensors and names"},
	{"machine.New", "machine"},
	{"machine.", "machine, other"},
}

// parts is what the heap holds by owner, in bytes.
func parts() map[string]int64 {
	records := make([]runtime.MemProfileRecord, 2000)
	n, ok := runtime.MemProfile(records, false)
	for !ok {
		records = make([]runtime.MemProfileRecord, 2*n)
		n, ok = runtime.MemProfile(records, false)
	}
	out := map[string]int64{}
	for i := range records[:n] {
		if p := owner(&records[i]); p != "" {
			out[p] += records[i].InUseBytes()
		}
	}
	return out
}

func owner(r *runtime.MemProfileRecord) string {
	frames := runtime.CallersFrames(r.Stack())
	for {
		f, more := frames.Next()
		if _, name, ok := strings.Cut(f.Function, "/stream-processor/internal/"); ok {
			for _, o := range owners {
				if strings.HasPrefix(name, o.function) && o.part != "" {
					return o.part
				}
			}
		}
		if !more {
			return ""
		}
	}
}
