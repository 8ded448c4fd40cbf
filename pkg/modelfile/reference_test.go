package modelfile

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"reflect"
	"testing"
)

func referenceOf(rows, features int) (*Reference, []float32, []float64) {
	r := rand.New(rand.NewPCG(1, 2))
	values, scores := make([]float32, rows*features), make([]float64, rows)
	for i := range values {
		values[i] = float32(10*float64(i%features) + r.NormFloat64())
	}
	for i := range scores {
		scores[i] = r.Float64()
	}
	return LearnReference(values, features, scores), values, scores
}

// The training rows, counted, are what the reference holds of them; and it is the same after it was a file's.
func TestReferenceCounts(t *testing.T) {
	ref, values, scores := referenceOf(1000, 3)
	b, err := json.Marshal(Header{Algorithm: IsolationForest, Features: []string{"a", "b", "c"}, Reference: ref})
	if err != nil {
		t.Fatal(err)
	}
	var h Header
	if err := json.Unmarshal(b, &h); err != nil || !reflect.DeepEqual(h.Reference, ref) || h.Reference.Validate(3) != nil {
		t.Fatal(err, h.Reference.Validate(3))
	}
	sum := h.Reference.NewTally()
	for i, s := range scores {
		h.Reference.Counter().Count(&sum, float32(s), values[i*3:i*3+3])
	}
	at := 0
	for i, s := range append([]Spread{ref.Score}, ref.Features[0].Spread, ref.Features[1].Spread, ref.Features[2].Spread) {
		for k, n := range s.Counts {
			if sum.Bins[at+k] != uint64(n) {
				t.Errorf("variable %d, bin %d: %d, want %d", i, k, sum.Bins[at+k], n)
			}
		}
		at += len(s.Counts)
		if len(s.Counts) != deciles || math.Abs(float64(sum.Moved[i]))/Step/1000 > 0.01 || math.Abs(float64(sum.Squares[i])/Step/Step/1000-1) > 0.01 {
			t.Errorf("variable %d: %d bins, moved %d, squares %d", i, len(s.Counts), sum.Moved[i], sum.Squares[i])
		}
	}
	sum = h.Reference.NewTally()
	h.Reference.Counter().Count(&sum, float32(math.NaN()), []float32{float32(math.Inf(1)), float32(math.Inf(-1)), math.MaxFloat32})
	if sum.Moved[0] != 0 || sum.Moved[1] != Farthest*Step || sum.Moved[2] != -Farthest*Step || sum.Moved[3] != Farthest*Step {
		t.Error(sum.Moved)
	}
}

// Values that many rows have stand by themselves, so that constants and switches are watched on both sides.
func TestReferenceOfDiscreteValues(t *testing.T) {
	values, scores := make([]float32, 2000), make([]float64, 1000)
	for i := range scores {
		values[2*i], values[2*i+1] = 7, float32(i%4/3) // three quarters are 0
	}
	ref := LearnReference(values, 2, scores)
	for i, want := range map[int][]uint32{0: {0, 1000, 0}, 1: {0, 750, 0, 250, 0}} {
		if got := ref.Features[i].Counts; !reflect.DeepEqual(got, want) {
			t.Errorf("feature %d: %v at %v", i, got, ref.Features[i].Cuts)
		}
	}
	sum := ref.NewTally()
	for _, v := range []float32{6.999, 7, 7, 7.001} {
		ref.Counter().Count(&sum, 0, []float32{v, float32(math.Copysign(0, -1))})
	}
	if s := ref.Features[0]; s.SD != 0 || s.Mean != 7 || !reflect.DeepEqual(sum.Bins[len(ref.Score.Counts):], []uint64{1, 2, 1, 0, 4, 0, 0, 0}) || sum.Moved[1] != 0 {
		t.Errorf("%+v %v", s, sum)
	}
	if err := ref.Validate(2); err != nil {
		t.Error(err)
	}
	if one := LearnReference([]float32{math.MaxFloat32}, 1, []float64{1}); one.Validate(1) != nil {
		t.Error(one.Validate(1))
	}
}

// A wide model's reference is no larger than that of 64 features, which are spread over all of them; of many rows a part is used.
func TestReferenceIsBounded(t *testing.T) {
	wide, _, _ := referenceOf(100, 5000)
	if err := wide.Validate(5000); err != nil || len(wide.Features) != MaxWatched || wide.Features[1].Number != 78 || wide.Features[63].Number != 4921 {
		t.Fatal(err, len(wide.Features), wide.Features[1].Number, wide.Features[63].Number)
	}
	b, err := json.Marshal(wide)
	if err != nil || len(b) > 20_000 {
		t.Error(len(b), err)
	}
	many, _, _ := referenceOf(200_000, 1)
	if many.Rows != maxReferenceRows || many.Validate(1) != nil || math.Abs(many.Features[0].Mean) > 0.03 {
		t.Error(many.Rows, many.Features[0].Mean)
	}
}

// Nothing that was read is believed.
func TestBadReferences(t *testing.T) {
	for name, spoil := range map[string]func(*Reference){
		"format":     func(r *Reference) { r.Format = 2 },
		"rows":       func(r *Reference) { r.Rows = 0 },
		"feature":    func(r *Reference) { r.Features[1].Number = 3 },
		"twice":      func(r *Reference) { r.Features[1].Number = 0 },
		"order":      func(r *Reference) { r.Score.Cuts[1] = r.Score.Cuts[0] },
		"no number":  func(r *Reference) { r.Features[2].Cuts[0] = float32(math.NaN()) },
		"counts":     func(r *Reference) { r.Features[2].Counts = r.Features[2].Counts[1:] },
		"other rows": func(r *Reference) { r.Features[2].Counts[0]++ },
		"no cuts":    func(r *Reference) { r.Score = Spread{Counts: []uint32{1000}} },
		"sd":         func(r *Reference) { r.Score.SD = -1 },
		"mean":       func(r *Reference) { r.Score.Mean = math.Inf(1) },
		"too many":   func(r *Reference) { r.Features = make([]Feature, MaxWatched+1) },
	} {
		ref, _, _ := referenceOf(1000, 3)
		spoil(ref)
		if ref.Validate(3) == nil {
			t.Errorf("%s: it was believed", name)
		}
	}
}

func BenchmarkReferenceCount(b *testing.B) {
	for _, features := range []int{6, 12, 64} {
		b.Run(map[int]string{6: "6", 12: "12", 64: "64"}[features], func(b *testing.B) {
			ref, values, scores := referenceOf(1000, features)
			t, c := ref.NewTally(), ref.Counter()
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				k := i % 1000
				c.Count(&t, float32(scores[k]), values[k*features:(k+1)*features])
			}
		})
	}
}
