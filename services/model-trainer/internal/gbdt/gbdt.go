// Package gbdt is gradient boosting of decision trees: Friedman (2001), "Greedy function approximation: a gradient boosting machine", with histograms of binned values and trees that grow at the
// leaf that gains most, after Ke et al. (2017), "LightGBM: a highly efficient gradient boosting decision tree". It learns a number (squared error) or a class (logistic and softmax deviance).
//
// A missing value (NaN) stands below every number. Where the table is small every value has a bin of its own, so that cuts in thin tails, where failures are, lie where they belong.
//
// No I/O, no clock; the seed decides everything random, and sums are taken in one order whatever the number of processors: the same rows give the same model, byte for byte. Memory of a training: two bytes for each
// value, and the histograms of a tree's leaves (leaves * features * bins * 20 bytes at most). A model is not changed by predicting: any number of goroutines may use it.
package gbdt

import (
	"errors"
	"fmt"
	"math"
)

// Params of the training.
type Params struct {
	Trees        int     `json:"trees"`         // rounds; with more than two classes each has a tree for each class
	LearningRate float64 `json:"learning_rate"` // what a tree's word is multiplied with
	Leaves       int     `json:"leaves"`        // most of a tree
	MinRows      int     `json:"min_rows"`      // fewest of a leaf
	L2           float64 `json:"l2"`            // added to the sum of second derivatives
	RowShare     float64 `json:"row_share"`     // of the rows, drawn for each tree
	FeatureShare float64 `json:"feature_share"` // of the features, drawn for each tree
	// Bins for each feature; 0: as many as there are values in tables of up to 16,384 rows, 255 in larger ones.
	Bins int    `json:"bins"`
	Seed uint64 `json:"seed"`
}

// DefaultParams suit tables of some thousand to some hundred thousand rows.
func DefaultParams() Params {
	return Params{Trees: 250, LearningRate: 0.05, Leaves: 15, MinRows: 20, RowShare: 1, FeatureShare: 1, Seed: 1}
}

// Bounds of the parameters, also for models that are read back.
const (
	MaxTrees    = 20_000
	MaxLeaves   = 4096
	MaxFeatures = 65_535
	MaxClasses  = 256
	MaxBins     = 65_535

	exactRows   = 16_384
	defaultBins = 255
)

// Validate names the field that is wrong.
func (p Params) Validate() error {
	switch {
	case p.Trees < 1 || p.Trees > MaxTrees:
		return fmt.Errorf("trees: %d is not between 1 and %d", p.Trees, MaxTrees)
	case !(p.LearningRate > 0 && p.LearningRate <= 1):
		return fmt.Errorf("learning_rate: %v is not in (0, 1]", p.LearningRate)
	case p.Leaves < 2 || p.Leaves > MaxLeaves:
		return fmt.Errorf("leaves: %d is not between 2 and %d", p.Leaves, MaxLeaves)
	case p.MinRows < 1:
		return fmt.Errorf("min_rows: %d is less than 1", p.MinRows)
	case !(p.L2 >= 0 && p.L2 <= 1e9):
		return fmt.Errorf("l2: %v is not between 0 and 1e9", p.L2)
	case !(p.RowShare > 0 && p.RowShare <= 1):
		return fmt.Errorf("row_share: %v is not in (0, 1]", p.RowShare)
	case !(p.FeatureShare > 0 && p.FeatureShare <= 1):
		return fmt.Errorf("feature_share: %v is not in (0, 1]", p.FeatureShare)
	case p.Bins != 0 && (p.Bins < 2 || p.Bins > MaxBins):
		return fmt.Errorf("bins: %d is neither 0 nor between 2 and %d", p.Bins, MaxBins)
	}
	return nil
}

// Matrix is rows by features, feature by feature. NaN is a missing value; there is no infinity.
type Matrix struct {
	Rows    int
	Columns [][]float32
}

func (m Matrix) check() error {
	if len(m.Columns) < 1 || len(m.Columns) > MaxFeatures {
		return fmt.Errorf("features: %d is not between 1 and %d", len(m.Columns), MaxFeatures)
	}
	for i, c := range m.Columns {
		if len(c) != m.Rows {
			return fmt.Errorf("features: number %d has %d rows of %d", i, len(c), m.Rows)
		}
	}
	if m.Rows < 2 {
		return fmt.Errorf("rows: at least 2 are needed, there are %d", m.Rows)
	}
	return nil
}

// Model is a trained model. outputs is 1 for a number or for the log-odds of the second of two classes, else the number of classes.
type Model struct {
	features int
	outputs  int
	base     []float64 // by output
	trees    []tree    // round by round, output by output
}

// Features is the number of values in a row.
func (m *Model) Features() int { return m.features }

