package drift

import (
	"cmp"
	"math"
	"slices"
	"time"

	"gonum.org/v1/gonum/stat/distuv"

	"github.com/tocsin-io/tocsin/pkg/modelfile"
)

// State is what is found of a model or of one of its variables.
type State string

// States. A variable has one of the last four.
const (
	NoReference State = "no_reference" // the model's file does not say how its training rows were spread
	NoWindows   State = "no_windows"   // nobody in the stream asked the model in that time
	TooFew      State = "too_few"      // a drift that matters could not be told from chance yet
	Stable      State = "stable"
	Moved       State = "moved"   // beyond chance, and PSI at least 0.1: worth looking at
	Drifted     State = "drifted" // beyond chance, and PSI at least 0.25: not what the model was trained on
)

// Bounds of the population stability index, by convention (Siddiqi 2006, "Credit risk scorecards"): less than 0.1 is no change that matters, 0.25 and more a large one.
const (
	psiMoved   = 0.1
	psiDrifted = 0.25
)

// leastExpected is how many independent windows a bin must be worth for chi-square to hold (Cochran 1954).
const leastExpected = 5

// falseAlarms is the chance that anything is said of a model whose variables have not changed: it is shared by its variables.
const falseAlarms = 0.01

// Verdict is what is found of one model over a time.
type Verdict struct {
	Model   string    `json:"model"` // name@version
	State   State     `json:"state"`
	Says    string    `json:"says"`
	Windows uint64    `json:"windows"` // that it had an opinion of
	From    time.Time `json:"from"`    // of those
	To      time.Time `json:"to"`
	Rows    int       `json:"reference_rows"` // of training that it is held against
	// Features of the model, and how many of them are watched.
	Features int `json:"features"`
	Watched  int `json:"watched"`
	// PSI is the highest of the variables that have moved or drifted; 0: none has.
	PSI       float64    `json:"psi"`
	Score     *Variable  `json:"score,omitempty"`
	Variables []Variable `json:"variables,omitempty"` // the watched features, those that have changed most first
	// Retrain is a command that trains the next version; empty unless the model has moved or drifted.
	Retrain string `json:"retrain,omitempty"`
}

// Variable is what is found of the score, or of a feature.
type Variable struct {
	Name  string `json:"name"`
	State State  `json:"state"`
	Says  string `json:"says"`
	// PSI is the population stability index less what chance alone gives, which is Chance on average; it is at least 0.
	PSI    float64 `json:"psi"`
	Chance float64 `json:"chance"`
	// Bound is what PSI and Chance together must exceed to be no chance.
	Bound float64 `json:"bound"`
	// Worth is how many independent windows the windows are worth: those of a machine follow each other.
	Worth float64 `json:"worth_windows"`
	// Shift is by how many standard deviations of training the mean has moved, Spread the standard deviation as a multiple of training's; null: all training rows had one value.
	Shift  *float64 `json:"shift"`
	Spread *float64 `json:"spread"`
	// Mean and SD of the training rows.
	Mean float64 `json:"trained_mean"`
	SD   float64 `json:"trained_sd"`
	// Cuts part the bins; Trained and Now are shares of rows and of windows by bin, one more.
	Cuts    []float32 `json:"cuts"`
	Trained []float64 `json:"trained"`
	Now     []float64 `json:"now"`
	// Course is the PSI of consecutive stretches of the time, as it is, chance and all.
	Course []Point `json:"course"`
}

// Point is one stretch.
type Point struct {
	From    time.Time `json:"from"`
	Windows uint64    `json:"windows"`
	PSI     float64   `json:"psi"`
}

// Model is what is known of the model that is judged.
type Model struct {
	Ref       string // name@version
	Features  []string
	Reference *modelfile.Reference // nil: it has none
}

