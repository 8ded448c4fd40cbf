package trial

import (
	"time"
)

// match says which page is about which fault: one that is said from lead before it begins to grace after it ends. Of several faults it is the first that is
// found by it, or else the last that fits.
func match(r *Result, lead, grace time.Duration) {
	faults := map[string][]*Fault{}
	for _, f := range r.Faults {
		faults[f.Machine] = append(faults[f.Machine], f)
	}
	for i, t := range r.Trials {
		for _, p := range t.Pages {
			for _, f := range faults[p.Machine] {
				if p.Said.Before(f.Start.Add(-lead)) {
					break // they are in the order of their starts
				}
				if p.Said.After(f.End.Add(grace)) {
					continue
				}
				p.Fault = f
				if f.Found[i] == nil {
					f.Found[i] = p
					break
				}
			}
		}
	}
}

// near is how far two pages of one cause may lie apart and still be about the same.
const near = time.Minute

// pair says which pages of two trials are about the same: one machine, one cause, and times that overlap or nearly do.
func pair(a, b []*Page) {
	type key struct{ machine, cause string }
	by := map[key][]*Page{}
	for _, p := range b {
		k := key{p.Machine, p.Cause}
		by[k] = append(by[k], p)
	}
	for _, p := range a {
		for _, q := range by[key{p.Machine, p.Cause}] {
			if q.Same == nil && !q.Said.After(end(p).Add(near)) && !p.Said.After(end(q).Add(near)) {
				p.Same, q.Same = q, p
				break
			}
		}
	}
}

func end(p *Page) time.Time {
	if p.Ended.IsZero() {
		return time.Unix(1<<40, 0)
	}
	return p.Ended
}
