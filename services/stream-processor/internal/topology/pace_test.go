package topology

import (
	"testing"
	"time"
)

func TestPaceSettlesBelowTheBrokersLimit(t *testing.T) {
	for _, perRecord := range []time.Duration{time.Microsecond, 50 * time.Microsecond, time.Millisecond, 10 * time.Millisecond} {
		p := newPace(20_000)
		aborted := 0
		for range 50 {
			d := time.Duration(p.now) * perRecord
			if d > transactionTimeout {
				aborted++
			}
			p.took(d)
		}
		if d := time.Duration(p.now) * perRecord; d > transactionTimeout/2 || aborted > 1 {
			t.Errorf("at %s a record: %d at once take %s; %d transactions would have been aborted", perRecord, p.now, d, aborted)
		}
		if perRecord == time.Microsecond && p.now != 20_000 {
			t.Errorf("a quick machine takes %d at once", p.now)
		}
	}
	if p := newPace(10); p.now != 10 {
		t.Errorf("%d at once, 10 are allowed", p.now)
	}
}
