package score_test

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/tocsin-io/tocsin/deploy/accuracy/score"
)

const nabRows = 1000

// nabFile is a file of 1000 rows that fires at the given rows; its window is 500 to 599.
func nabFile(fires ...int) *score.NAB {
	scores := make([]float64, nabRows)
	for _, i := range fires {
		scores[i] = 1
	}
	n := new(score.NAB)
	n.Add(scores, []score.Interval{{First: 500, Last: 599}})
	return n
}

func sigmoid(y float64) float64 { return 2/(1+math.Exp(5*y)) - 1 }

func TestNABByHand(t *testing.T) {
	p := score.NABProfiles()
	standard, lowFP, lowFN := p[0], p[1], p[2]
	at := func(n *score.NAB, p score.NABProfile) float64 { return n.At(p, 0.5).Score }

	near(t, "first row of the window", at(nabFile(500), standard), 100)
	near(t, "silence", at(nabFile(), standard), 0)
	near(t, "silence, low FN", at(nabFile(), lowFN), 0)
	near(t, "in probation", at(nabFile(10, 149, 500), standard), 100)
	near(t, "first row after probation", at(nabFile(150, 500), standard), 100*(2-0.11)/2)
	near(t, "false alarm before any window", at(nabFile(400, 500), lowFP), 100*(2-0.22)/2)
	near(t, "later in the window", at(nabFile(549), standard), 100*(sigmoid(-0.51)/sigmoid(-1)+1)/2)
	near(t, "only the earliest counts", at(nabFile(500, 549, 599), standard), 100)
	near(t, "close behind the window", at(nabFile(500, 610), lowFP), 100*(2+0.22*sigmoid(11.0/99))/2)
	near(t, "far behind the window", at(nabFile(500, 999), standard), 100*(2-0.11)/2)
	near(t, "missed, low FN", at(nabFile(400), lowFN), 100*(-0.11)/3)
	if got := nabFile().Optimize(standard); got.Threshold != score.Never || got.Score != 0 {
		t.Errorf("nothing pays: %+v", got)
	}
	if r := nabFile(400, 500).Optimize(standard); r.Hit != 1 || r.FalseRows != 1 || r.Threshold != 1 {
		t.Errorf("%+v", r)
	}
}

func TestNABWindowInProbationCannotBeHit(t *testing.T) {
	n := new(score.NAB)
	n.Add(make([]float64, nabRows), []score.Interval{{First: 10, Last: 20}, {First: 500, Last: 599}})
	p := score.NABProfiles()[0]
	if r := n.At(p, 0.5); r.Score != 0 || r.Raw != -1 {
		t.Errorf("silence: %+v", r)
	}
	scores := make([]float64, nabRows)
	scores[500] = 1
	n = new(score.NAB)
	n.Add(scores, []score.Interval{{First: 10, Last: 20}, {First: 500, Last: 599}})
	// The perfect score counts both windows, so it cannot be reached: (1 + 1) of (2 + 1).
	near(t, "the other one found", n.At(p, 0.5).Score, 100*2.0/3)
}

func TestNABProbation(t *testing.T) {
	for rows, want := range map[int]int{0: 0, 10: 1, 1000: 150, 5000: 750, 20000: 750} {
		if got := score.NABProbation(rows); got != want {
			t.Errorf("%d rows: %d, want %d", rows, got, want)
		}
	}
}

func TestNABOptimizeIsTheBestThreshold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := new(score.NAB)
		thresholds := []float64{score.Never}
		for range rapid.IntRange(1, 3).Draw(t, "files") {
			rows := rapid.IntRange(1, 80).Draw(t, "rows")
			scores := make([]float64, rows)
			for i := range scores {
				scores[i] = float64(rapid.IntRange(0, 20).Draw(t, "score")) / 20
			}
			var windows []score.Interval
			for at := rapid.IntRange(0, 30).Draw(t, "gap"); at < rows; at += rapid.IntRange(2, 30).Draw(t, "gap") {
				last := min(rows-1, at+rapid.IntRange(0, 15).Draw(t, "length"))
				windows = append(windows, score.Interval{First: at, Last: last})
				at = last
			}
			n.Add(scores, windows)
			thresholds = append(thresholds, scores...)
		}
		slices.Sort(thresholds)
		for _, p := range score.NABProfiles() {
			best := n.Optimize(p)
			if best.Score < 0 || best.Score > 100+1e-9 {
				t.Fatalf("%s: score %v", p.Name, best.Score)
			}
			for _, x := range slices.Compact(thresholds) {
				if r := n.At(p, x); r.Raw > best.Raw+1e-9 {
					t.Fatalf("%s: %v at threshold %v, Optimize found %v at %v", p.Name, r.Raw, x, best.Raw, best.Threshold)
				}
			}
		}
	})
}

// changes of 1000 rows a second apart, with true changes at the given rows and flags in the intervals.
func changes(changed []int, flagged ...score.Interval) *score.ChangePoints {
	seconds, at := make([]float64, nabRows), make([]bool, nabRows)
	for i := range seconds {
		seconds[i] = float64(i)
	}
	for _, i := range changed {
		at[i] = true
	}
	c := new(score.ChangePoints)
	c.Add(seconds, at, mask(nabRows, flagged...))
	return c
}

func TestChangePointsByHand(t *testing.T) {
	p := score.NABProfiles()
	perfect := changes([]int{600, 800}, score.Interval{First: 600, Last: 799})
	near(t, "perfect", perfect.Score(p[0]), 100)
	silent := changes([]int{600, 800})
	near(t, "silence", silent.Score(p[2]), 0)
	if silent.Missed != 2 || silent.Windows != 2 || silent.False != 0 {
		t.Errorf("%+v", silent)
	}
	// A flag from 100 to 199: two false changes, and both windows missed.
	near(t, "elsewhere", changes([]int{600, 800}, score.Interval{First: 100, Last: 199}).Score(p[1]), 100*(-2*0.22)/4)
	// In the middle of the window a hit is worth half of the way between 1 and -0.11; the grid of 1000 places rounds.
	if got := changes([]int{600}, score.Interval{First: 630, Last: 999}).Score(p[0]); math.Abs(got-100*(1+0.445)/2) > 0.2 {
		t.Errorf("middle of the window: %v", got)
	}
	// Changes 30 s apart: the second window begins where the first ends, so a prediction at 660 is in both.
	both := changes([]int{600, 630}, score.Interval{First: 660, Last: 999})
	if both.Missed != 0 || both.False != 0 || both.Windows != 2 {
		t.Errorf("%+v", both)
	}
	near(t, "no windows", changes(nil, score.Interval{First: 5, Last: 9}).Score(p[0]), 0)
	// The first row's flag is a prediction too.
	if c := changes([]int{600}, score.Interval{First: 0, Last: 650}); c.False != 1 || c.Missed != 0 {
		t.Errorf("%+v", c)
	}
}