// Outputs is the number of values that Predict gives for a row.
func (m *Model) Outputs() int { return m.outputs }

// node sends a row to left when its feature is missing or at most cut, else to left+1. A leaf has left < 0 and its value in cut's place.
type node struct {
	feature int32
	left    int32
	cut     float32
}

type tree struct {
	nodes  []node
	values []float64 // by node; of leaves only
}

func (t *tree) predict(row []float32) float64 {
	at := int32(0)
	for {
		n := &t.nodes[at]
		if n.left < 0 {
			return t.values[at]
		}
		at = n.left
		if row[n.feature] > n.cut { // false for NaN
			at++
		}
	}
}

// Predict sets dst to the raw outputs of a row: the number, the log-odds, or the classes' logits. It does not allocate.
func (m *Model) Predict(dst []float64, row []float32) {
	dst = dst[:m.outputs]
	copy(dst, m.base)
	for i := 0; i < len(m.trees); i += m.outputs {
		for k := range dst {
			dst[k] += m.trees[i+k].predict(row)
		}
	}
}

// Probabilities turns raw outputs into the classes' probabilities: two of them for one output.
func Probabilities(dst, raw []float64) []float64 {
	if len(raw) == 1 {
		p := sigmoid(raw[0])
		return append(dst, 1-p, p)
	}
	start := len(dst)
	dst = append(dst, raw...)
	softmax(dst[start:])
	return dst
}

func sigmoid(x float64) float64 { return 1 / (1 + math.Exp(-x)) }

func softmax(x []float64) {
	most := x[0]
	for _, v := range x {
		most = max(most, v)
	}
	sum := 0.0
	for i, v := range x {
		x[i] = math.Exp(v - most)
		sum += x[i]
	}
	for i := range x {
		x[i] /= sum
	}
}

var errTarget = errors.New("target: a value is not finite")

// TrainNumber learns y. Cost: trees * rows * features steps for each level of the trees, shared among the processors.
func TrainNumber(x Matrix, y []float64, p Params) (*Model, error) {
	if err := checkTraining(x, len(y), p); err != nil {
		return nil, err
	}
	mean := 0.0
	for i, v := range y {
		if math.IsNaN(v) || math.IsInf(v, 0) {
			return nil, errTarget
		}
		mean += (v - mean) / float64(i+1)
	}
	return train(x, []float64{mean}, p, func(raw [][]float64, _ int, g, h []float64) {
		for i, v := range raw[0] {
			g[i], h[i] = v-y[i], 1
		}
	}), nil
}

// TrainClass learns which of the classes 0..classes-1 a row is of.
func TrainClass(x Matrix, class []int, classes int, p Params) (*Model, error) {
	if err := checkTraining(x, len(class), p); err != nil {
		return nil, err
	}
	if classes < 2 || classes > MaxClasses {
		return nil, fmt.Errorf("target: %d classes, there must be 2 to %d", classes, MaxClasses)
	}
	count := make([]float64, classes)
	for _, c := range class {
		if c < 0 || c >= classes {
			return nil, fmt.Errorf("target: class %d of %d", c, classes)
		}
		count[c]++
	}
	if classes == 2 {
		// A class without rows is as one with half a row.
		base := math.Log(max(count[1], 0.5) / max(count[0], 0.5))
		return train(x, []float64{base}, p, func(raw [][]float64, _ int, g, h []float64) {
			for i, v := range raw[0] {
				q := sigmoid(v)
				g[i], h[i] = q-float64(class[i]), q*(1-q)
			}
		}), nil
	}
	base := make([]float64, classes)
	for k, n := range count {
		base[k] = math.Log(max(n, 0.5) / float64(len(class)))
	}
	// All of a round's trees see the probabilities before it.
	prob, last := make([][]float64, len(class)), -1
	room := make([]float64, len(class)*classes)
	for i := range prob {
		prob[i] = room[i*classes : (i+1)*classes]
	}
	factor := float64(classes) / float64(classes-1) // Friedman's (K-1)/K, in the second derivative
	return train(x, base, p, func(raw [][]float64, k int, g, h []float64) {
		if k == 0 || last < 0 {
			for i, q := range prob {
				for c := range q {
					q[c] = raw[c][i]
				}
				softmax(q)
			}
		}
		last = k
		for i, q := range prob {
			g[i], h[i] = q[k], factor*q[k]*(1-q[k])
			if class[i] == k {
				g[i]--
			}
		}
	}), nil
}

func checkTraining(x Matrix, targets int, p Params) error {
	if err := p.Validate(); err != nil {
		return err
	}
	if err := x.check(); err != nil {
		return err
	}
	if targets != x.Rows {
		return fmt.Errorf("target: %d values for %d rows", targets, x.Rows)
	}
	return nil
}
