package feature

import (
	"encoding/binary"
	"math"
	"slices"
	"sort"
)

// level is a column of the context and the values that part its levels.
type level struct {
	Column string    `json:"column"`
	Cuts   []float64 `json:"cuts,omitempty"` // rising; a value belongs to as many levels up as there are cuts below it
}

// findLevels parts a column where nothing lies for long: at a gap of a twentieth of its range that is far wider than the gaps that are usual in it, or of a quarter of its range. So the steps of a
// speed setting part its values, and noise about one setting does not.
func findLevels(values []float64) []float64 {
	const most = 31
	sorted := slices.DeleteFunc(slices.Clone(values), math.IsNaN)
	slices.Sort(sorted)
	sorted = slices.Compact(sorted)
	if len(sorted) < 2 {
		return nil
	}
	gaps := make([]float64, len(sorted)-1)
	for i := range gaps {
		gaps[i] = sorted[i+1] - sorted[i]
	}
	usual := slices.Clone(gaps)
	slices.Sort(usual)
	median, span := usual[len(usual)/2], sorted[len(sorted)-1]-sorted[0]
	var cuts []float64
	for i, g := range gaps {
		if g >= span/4 || g >= span/20 && g > 20*median {
			cuts = append(cuts, sorted[i]+g/2)
		}
	}
	if len(cuts) > most {
		return nil // a scale, not settings
	}
	return cuts
}

// regimes tells rows apart by the levels of their context.
type regimes struct {
	Levels []level  `json:"levels,omitempty"`
	Keys   []string `json:"keys,omitempty"` // levels of each regime, one byte for each column; in order
}

// learn finds the regimes that hold enough rows to have a mean of their own.
func (g *regimes) learn(columns [][]float64, names []string, rows int) {
	for i, name := range names {
		g.Levels = append(g.Levels, level{name, findLevels(columns[i])})
	}
	if len(names) == 0 {
		return
	}
	count := map[string]int{}
	for i := range rows {
		count[g.key(columns, i)]++
	}
	for k, n := range count {
		if n >= 30 && n >= rows/1000 {
			g.Keys = append(g.Keys, k)
		}
	}
	slices.Sort(g.Keys)
	if len(g.Keys) > 256 {
		g.Keys = nil
	}
}

func (g *regimes) key(columns [][]float64, row int) string {
	b := make([]byte, 0, 2*len(g.Levels))
	for j, l := range g.Levels {
		at := sort.SearchFloat64s(l.Cuts, columns[j][row])
		b = binary.BigEndian.AppendUint16(b, uint16('0'+at)) // readable where there are few
	}
	return string(b)
}

// of is the number of a row's regime; len(Keys) when it is none of them.
func (g *regimes) of(columns [][]float64, row int) int {
	if len(g.Keys) == 0 {
		return 0
	}
	k := g.key(columns, row)
	if i, ok := slices.BinarySearch(g.Keys, k); ok {
		return i
	}
	return len(g.Keys)
}

// many is the number of regimes, the rest included.
func (g *regimes) many() int { return len(g.Keys) + 1 }
