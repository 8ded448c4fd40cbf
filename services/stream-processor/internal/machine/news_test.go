package machine

import (
	"math"
	"testing"

	"github.com/tocsin-io/tocsin/services/stream-processor/internal/onset"
)

// The score tells what begins, flags and episodes tell what lasts.
func TestWhatLastsIsNoNews(t *testing.T) {
	r := newRig(t, nil)
	s := newSignal(3)
	at := int64(0)
	for ; at < 3000; at++ {
		r.sample(epoch0+at*second, s.next()...)
	}
	began, after, flags, highest := 0.0, 0, 0, 0.0
	for end := at + 600; at < end; at++ {
		v := s.next()
		v[0] += 30
		v[1] += 30
		r.sample(epoch0+at*second, v...)
		m := r.m
		if !m.odd.open {
			continue
		}
		if x := float64(m.current.surprise); m.current.startUS-m.odd.startUS < 30*second {
			began = max(began, x)
		} else if m.current.startUS-m.odd.startUS > 200*second {
			highest = max(highest, x)
			after++
			if m.current.flag {
				flags++
			}
		}
	}
	if after < 200 || flags < after*9/10 {
		t.Fatalf("%d samples long after the beginning, %d flagged: this shows nothing", after, flags)
	}
	if began < onset.Notable+1 {
		t.Errorf("the beginning has a surprise of %v at most", began)
	}
	if highest >= onset.Notable {
		t.Errorf("what lasts has a surprise of %v", highest)
	}
}

func TestNewsKeepsTheOrder(t *testing.T) {
	for _, c := range []struct{ onset, less, more float64 }{{0, 1, 2}, {0, 8, 30}, {onset.Notable - 0.01, 3, 4}} {
		a, b := (&opinion{onset: c.onset, final: c.less}).news(), (&opinion{onset: c.onset, final: c.more}).news()
		if !(a < b && b < onset.Notable) {
			t.Errorf("surprises of %v and %v are shown as %v and %v", c.less, c.more, a, b)
		}
	}
	nan := math.NaN()
	for _, c := range []struct{ onset, final, want float64 }{{9, 3, 9}, {9, nan, 9}, {nan, 12, 12}, {nan, nan, 0}, {0, nan, 0}} {
		if got := (&opinion{onset: c.onset, final: c.final}).news(); got != c.want {
			t.Errorf("onset %v, final %v: %v, want %v", c.onset, c.final, got, c.want)
		}
	}
}
