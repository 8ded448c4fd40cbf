package detect

import (
	"math/rand/v2"
	"testing"
)

// The distances that are kept as windows come and go are those that one finds by looking at all of them.
func TestNeighboursAreKeptExactly(t *testing.T) {
	d := newLOF(config()).(*neighbours)
	d.Grow(sensorNames(4))
	r := rand.New(rand.NewPCG(3, 3))
	for i := range int64(3 * knnSample) {
		w := draw(r, 4, i*5e6)
		if i%50 > 40 { // the same place again and again
			for k := range w.Values {
				w.Values[k].Mean = 50
			}
		}
		d.Learn(w)
		if i%7 > 0 {
			continue
		}
		for k := range d.held() {
			if mean, far := d.of(k); mean != d.reach[k] || far != d.far[k] {
				t.Fatalf("window %d: point %d is %v from its nearest, at most %v, not %v and %v", i, k, mean, far, d.reach[k], d.far[k])
			}
		}
	}
}
