package modelfile

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
)

// ReferenceFormat is the version of Reference that this build writes, and the only one it reads.
const ReferenceFormat = 1

const (
	// MaxWatched bounds the features of a Reference: of a wider model so many are watched, evenly spread over its features.
	MaxWatched = 64
	// MaxCuts bounds the cuts of one Spread: two for each decile.
	MaxCuts = 18

	deciles          = 10
	maxReferenceRows = 50_000

	// Step is the number of steps that a standard deviation has in Tally.Moved.
	Step = 256
	// Farthest is the most standard deviations that one value counts for there.
	Farthest = 100
)

// Reference is how a model's scores and the values of its features were spread when it was trained, so that what it is given later can be held against it. It stands in the model's file: some 100 bytes for each watched
// feature.
type Reference struct {
	Format   int       `json:"format"`
	Rows     int       `json:"rows"` // that it was made of
	Score    Spread    `json:"score"`
	Features []Feature `json:"features"` // those that are watched, by number
}

// Feature is the Spread of one.
type Feature struct {
	Number int `json:"feature"` // in Header.Features
	Spread
}

// Spread is the distribution of one variable in bins. A bin reaches from its cut up to the next, without that: bin 0 is below all cuts. Cuts are at the deciles; a value that a tenth of the rows have stands in a bin by itself,
// so that discrete and constant variables are watched as well.
type Spread struct {
	Cuts   []float32 `json:"cuts"`   // ascending
	Counts []uint32  `json:"counts"` // rows by bin, one more than cuts
	Mean   float64   `json:"mean"`
	SD     float64   `json:"sd"` // 0: all rows had one value
}

// LearnReference makes the reference of rows, row-major and finite, of which there is a score each. Of more than 50,000 rows a part is used, the same each time. Cost: sorting that many values of each watched feature.
func LearnReference(rows []float32, features int, scores []float64) *Reference {
	n := min(len(scores), maxReferenceRows)
	picked := make([]int, n)
	r := rand.New(rand.NewPCG(1, uint64(len(scores))))
	for i := range picked { // one of each stretch, so that whatever comes in turns does not beat with the step
		first, next := i*len(scores)/n, (i+1)*len(scores)/n
		picked[i] = first + r.IntN(next-first)
	}
	column := make([]float32, n)
	for i, row := range picked {
		column[i] = float32(scores[row])
	}
	ref := &Reference{Format: ReferenceFormat, Rows: n, Score: learnSpread(column)}
	watched := min(features, MaxWatched)
	for k := range watched {
		f := k * features / watched
		for i, row := range picked {
			column[i] = rows[row*features+f]
		}
		ref.Features = append(ref.Features, Feature{f, learnSpread(column)})
	}
	return ref
}

// learnSpread sorts values, of which there is at least one.
func learnSpread(values []float32) (s Spread) {
	slices.Sort(values)
	n := len(values)
	for _, v := range values {
		s.Mean += float64(v) / float64(n)
	}
	if values[0] == values[n-1] {
		s.Mean = float64(values[0]) // without the rounding of a sum
	} else {
		var squares float64
		for _, v := range values {
			squares += (float64(v) - s.Mean) * (float64(v) - s.Mean) / float64(n)
		}
		s.SD = math.Sqrt(squares)
	}
	cut := func(c float32) {
		if k := len(s.Cuts); (k == 0 || c > s.Cuts[k-1]) && !math.IsInf(float64(c), 0) {
			s.Cuts = append(s.Cuts, c)
		}
	}
	for k := 1; k < deciles; k++ {
		v := values[k*n/deciles] + 0 // -0 is 0
		first, _ := slices.BinarySearch(values, v)
		after := first + 1
		for after < n && values[after] == v {
			after++
		}
		cut(v)
		if (after-first)*deciles >= n {
			cut(math.Nextafter32(v, float32(math.Inf(1))))
		}
	}
	s.Counts = make([]uint32, len(s.Cuts)+1)
	cuts := make([]int64, len(s.Cuts))
	for i, c := range s.Cuts {
		cuts[i] = order(c)
	}
	for _, v := range values {
		s.Counts[binOf(cuts, v)]++
	}
	return s
}

// Validate is for references that were read: an error says that r is of another build, or no reference of a model with so many features.
func (r *Reference) Validate(features int) error {
	if r.Format != ReferenceFormat {
		return fmt.Errorf("%w: reference of format %d, this build reads %d", ErrCorrupt, r.Format, ReferenceFormat)
	}
	if r.Rows < 1 || len(r.Features) > MaxWatched {
		return fmt.Errorf("%w: reference of %d rows and %d features", ErrCorrupt, r.Rows, len(r.Features))
	}
	if err := r.Score.validate(r.Rows); err != nil {
		return fmt.Errorf("%w: reference of the score: %w", ErrCorrupt, err)
	}
	before := -1
	for i := range r.Features {
		f := &r.Features[i]
		if f.Number <= before || f.Number >= features {
			return fmt.Errorf("%w: reference of feature %d", ErrCorrupt, f.Number)
		}
		if before = f.Number; f.validate(r.Rows) != nil {
			return fmt.Errorf("%w: reference of feature %d: %w", ErrCorrupt, f.Number, f.validate(r.Rows))
		}
	}
	return nil
}