// Judge says how m did in [from, to).
func (b *Book) Judge(m *Model, from, to time.Time) Verdict {
	c := b.counted(m.Ref, from, to, m.Reference)
	v := Verdict{Model: m.Ref, Windows: c.windows, From: c.from, To: c.to, Features: len(m.Features)}
	if m.Reference != nil {
		v.Rows, v.Watched = m.Reference.Rows, len(m.Reference.Features)
	}
	switch {
	case c.windows == 0:
		v.From, v.To, v.State = from.UTC(), to.UTC(), NoWindows
	case m.Reference == nil:
		v.State = NoReference
	default:
		judgeVariables(&v, m, c.batches)
	}
	v.Says = v.say()
	return v
}

func judgeVariables(v *Verdict, m *Model, batches []batch) {
	r := m.Reference
	at := 0
	one := func(number int, name string, s *modelfile.Spread) Variable {
		bins := len(s.Counts)
		x := judge(s, r.Rows, batches, number, at, falseAlarms/float64(r.Variables()))
		at += bins
		x.Name = name
		x.Says = x.say(number == 0)
		return x
	}
	score := one(0, "score", &r.Score)
	v.Score = &score
	v.State = Stable
	for i := range r.Features {
		f := &r.Features[i]
		v.Variables = append(v.Variables, one(1+i, m.Features[f.Number], &f.Spread))
	}
	slices.SortStableFunc(v.Variables, func(a, b Variable) int {
		return cmp.Or(cmp.Compare(rank(b.State), rank(a.State)), cmp.Compare(b.PSI, a.PSI))
	})
	if score.State == TooFew {
		v.State = TooFew
	}
	for _, x := range append([]Variable{score}, v.Variables...) {
		if x.changed() {
			v.PSI = max(v.PSI, x.PSI)
			if !(Variable{State: v.State}).changed() || rank(x.State) > rank(v.State) {
				v.State = x.State
			}
		}
	}
}

func (x Variable) changed() bool { return x.State == Moved || x.State == Drifted }

func rank(s State) int { return slices.Index([]State{Stable, TooFew, Moved, Drifted}, s) }

// judge holds what was counted of one variable, whose bins begin at the given one, against how it was spread in training. alpha is the chance that it finds something where nothing has changed.
//
// Windows are no independent draws: those of a machine follow each other, and a day has its course. So their number is divided by the design effect, never less than 1, estimated from how the shares of the bins differ between
// consecutive batches (Rao and Scott 1981). With n independent windows and m rows the PSI of an unchanged variable in k bins is (1/n + 1/m) times chi-square with k-1 degrees of freedom (Yurdakul 2018); as the
// design effect is itself an estimate of so many batches, chi-square gives way to F, of a third of the degrees of freedom: windows that follow each other move neighbouring bins together, so that most of the
// variation is in few directions (Rao and Scott 1984; in first-order autoregression the slowest has a third of that of ten bins). Batches are halved and quartered in number, and the highest bound counts: what lasts as long as a short batch makes those look alike.
func judge(s *modelfile.Spread, rows int, batches []batch, variable, at int, alpha float64) Variable {
	k := len(s.Counts)
	x := Variable{State: TooFew, Mean: s.Mean, SD: s.SD, Cuts: s.Cuts, Trained: make([]float64, k), Now: make([]float64, k), Course: []Point{}}
	counts := make([]float64, k)
	var n, moved, squares float64
	for _, b := range batches {
		bins := b.tally.Bins[at : at+k]
		of := 0.0
		for i, c := range bins {
			counts[i] += float64(c)
			of += float64(c)
		}
		if of == 0 {
			continue
		}
		n += of
		moved += float64(b.tally.Moved[variable]) / modelfile.Step
		squares += float64(b.tally.Squares[variable]) / (modelfile.Step * modelfile.Step)
		x.Course = append(x.Course, Point{b.from, uint64(of), psi(s.Counts, rows, floats(bins), of)})
	}
	used := 0 // bins that anything is in
	for i, c := range s.Counts {
		x.Trained[i] = float64(c) / float64(rows)
		if n > 0 {
			x.Now[i] = counts[i] / n
		}
		if c > 0 || counts[i] > 0 {
			used++
		}
	}
	if n == 0 {
		return x
	}
	if s.SD > 0 {
		shift := moved / n
		spread := math.Sqrt(max(0, squares/n-shift*shift))
		x.Shift, x.Spread = &shift, &spread
	}
	if len(x.Course) < leastBatches {
		return x
	}
	if used < 2 { // it is the one value that it always was
		x.State, x.Worth = Stable, n
		return x
	}
	free := float64(used - 1)
	directions := max(min(free, 3), free/3)
	bins := binsOf(batches, at, k)
	growth := 1.0
	for shorter := math.Inf(1); ; {
		effect := designEffect(bins, counts, n)
		growth *= max(1, effect/shorter)
		worth := n / (effect * growth) // an effect that grows with the batches' length goes on growing beyond it
		shorter = effect
		per := 1/worth + 1/float64(rows)
		chance := distuv.F{D1: directions, D2: directions * float64(len(bins)-1)}
		if bound := free * per * chance.Quantile(1-alpha); bound > x.Bound {
			x.Worth, x.Chance, x.Bound = worth, free*per, bound
		}
		if len(bins)/2 < fewestBatches {
			break
		}
		bins = halved(bins)
	}
	scaled := make([]float64, k)
	for i, c := range counts {
		scaled[i] = c / n * x.Worth
	}
	raw := psi(s.Counts, rows, scaled, x.Worth)
	x.PSI = max(0, raw-x.Chance)
	switch {
	case x.Worth < leastExpected*float64(used):
		x.State = TooFew
	case raw > x.Bound && x.PSI >= psiDrifted:
		x.State = Drifted
	case raw > x.Bound && x.PSI >= psiMoved:
		x.State = Moved
	case raw <= x.Bound && x.Bound-x.Chance > psiDrifted:
		x.State = TooFew
	default:
		x.State = Stable
	}
	return x
}

