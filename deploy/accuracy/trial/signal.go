package trial

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"
)

// Signal is one sensor's readings, NaN where there is none.
type Signal struct {
	Sensor string
	Values []float64
}

// Moved reads the trial's input and gives the sensors whose mean moved most in its anomalies, measured in standard deviations of its normal rows: what
// somebody would look at who asks why an anomaly was missed. Without anomalies it gives the first sensors. At most limit of them; memory is that of the file's numbers.
func Moved(t *Trial, limit int) ([]Signal, error) {
	all, err := signals(t)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", t.Name, err)
	}
	by := make([]float64, len(all))
	order := make([]int, len(all))
	for i, s := range all {
		by[i], order[i] = moved(s.Values, t.Anomalous), i
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(by[b], by[a]) })
	out := make([]Signal, 0, limit)
	for _, i := range order[:min(limit, len(order))] {
		out = append(out, all[i])
	}
	return out, nil
}

func moved(values []float64, anomalous []bool) float64 {
	var sum, squares, n, inside, m float64
	for i, v := range values[:min(len(values), len(anomalous))] {
		switch {
		case math.IsNaN(v):
		case anomalous[i]:
			inside, m = inside+v, m+1
		default:
			sum, squares, n = sum+v, squares+v*v, n+1
		}
	}
	if n == 0 || m == 0 {
		return 0
	}
	mean := sum / n
	deviation := math.Sqrt(max(0, squares/n-mean*mean))
	if d := math.Abs(inside/m - mean); d > 0 {
		return d / max(deviation, 1e-9*math.Abs(mean), math.SmallestNonzeroFloat32)
	}
	return 0
}

func signals(t *Trial) ([]Signal, error) {
	f, err := os.Open(t.Input)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r := bufio.NewReader(f)
	head, _ := r.Peek(512) // shorter files are fine; what is wrong shows below
	in := csv.NewReader(r)
	in.ReuseRecord = true
	in.TrimLeadingSpace = true
	if line, _, _ := bytes.Cut(head, []byte("\n")); bytes.Contains(line, []byte(";")) {
		in.Comma = ';'
	}
	header, err := in.Read()
	if err != nil {
		return nil, err
	}
	var out []Signal
	var columns []int
	for i, h := range header {
		if h = strings.TrimSpace(h); slices.Contains(t.Sensors, h) {
			out, columns = append(out, Signal{Sensor: h}), append(columns, i)
		}
	}
	for {
		rec, err := in.Read()
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, err
		}
		for k, c := range columns {
			v, err := strconv.ParseFloat(strings.TrimSpace(rec[c]), 64)
			if err != nil {
				v = math.NaN()
			}
			out[k].Values = append(out[k].Values, v)
		}
	}
}
