// Package quality decides what a single value is worth: the source's own word on it, the sensor's physical range, and whether the
// sensor is stuck. It learns each sensor's habits from its values alone, in the order they come.
package quality

import (
	"fmt"
	"math"
	"path"
	"time"
)

// Config of the quality judge.
type Config struct {
	Ranges   []Range  `mapstructure:"ranges" doc:"physical ranges by sensor; values outside are out_of_range and are not learned from. The first match counts"`
	Flatline Flatline `mapstructure:"flatline"`
}

// Range is what a sensor can physically show.
type Range struct {
	Sensor string   `mapstructure:"sensor" doc:"sensor name; * and ? match any text and any character"`
	Low    *float64 `mapstructure:"low" doc:"smallest possible value"`
	High   *float64 `mapstructure:"high" doc:"largest possible value"`
}

// Flatline says when a sensor that used to vary is stuck.
type Flatline struct {
	Enabled    bool          `mapstructure:"enabled" doc:"whether stuck sensors are looked for"`
	Factor     float64       `mapstructure:"factor" doc:"stuck after a run of equal values this many times the longest usual one"`
	MinSamples int           `mapstructure:"min_samples" doc:"never stuck before this many equal values"`
	MinSpan    time.Duration `mapstructure:"min_span" doc:"never stuck before the run lasts this long (event time)"`
	MinChanges int           `mapstructure:"min_changes" doc:"changes of value to see before a sensor counts as varying"`
	Integers   bool          `mapstructure:"integers" doc:"also judge sensors that only ever showed whole numbers (counters, states, setpoints)"`
	Zero       bool          `mapstructure:"zero" doc:"also judge a run of exact zeros, which a machine at rest shows; a sudden fall to zero is seen by the behaviour detectors anyway"`
}

// DefaultConfig is what ships.
func DefaultConfig() Config {
	return Config{Flatline: Flatline{Enabled: true, Factor: 4, MinSamples: 10, MinSpan: 30 * time.Second, MinChanges: 50}}
}

// Validate names the field that is wrong.
func (c Config) Validate() error {
	for i, r := range c.Ranges {
		if _, err := path.Match(r.Sensor, ""); err != nil || r.Sensor == "" {
			return fmt.Errorf("ranges[%d].sensor: %q is no pattern", i, r.Sensor)
		}
		for _, v := range []*float64{r.Low, r.High} {
			if v != nil && (math.IsNaN(*v) || math.IsInf(*v, 0)) {
				return fmt.Errorf("ranges[%d]: limits must be finite", i)
			}
		}
		if r.Low != nil && r.High != nil && *r.Low > *r.High {
			return fmt.Errorf("ranges[%d].low: %v is above high %v", i, *r.Low, *r.High)
		}
	}
	f := c.Flatline
	switch {
	case !(f.Factor >= 1 && f.Factor <= 1e6):
		return fmt.Errorf("flatline.factor: %v is not between 1 and 1000000", f.Factor)
	case f.MinSamples < 2 || f.MinSamples > 1e9:
		return fmt.Errorf("flatline.min_samples: %d is not between 2 and 1000000000", f.MinSamples)
	case f.MinSpan < 0:
		return fmt.Errorf("flatline.min_span: %v is negative", f.MinSpan)
	case f.MinChanges < 1 || f.MinChanges > 1e9:
		return fmt.Errorf("flatline.min_changes: %d is not between 1 and 1000000000", f.MinChanges)
	}
	return nil
}

// Bounds are the physical range of the sensor with that name; infinite where there is none.
func (c *Config) Bounds(sensor string) (low, high float32) {
	low, high = float32(math.Inf(-1)), float32(math.Inf(1))
	for _, r := range c.Ranges {
		if ok, err := path.Match(r.Sensor, sensor); err != nil || !ok {
			continue
		}
		if r.Low != nil {
			low = float32(*r.Low)
		}
		if r.High != nil {
			high = float32(*r.High)
		}
		break
	}
	return low, high
}
