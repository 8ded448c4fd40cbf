package trial

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"

	"github.com/tocsin-io/tocsin/deploy/accuracy/score"
)

// Suspects ranks the sensors of an event by the sum of their shares over its first limit flagged rows (0: all of them), the most suspected first.
// An event in which nothing is flagged has none: it was missed.
func Suspects(v *Verdicts, event score.Interval, flags []bool, limit int) ([]string, error) {
	sum := map[string]float64{}
	for i, n := event.First, 0; i <= event.Last && (limit == 0 || n < limit); i++ {
		if !flags[i] || v.Shares == nil {
			continue
		}
		n++
		var shares map[string]float64
		if err := json.Unmarshal([]byte(v.Shares[i]), &shares); err != nil {
			return nil, fmt.Errorf("row %d: contributions %q: %w", i, v.Shares[i], err)
		}
		for s, x := range shares {
			sum[s] += x
		}
	}
	return slices.SortedFunc(maps.Keys(sum), func(a, b string) int {
		return cmp.Or(cmp.Compare(sum[b], sum[a]), cmp.Compare(a, b))
	}), nil
}