// binsOf is what was counted of a variable in each batch that has any.
func binsOf(batches []batch, at, k int) (out [][]float64) {
	for _, b := range batches {
		if bins := floats(b.tally.Bins[at : at+k]); sum(bins) > 0 {
			out = append(out, bins)
		}
	}
	return out
}

// halved joins neighbours; the last of an odd number stays alone.
func halved(batches [][]float64) (out [][]float64) {
	for i, b := range batches {
		if i%2 == 0 {
			out = append(out, slices.Clone(b))
			continue
		}
		for k, c := range b {
			out[i/2][k] += c
		}
	}
	return out
}

func sum(of []float64) (n float64) {
	for _, c := range of {
		n += c
	}
	return n
}

// designEffect is by how much the shares of the bins vary more between batches than those of as many independent windows would: the mean over the bins, as Rao and Scott (1981) weigh it for a test of fit. counts are those
// of all batches, n their sum.
func designEffect(batches [][]float64, counts []float64, n float64) float64 {
	m := float64(len(batches))
	effect, used := 0.0, 0.0
	for k, c := range counts {
		if c == 0 {
			continue
		}
		used++
		squares := 0.0
		for _, b := range batches {
			d := b[k] - c/n*sum(b)
			squares += d * d
		}
		effect += squares * m / (m - 1) / c // n/p times the variance of the bin's share p; 1-p for independent windows
	}
	if used < 2 {
		return 1
	}
	return max(1, effect/(used-1))
}

// psi is the population stability index of counts, of which there are n, against those of the training rows. Half a count is added to each bin that is in use, so that an empty one is finite.
func psi(trained []uint32, rows int, now []float64, n float64) (index float64) {
	used := 0.0
	for i, c := range trained {
		if c > 0 || now[i] > 0 {
			used++
		}
	}
	for i, c := range trained {
		if c > 0 || now[i] > 0 {
			p, q := (float64(c)+0.5)/(float64(rows)+used/2), (now[i]+0.5)/(n+used/2)
			index += (q - p) * math.Log(q/p)
		}
	}
	return index
}

func floats(counts []uint64) []float64 {
	out := make([]float64, len(counts))
	for i, c := range counts {
		out[i] = float64(c)
	}
	return out
}
