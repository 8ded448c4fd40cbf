//go:build !purego

package wide

import (
	"math"
	"math/rand/v2"
	"os"
	"testing"
)

// TestAssemblerEqualsGo holds the kernels against their references bit for bit: ordinary values, missing ones, infinities, and every length of the rest.
func TestAssemblerEqualsGo(t *testing.T) {
	if best() == plainGo {
		const why = "NOT PROVEN HERE, because this processor has no AVX2: only the Go kernels run"
		if os.Getenv("TOCSIN_REQUIRE_REAL") == "1" {
			t.Fatal(why)
		}
		t.Skip(why)
	}
	for k := avx2; k <= best(); k++ {
		r := rand.New(rand.NewPCG(1, 2))
		for n := 1; n < 300; n += 1 + n/20 {
			x, lanes := randomProblem(r, n)
			y, _ := randomProblem(r, n)
			behind := second(&x, &y)
			want, want2, got := make([]float32, n), make([]float32, n), make([]float32, n)
			logsGo(want, &x, lanes)
			surprisesGo(want)
			k.surprises(got, &x, lanes)
			sameBits(t, "surprises", want, got)
			plainPair(want, want2, x, y, lanes)
			for shift := range 17 { // every alignment of the result
				room, room2 := make([]float32, n+shift), make([]float32, n+shift)
				k.scorePair(room[shift:], room2[shift:], &x, &y, behind, lanes)
				sameBits(t, "scores", want, room[shift:])
				sameBits(t, "scores of the second window", want2, room2[shift:])
			}
		}
	}
}

// second moves the two windows into one piece of memory, as in a batch, and returns how far they are apart.
func second(x, y *window) int {
	n := len(x[0])
	all := make([]float32, 2*WindowSize*n)
	for w, from := range []*window{x, y} {
		for k := range from {
			at := (w*WindowSize + k) * n
			copy(all[at:], from[k])
			from[k] = all[at : at+n]
		}
	}
	return WindowSize * n
}

func randomProblem(r *rand.Rand, n int) (window, []lane) {
	odd := []float32{float32(math.NaN()), float32(math.Inf(1)), float32(math.Inf(-1)), 0, math.MaxFloat32, -math.MaxFloat32, math.SmallestNonzeroFloat32}
	var x window
	for k := range x {
		x[k] = make([]float32, n)
		for i := range x[k] {
			x[k][i] = float32(50 + 3*r.NormFloat64())
			if r.IntN(10) == 0 {
				x[k][i] = odd[r.IntN(len(odd))]
			}
		}
	}
	lanes := make([]lane, (n+laneWidth-1)/laneWidth)
	for i := range lanes {
		p := &lanes[i]
		for j := range laneWidth {
			p.mean[j] = float32(50 + r.NormFloat64())
			p.offset[j] = float32(r.NormFloat64())
			for k := range p.weight {
				p.weight[k][j] = float32(-r.Float64())
			}
			if r.IntN(10) == 0 {
				p.weight[r.IntN(WindowSize)][j] = 0
			}
		}
	}
	return x, lanes
}

func sameBits(t *testing.T, what string, want, got []float32) {
	t.Helper()
	for i := range want {
		if math.Float32bits(want[i]) != math.Float32bits(got[i]) {
			t.Fatalf("%s: %v, not %v, for feature %d of %d", what, got[i], want[i], i, len(want))
		}
	}
}
