package supervised

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"sort"

	"github.com/tocsin-io/tocsin/services/model-trainer/internal/feature"
	"github.com/tocsin-io/tocsin/services/model-trainer/internal/gbdt"
)

// Prediction is the word on one row.
type Prediction struct {
	Row int // of the table
	// Value, and where 90 % of true values lie, of a regression. Low and High are Value when there was no cross-validation.
	Value, Low, High float64
	// Class is the number of the class called, Probabilities those of all classes, of a classification.
	Class         int
	Probabilities []float64
}

// call is the class that is called at these probabilities.
func (p *Predictor) call(probabilities []float64) int {
	if len(probabilities) == 2 && p.head.Decide > 0 {
		if probabilities[p.head.Rare] >= p.head.Decide {
			return p.head.Rare
		}
		return 1 - p.head.Rare
	}
	return slices.Index(probabilities, slices.Max(probabilities))
}

// Predict predicts every row, or with last only each entity's last one. A row's prediction depends on it and on the rows of its entity before it.
func (p *Predictor) Predict(t *feature.Table, last bool) ([]Prediction, error) {
	raw, err := outputs(p.head.Features, p.trees, t)
	if err != nil {
		return nil, err
	}
	rows := make([]int, t.Rows)
	for i := range rows {
		rows[i] = i
	}
	if last && p.head.Spec.Recipe.Entity != "" {
		rows = t.Last(p.head.Spec.Recipe.Entity)
	}
	out := make([]Prediction, len(rows))
	for i, r := range rows {
		out[i] = Prediction{Row: r}
		if p.head.Classes != nil {
			out[i].Probabilities = gbdt.Probabilities(nil, raw[r])
			out[i].Class = p.call(out[i].Probabilities)
			continue
		}
		v := raw[r][0]
		out[i].Value, out[i].Low, out[i].High = v, v, v
		if b := p.head.Bands; len(b) > 0 {
			k := max(0, sort.Search(len(b), func(k int) bool { return b[k].From > v })-1)
			out[i].Low, out[i].High = v+b[k].Low, v+b[k].High
		}
	}
	return out, nil
}

// ErrCorrupt is wrapped by what Decode refuses.
var ErrCorrupt = errors.New("corrupt predictor")

// AppendTo appends the model: length of the head, head as JSON, trees. Equal models have equal bytes.
func (p *Predictor) AppendTo(dst []byte) []byte {
	b, err := json.Marshal(p.head)
	if err != nil { // all numbers are finite
		b = nil
	}
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(b)))
	return p.trees.AppendTo(append(dst, b...))
}

// Decode reads what AppendTo wrote. b is not trusted.
func Decode(b []byte) (*Predictor, error) {
	if len(b) < 4 || int(binary.LittleEndian.Uint32(b)) > len(b)-4 {
		return nil, fmt.Errorf("%w: cut off", ErrCorrupt)
	}
	n := int(binary.LittleEndian.Uint32(b))
	p := &Predictor{}
	if err := json.Unmarshal(b[4:4+n], &p.head); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	trees, rest, err := gbdt.Decode(b[4+n:])
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCorrupt, err)
	}
	p.trees = trees
	h := &p.head
	want := 1
	if len(h.Classes) > 2 {
		want = len(h.Classes)
	}
	ok := len(rest) == 0 && h.Features != nil && h.Features.Check() == nil && trees.Outputs() == want && len(h.Classes) != 1 && h.Spec.Validate() == nil &&
		(h.Spec.Task == Classification) == (h.Classes != nil) && (h.Rare == 0 || h.Rare == 1)
	ok = ok && slices.IsSortedFunc(h.Bands, func(a, b band) int { return int(math.Copysign(1, a.From-b.From)) })
	if !ok || trees.Features() != len(h.Features.Names()) {
		return nil, fmt.Errorf("%w: its parts do not fit", ErrCorrupt)
	}
	return p, nil
}
