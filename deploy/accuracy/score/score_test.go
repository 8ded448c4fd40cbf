package score_test

import (
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/tocsin-io/tocsin/deploy/accuracy/score"
)

func near(t *testing.T, what string, got, want float64) {
	t.Helper()
	if math.Abs(got-want) > 1e-9 {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

// mask of n rows, true in the intervals.
func mask(n int, in ...score.Interval) []bool {
	out := make([]bool, n)
	for _, v := range in {
		for i := v.First; i <= v.Last; i++ {
			out[i] = true
		}
	}
	return out
}

func TestConfusion(t *testing.T) {
	// 40 anomalous rows of 100; flagged are 30 of them and 10 others.
	var c score.Confusion
	c.Add(mask(100, score.Interval{First: 20, Last: 59}), mask(100, score.Interval{First: 10, Last: 19}, score.Interval{First: 30, Last: 59}))
	if c != (score.Confusion{TP: 30, TN: 50, FP: 10, FN: 10}) {
		t.Fatalf("%+v", c)
	}
	near(t, "F1", c.F1(), 0.75)
	near(t, "FAR", c.FAR(), 10.0/60)
	near(t, "MAR", c.MAR(), 0.25)
	near(t, "precision", c.Precision(), 0.75)
	near(t, "recall", c.Recall(), 0.75)
	var none score.Confusion
	near(t, "F1 of nothing", none.F1(), 0)
}

func TestRuns(t *testing.T) {
	in := []score.Interval{{First: 0, Last: 2}, {First: 4, Last: 4}, {First: 8, Last: 9}}
	if got := score.Runs(mask(10, in...)); !slices.Equal(got, in) {
		t.Errorf("%v", got)
	}
	if got := score.Runs(nil); got != nil {
		t.Errorf("%v", got)
	}
}

func TestEventsAreNotPointAdjusted(t *testing.T) {
	anomalous := mask(100, score.Interval{First: 10, Last: 19}, score.Interval{First: 40, Last: 59}, score.Interval{First: 80, Last: 89})
	// The first found at once, the second after 5 of its 20 rows by an alarm that ends outside, the third missed; two false alarms.
	flagged := mask(100, score.Interval{First: 10, Last: 10}, score.Interval{First: 45, Last: 65}, score.Interval{First: 70, Last: 71}, score.Interval{First: 99, Last: 99})
	var e score.Events
	e.Add(anomalous, flagged)
	near(t, "recall", e.Recall(), 2.0/3)
	near(t, "precision", e.Precision(), 0.5)
	near(t, "F1", e.F1(), 4.0/7)
	near(t, "median delay", score.Median(e.Delays), 2.5)
	near(t, "time to detection", e.TimeToDetection(), 1-(0+0.25+1)/3)
	near(t, "false alarms", e.FalseRunsPer1000(), 1000*2.0/60)
	var c score.Confusion
	c.Add(anomalous, flagged)
	near(t, "recall of rows", c.Recall(), 16.0/40)
	near(t, "S", score.Batadal(&e, &c), ((1-1.25/3)+(0.4+1-9.0/60)/2)/2)
}

func TestMedian(t *testing.T) {
	near(t, "odd", score.Median([]int{9, 1, 3}), 3)
	near(t, "even", score.Median([]int{4, 1, 3, 9}), 3.5)
	near(t, "none", score.Median(nil), 0)
}

func TestRankByHand(t *testing.T) {
	// Pairs of one anomalous and one normal row: (.9 > .5), (.9 > .1), (.5 = .5), (.5 > .1).
	r, ok := score.Rank([]bool{true, false, true, false}, []float64{0.9, 0.5, 0.5, 0.1})
	if !ok {
		t.Fatal("not ranked")
	}
	near(t, "AUC", r.AUC, 3.5/4)
	near(t, "AP", r.AP, 0.5*1+0.5*2/3)
	near(t, "best F1", r.BestF1, 2.0*2/(3+2))
	if _, ok := score.Rank([]bool{false, false}, []float64{1, 2}); ok {
		t.Error("ranked without anomalies")
	}
}

func TestRankNeedsOnlyTheOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		scores := rapid.SliceOfN(rapid.Float64Range(0, 1), 2, 40).Draw(t, "scores")
		anomalous := rapid.SliceOfN(rapid.Bool(), len(scores), len(scores)).Draw(t, "anomalous")
		anomalous[0], anomalous[1] = true, false
		a, _ := score.Rank(anomalous, scores)
		doubled, turned := slices.Clone(scores), slices.Clone(anomalous)
		for i := range doubled {
			doubled[i] *= 2
			turned[i] = !turned[i]
		}
		if b, _ := score.Rank(anomalous, doubled); a != b {
			t.Fatalf("%+v, doubled %+v", a, b)
		}
		if b, _ := score.Rank(turned, scores); math.Abs(a.AUC+b.AUC-1) > 1e-9 {
			t.Fatalf("AUC %v, of the opposite labels %v", a.AUC, b.AUC)
		}
	})
}