func (s *Spread) validate(rows int) error {
	if len(s.Cuts) == 0 || len(s.Cuts) > MaxCuts || len(s.Counts) != len(s.Cuts)+1 {
		return fmt.Errorf("%d cuts, %d counts", len(s.Cuts), len(s.Counts))
	}
	for i, c := range s.Cuts {
		if math.IsNaN(float64(c)) || math.IsInf(float64(c), 0) || i > 0 && c <= s.Cuts[i-1] {
			return fmt.Errorf("cut %d is %v", i, c)
		}
	}
	sum := 0
	for _, n := range s.Counts {
		sum += int(n)
	}
	if sum != rows || !(math.Abs(s.Mean) <= math.MaxFloat64) || !(s.SD >= 0 && s.SD <= math.MaxFloat64) {
		return fmt.Errorf("counts of %d rows, there were %d; mean %v, standard deviation %v", sum, rows, s.Mean, s.SD)
	}
	return nil
}

// Bins is the number of bins of all variables: those of the score, then of each feature.
func (r *Reference) Bins() int {
	n := len(r.Score.Counts)
	for i := range r.Features {
		n += len(r.Features[i].Counts)
	}
	return n
}

// Variables is the number of things that are watched: the score, and features.
func (r *Reference) Variables() int { return 1 + len(r.Features) }

// Tally counts rows into the bins of a reference. All of it are integers: tallies add up, in any order, to that of all rows.
type Tally struct {
	Bins    []uint64 // Reference.Bins of them
	Moved   []int64  // by variable: sum of the distances from the mean of training in steps of 1/Step standard deviation
	Squares []uint64 // and of their squares
}

// NewTally is one of no rows.
func (r *Reference) NewTally() Tally {
	return Tally{make([]uint64, r.Bins()), make([]int64, r.Variables()), make([]uint64, r.Variables())}
}

// Counter is a Reference prepared for counting. It is not changed by that: any number of goroutines may count at once, each into a Tally of its own.
type Counter struct{ variables []variable }

type variable struct {
	cuts    []int64 // in the order of integers
	at      int     // where its bins begin
	mean    float64
	inverse float64 // Step by the standard deviation; 0: distances are not counted
}

// Counter prepares r, which is valid.
func (r *Reference) Counter() *Counter {
	c, at := &Counter{}, 0
	add := func(s *Spread) {
		v := variable{cuts: make([]int64, len(s.Cuts)), at: at, mean: s.Mean}
		for i, cut := range s.Cuts {
			v.cuts[i] = order(cut)
		}
		if s.SD > 0 {
			v.inverse = Step / s.SD
		}
		c.variables = append(c.variables, v)
		at += len(s.Counts)
	}
	add(&r.Score)
	for i := range r.Features {
		add(&r.Features[i].Spread)
	}
	return c
}

// Count adds a row: its score, and the values of the watched features in the reference's order. A value that is no number is not counted. t is one of Reference.NewTally's. It does not allocate; some 10 ns for each variable.
func (c *Counter) Count(t *Tally, score float32, row []float32) {
	c.variables[0].count(t, 0, score)
	row = row[:len(c.variables)-1]
	for i, v := range row {
		c.variables[1+i].count(t, 1+i, v)
	}
}

func (c *variable) count(t *Tally, number int, v float32) {
	if v != v {
		return
	}
	t.Bins[c.at+binOf(c.cuts, v)]++
	if c.inverse == 0 {
		return
	}
	const (
		most  = Farthest * Step
		above = 2 * most // above 0 the conversion rounds down
	)
	z := (float64(v) - c.mean) * c.inverse
	if !(z < most) {
		z = most
	} else if z < -most {
		z = -most
	}
	step := int64(z+(above+0.5)) - above
	t.Moved[number] += step
	t.Squares[number] += uint64(step * step)
}

// binOf is the number of the bin that v, a number, is in. Values are compared as integers of the same order, so that no step branches.
func binOf(cuts []int64, v float32) int {
	at, n := order(v), int64(len(cuts))
	for _, c := range cuts {
		n += (at - c) >> 63
	}
	return int(n)
}

// order maps float32 to integers of the same order. -0 is 0.
func order(v float32) int64 {
	b := int32(math.Float32bits(v + 0))
	return int64(b ^ int32(uint32(b>>31)>>1))
}
