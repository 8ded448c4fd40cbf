// Package cohort merges what is usual of sister machines into a first idea of what will be usual of a new one.
//
// Sisters are machines with the same sensors. A new machine's level is one more draw from how theirs are spread, and its noise is about as theirs: the
// posterior of a hierarchical model with the sisters as its sample (Gelman et al., Bayesian Data Analysis, ch. 5), by medians, so that a sister that is broken or switched
// off counts no more than another. All is a function of the sisters, in any order.
package cohort

import (
	"fmt"
	"math"
	"slices"

	"github.com/cespare/xxhash/v2"

	"github.com/tocsin-io/tocsin/services/stream-processor/internal/detect"
)

// Config of the cold start.
type Config struct {
	Lend    bool `mapstructure:"lend" doc:"whether a new machine is judged by its cohort, the machines of its partition with the same sensors, until it is known itself; it says so in its alerts"`
	Sisters int  `mapstructure:"sisters" doc:"fewest sisters that are known well and have no open alert; 3 to 16"`
	Known   int  `mapstructure:"known" doc:"windows a sister must have been learned from"`
}

// Worth is what a loan counts in the confidence of a judgement, in windows of the machine's own.
const Worth = 30

// Most is the most sisters that are asked: more tell little more.
const Most = 16

// DefaultConfig is what ships.
func DefaultConfig() Config { return Config{Lend: true, Sisters: 3, Known: 720} }

// Validate names the field that is wrong.
func (c *Config) Validate() error {
	switch {
	case c.Sisters < 3 || c.Sisters > Most:
		return fmt.Errorf("sisters: %d is not between 3 and %d", c.Sisters, Most)
	case c.Known < 60 || c.Known > 1_000_000:
		return fmt.Errorf("known: %d is not between 60 and 1000000", c.Known)
	}
	return nil
}

// Class is the same for equal sets of sensors, whatever their order. It changes the order of names.
func Class(names []string) uint64 {
	slices.Sort(names)
	var d xxhash.Digest
	d.Reset()
	for _, n := range names {
		_, _ = d.WriteString(n)
		_, _ = d.Write([]byte{0})
	}
	return d.Sum64()
}

// Rank orders machines when there are more than are needed: by chance, but always by the same.
func Rank(equipmentID string) uint64 { return xxhash.Sum64String(equipmentID) }

// Merge is what to expect of a new sister, one statistic of one sensor; false when fewer than least know it. list is used up.
func Merge(list []detect.Usual, least int) (u detect.Usual, ok bool) {
	n := len(list)
	if n < max(least, 3) {
		return u, false
	}
	by := make([]float64, n)
	middle := func(f func(*detect.Usual) float64) float64 {
		for i := range list {
			by[i] = f(&list[i])
		}
		return median(by)
	}
	u.Mean = middle(func(x *detect.Usual) float64 { return x.Mean })
	u.Count = middle(func(x *detect.Usual) float64 { return x.Count })
	within := middle(func(x *detect.Usual) float64 { return x.Variance })
	spread := 1.4826 * middle(func(x *detect.Usual) float64 { return math.Abs(x.Mean - u.Mean) })
	// The median absolute deviation of a few is itself uncertain: what is believed of a fourth of three may be twice as far off.
	between := spread * spread * (1 + 8/float64(n))
	u.Variance = within + between
	if !(u.Variance >= 0 && u.Variance < 1e300) || math.IsNaN(u.Mean-u.Mean) {
		return u, false
	}
	return u, true
}

// median of the values, which it sorts.
func median(v []float64) float64 {
	slices.Sort(v)
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}
