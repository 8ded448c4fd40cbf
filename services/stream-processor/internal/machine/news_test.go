package machine

import "testing"

// What lasts is told of by its first window: those that follow stay flagged, and keep their order, but their score is less than that of a page.
func TestWhatLastsIsNoNews(t *testing.T) {
	r := newRig(t, nil)
	s := newSignal(3)
	at := int64(0)
	for ; at < 1200; at++ {
		r.sample(epoch0+at*second, s.next()...)
	}
	var scores []float64
	flags := 0
	for end := at + 120; at < end; at++ {
		v := s.next()
		v[0] += 30
		v[1] += 30
		r.sample(epoch0+at*second, v...)
		if m := r.m; m.odd.open && m.current.startUS > m.odd.startUS {
			scores = append(scores, float64(m.current.surprise))
			if m.current.flag {
				flags++
			}
		}
	}
	if len(scores) < 60 || flags < len(scores)/2 {
		t.Fatalf("%d windows of the excursion, %d flagged: this shows nothing", len(scores), flags)
	}
	page := r.m.pageSurprise()
	for _, x := range scores {
		if x >= page {
			t.Fatalf("a window that goes on has surprise %v, a page asks for %v", x, page)
		}
	}
	first := r.m.news(r.m.odd.startUS, 40)
	if first != 40 {
		t.Errorf("the first window has %v of its surprise of 40", first)
	}
	later := r.m.odd.startUS + 1
	if a, b := r.m.news(later, 40), r.m.news(later, 41); !(a < b && b < page) {
		t.Errorf("surprises of 40 and 41 are shown as %v and %v, a page asks for %v", a, b, page)
	}
	if x := r.m.news(later, 1); x != 1 {
		t.Errorf("a usual window has %v of its surprise of 1", x)
	}
}
