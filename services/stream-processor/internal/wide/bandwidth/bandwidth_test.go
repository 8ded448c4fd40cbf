package bandwidth

import "testing"

func TestTheLoopsDoWhatTheySay(t *testing.T) {
	for n := range 100 {
		var x [5][]float32
		sum := float32(0)
		for k := range x {
			x[k] = make([]float32, n)
			for i := range x[k] {
				x[k][i] = float32(i * (k + 1))
			}
		}
		for _, v := range x[2] {
			sum += v
		}
		if got := Read(x[2]); got != sum { // integers: exact
			t.Fatalf("the sum of %d values is %v, not %v", n, got, sum)
		}
		dst := make([]float32, n)
		FiveToOne(dst, x[0], x[1], x[2], x[3], x[4])
		for i, v := range dst {
			if v != float32(15*i) {
				t.Fatalf("value %d of %d is %v", i, n, v)
			}
		}
	}
}
