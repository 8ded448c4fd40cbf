package httpreceiver

import (
	"fmt"
	"testing"
)

// An identity never comes twice, sequences have no gaps under one gateway id, and memory is bounded.
func TestIdentities(t *testing.T) {
	a, b := newIdentities(10), newIdentities(10)
	seen := map[string]bool{}
	last := map[string]uint64{}
	for i := range 1000 {
		for _, ids := range []*identities{a, b} {
			machine := fmt.Sprint(i % 25)
			gw, seq := ids.next(machine)
			key := gw + "/" + machine
			if id := fmt.Sprintf("%s/%d", key, seq); seen[id] || seq != last[key]+1 {
				t.Fatalf("%s after %d", id, last[key])
			} else {
				seen[id] = true
			}
			last[key] = seq
			if len(ids.last) > 10 {
				t.Fatalf("%d machines counted", len(ids.last))
			}
		}
	}
}