func TestThresholdAtEqualFalseAlarms(t *testing.T) {
	normal := make([]float64, 1000)
	for i := range normal {
		normal[i] = float64(i) / 1000
	}
	if at := score.ThresholdAt(normal, 0.01); at <= 0.989 || at > 0.990 {
		t.Errorf("1 %%: %v", at)
	}
	near(t, "all", score.ThresholdAt(normal, 1), 0)
	if got := score.ThresholdAt([]float64{1, 1, 1}, 0.01); got <= 1 {
		t.Errorf("all at the top: %v", got)
	}
	rapid.Check(t, func(t *rapid.T) {
		normal := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) float64 { return float64(rapid.IntRange(0, 9).Draw(t, "tenths")) / 10 }), 1, 60).Draw(t, "normal")
		far := rapid.Float64Range(0, 1).Draw(t, "far")
		share := func(threshold float64) float64 {
			n := 0
			for _, s := range normal {
				if s >= threshold {
					n++
				}
			}
			return float64(n) / float64(len(normal))
		}
		at := score.ThresholdAt(normal, far)
		if share(at) > far {
			t.Fatalf("%v fires at %v of normal rows, asked %v", at, share(at), far)
		}
		if below := math.Nextafter(at, 0); at > 0 && at <= 1 && share(below) <= far && share(below) > share(at) {
			t.Fatalf("%v would do, got %v", below, at)
		}
	})
}

func TestTop(t *testing.T) {
	if got := score.Top([]float64{0.1, 0.9, 0.5, 0.7}, 0.5); !slices.Equal(got, []bool{false, true, false, true}) {
		t.Errorf("%v", got)
	}
	// Three alike at the edge: all are nearer to two than none.
	if got := score.Top([]float64{0.5, 0.5, 0.5, 0.1}, 0.5); !slices.Equal(got, []bool{true, true, true, false}) {
		t.Errorf("%v", got)
	}
	if got := score.Top(slices.Repeat([]float64{1}, 10), 0.1); slices.Contains(got, true) {
		t.Errorf("all alike: %v", got)
	}
	if got := score.Top(nil, 0.1); len(got) != 0 {
		t.Errorf("%v", got)
	}
}

func TestRootCauses(t *testing.T) {
	var r score.RootCauses
	r.Add([]string{"x", "y"}, []string{"x"}, 10)
	r.Add([]string{"q", "z", "y"}, []string{"y", "z"}, 10)
	r.Add(nil, []string{"y"}, 10)           // missed
	r.Add([]string{"x"}, nil, 10)           // cause not known: not counted
	r.Add([]string{"a"}, []string{"b"}, 10) // not named
	if r.Events() != 4 || !slices.Equal(r.Ranks(), []int{1, 2, 0, 0}) {
		t.Errorf("%d events, ranks %v", r.Events(), r.Ranks())
	}
	near(t, "AC@1", r.Top(1), 0.25)
	near(t, "AC@3", r.Top(3), 0.5)
	near(t, "MRR", r.MRR(), 1.5/4)
	near(t, "chance@1", r.Chance(1), (0.1+0.2+0.1+0.1)/4)
	near(t, "chance@2", r.Chance(2), (3*0.2+1-0.8*7.0/9)/4)
}
