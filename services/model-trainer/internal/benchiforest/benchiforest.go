// Package benchiforest holds the isolation forest against scikit-learn's on the same rows in the same run: 100 trees of 256 rows, 10 features, batches of 1, 100
// and 4096. Both are timed alternately on one core, and the smallest time of each counts: the machine's own speed moves between runs, ratios of one run do not.
package benchiforest

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"text/tabwriter"
	"time"

	"github.com/tocsin-io/tocsin/pkg/iforest"
)

//go:embed peer.py
var peerScript string

const (
	features  = 10
	trainRows = 4096
	testRows  = 4096
	perTurn   = 12 // repetitions of a batch in a turn
)

func batches() []int { return []int{1, 100, 4096} }

// side is one implementation's result.
type side struct {
	Version string             `json:"version"`
	AUC     float64            `json:"auc"`
	Micros  map[string]float64 `json:"microseconds_per_row"`
}

// report is out/iforest.json.
type report struct {
	Ours     side               `json:"ours"`
	Peer     side               `json:"scikit_learn"`
	Ratio    map[string]float64 `json:"ratio"`
	SameAUC  bool               `json:"auc_within_0_01"`
	FastMet  bool               `json:"at_least_100_times_at_batch_100"`
	Turns    int                `json:"turns"`
	Features int                `json:"features"`
}

// Run measures, prints the table to w, and writes the JSON to path. python is an interpreter that has scikit-learn.
func Run(ctx context.Context, w io.Writer, python, path string, turns int) error {
	values, odd := rows()
	dir, err := os.MkdirTemp("", "benchiforest")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "rows")
	if err := os.WriteFile(file, encode(values, odd), 0o600); err != nil {
		return err
	}
	forest, err := iforest.Train(values[:trainRows*features], features, iforest.DefaultParams())
	if err != nil {
		return err
	}
	test := values[trainRows*features:]
	scores := make([]float64, testRows)
	forest.Score(scores, test)
	rep := report{
		Ours:  side{Version: runtime.Version(), AUC: auc(scores, odd[trainRows:]), Micros: map[string]float64{}},
		Peer:  side{Micros: map[string]float64{}},
		Ratio: map[string]float64{}, Turns: turns, Features: features,
	}
	for range turns {
		ours(forest, test, scores, rep.Ours.Micros)
		if err := peer(ctx, python, file, &rep.Peer); err != nil {
			return err
		}
		ours(forest, test, scores, rep.Ours.Micros)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "rows at once\tours, us/row\tscikit-learn, us/row\tratio\t")
	for _, n := range batches() {
		k := strconv.Itoa(n)
		rep.Ratio[k] = rep.Peer.Micros[k] / rep.Ours.Micros[k]
		fmt.Fprintf(t, "%d\t%.2f\t%.2f\t%.0f\t\n", n, rep.Ours.Micros[k], rep.Peer.Micros[k], rep.Ratio[k])
	}
	if err := t.Flush(); err != nil {
		return err
	}
	rep.SameAUC = math.Abs(rep.Ours.AUC-rep.Peer.AUC) <= 0.01
	rep.FastMet = rep.Ratio["100"] >= 100
	fmt.Fprintf(w, "area under the ROC curve: ours %.4f, scikit-learn %s %.4f (within 0.01: %v); at least 100 times as fast at 100 rows: %v\n",
		rep.Ours.AUC, rep.Peer.Version, rep.Peer.AUC, rep.SameAUC, rep.FastMet)
	b, err := json.MarshalIndent(rep, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, append(b, '\n'), 0o644)
}

// rows are usual ones to train on, and some to score of which a tenth is shifted, by little enough that not all are found.
func rows() (values []float32, odd []bool) {
	r := rand.New(rand.NewPCG(7, 7))
	for i := range trainRows + testRows {
		isOdd := i >= trainRows && r.IntN(10) == 0
		shared := r.NormFloat64()
		for range features {
			v := 0.6*shared + 0.8*r.NormFloat64()
			if isOdd {
				v = 1.5*v + 1.2*math.Copysign(1, r.NormFloat64())
			}
			values = append(values, float32(v))
		}
		odd = append(odd, isOdd)
	}
	return values, odd
}

// encode writes each row with its label.
func encode(values []float32, odd []bool) []byte {
	var b []byte
	for i, o := range odd {
		for _, v := range values[i*features : (i+1)*features] {
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
		}
		label := float32(0)
		if o {
			label = 1
		}
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(label))
	}
	return b
}

func ours(f *iforest.Forest, rows []float32, scores []float64, best map[string]float64) {
	for _, n := range batches() {
		k := strconv.Itoa(n)
		inner := max(1, 1000/n) // so that the clock's own cost is small
		for range perTurn {
			start := time.Now()
			for range inner {
				f.Score(scores[:n], rows)
			}
			keep(best, k, float64(time.Since(start).Nanoseconds())/1e3/float64(n*inner))
		}
	}
}

func keep(best map[string]float64, k string, v float64) {
	if old, ok := best[k]; !ok || v < old {
		best[k] = v
	}
}

func peer(ctx context.Context, python, file string, best *side) error {
	cmd := exec.CommandContext(ctx, python, "-c", peerScript, file, strconv.Itoa(features), strconv.Itoa(trainRows), strconv.Itoa(perTurn)) //nolint:gosec // the Python that the caller names
	cmd.Env = append(os.Environ(), "OMP_NUM_THREADS=1")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, os.Stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("scikit-learn by %s: %w", python, err)
	}
	var s side
	if err := json.Unmarshal(out.Bytes(), &s); err != nil {
		return fmt.Errorf("what scikit-learn's side said: %w", err)
	}
	best.Version, best.AUC = s.Version, s.AUC
	for k, v := range s.Micros {
		keep(best.Micros, k, v)
	}
	return nil
}

// auc is the area under the ROC curve, by ranks (Mann-Whitney).
func auc(scores []float64, odd []bool) float64 {
	order := make([]int, len(scores))
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int {
		switch {
		case scores[a] < scores[b]:
			return -1
		case scores[a] > scores[b]:
			return 1
		}
		return 0
	})
	var below, sum, many float64
	for _, i := range order {
		if odd[i] {
			sum += below
			many++
		} else {
			below++
		}
	}
	return sum / (below * many)
}
