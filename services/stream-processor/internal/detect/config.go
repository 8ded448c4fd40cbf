package detect

import (
	"fmt"
	"math"
	"path"

	"github.com/tocsin-io/tocsin/services/stream-processor/internal/wide"
)

// Config of all detectors.
type Config struct {
	Detectors []string       `mapstructure:"detectors" doc:"detectors in use, of: limits, ewma, robust_z, spread, pca, cusum, seasonal, iforest, knn, lof, halfspace, one_class, rrcf, day_shape, cohort, champion, shadow"`
	Limits    []Limit        `mapstructure:"limits" doc:"fixed limits by sensor; all that match hold"`
	EWMA      EWMAConfig     `mapstructure:"ewma"`
	RobustZ   RobustConfig   `mapstructure:"robust_z"`
	Spread    SpreadConfig   `mapstructure:"spread"`
	PCA       PCAConfig      `mapstructure:"pca"`
	CUSUM     CUSUMConfig    `mapstructure:"cusum"`
	Seasonal  SeasonalConfig `mapstructure:"seasonal"`
	Forest    MemoryConfig   `mapstructure:"forest"`
	Neighbour MemoryConfig   `mapstructure:"neighbour"`
	OneClass  OneClassConfig `mapstructure:"one_class"`

	Cohort CohortConfig `mapstructure:"cohort"`
	Wide   wide.Config  `mapstructure:"wide"`
	Models ModelsConfig `mapstructure:"models"`

	models *ready // see Prepare
}

// MemoryConfig is of detectors that have little to set.
type MemoryConfig struct {
	Memory int `mapstructure:"memory" doc:"windows over which the scale of each sensor, and what scores are usual, forget"`
}

// OneClassConfig sets the one-class support vector machine.
type OneClassConfig struct {
	Memory int     `mapstructure:"memory" doc:"windows over which it forgets"`
	Nu     float64 `mapstructure:"nu" doc:"share of the windows learned that may lie outside; 0.01 to 0.5"`
}

// CohortConfig sets how a machine is held against its sisters.
type CohortConfig struct {
	Lambda float64 `mapstructure:"lambda" doc:"weight of the newest round (some windows) in the running mean of how far a machine is from its sisters, in (0, 1]"`
	Memory int     `mapstructure:"memory" doc:"rounds over which its usual distance from them forgets"`
}

// CUSUMConfig sets the cumulative sum chart.
type CUSUMConfig struct {
	Allowance float64 `mapstructure:"allowance" doc:"standard deviations that add nothing to the sums; half of the shift to be found; 0.1 to 3"`
	Memory    int     `mapstructure:"memory" doc:"windows over which the baseline forgets"`
}

// SeasonalConfig sets the profile of day and week.
type SeasonalConfig struct {
	Memory int `mapstructure:"memory" doc:"windows over which the spread about the profile forgets"`
}

// PCAConfig sets the joint judgement of all sensors.
type PCAConfig struct {
	Lambda     float64 `mapstructure:"lambda" doc:"weight of the newest window in the running mean of all sensors, in (0, 1]"`
	Memory     int     `mapstructure:"memory" doc:"windows over which means and covariance forget"`
	MaxSensors int     `mapstructure:"max_sensors" doc:"machines of more sensors are not judged by it: memory and work rise with their square; 2 to 512"`
}

// Limit is fixed bounds of a sensor's value and of how fast it may change. Bounds that are not given do not hold.
type Limit struct {
	Sensor       string   `mapstructure:"sensor" doc:"sensor name; * and ? match any text and any character"`
	LowWarning   *float64 `mapstructure:"low_warning" doc:"warning below this"`
	HighWarning  *float64 `mapstructure:"high_warning" doc:"warning above this"`
	LowCritical  *float64 `mapstructure:"low_critical" doc:"critical below this"`
	HighCritical *float64 `mapstructure:"high_critical" doc:"critical above this"`
	RateWarning  *float64 `mapstructure:"rate_warning" doc:"warning when the mean changes by more than this per second between two windows"`
	RateCritical *float64 `mapstructure:"rate_critical" doc:"critical when it changes by more than this per second"`
}

// EWMAConfig sets the EWMA control chart.
type EWMAConfig struct {
	Lambda float64 `mapstructure:"lambda" doc:"weight of the newest window in the chart, in (0, 1]; smaller finds smaller shifts, later"`
	Memory int     `mapstructure:"memory" doc:"windows over which the baseline mean and variance forget"`
}

// RobustConfig sets the robust z-score.
type RobustConfig struct {
	History int `mapstructure:"history" doc:"windows whose median and spread are held against a new one; 8 to 64"`
}

// SpreadConfig sets the chart of the spread inside a window.
type SpreadConfig struct {
	Memory   int `mapstructure:"memory" doc:"windows over which the baseline forgets"`
	MinCount int `mapstructure:"min_count" doc:"fewest values in a window whose spread is judged"`
}

// DefaultConfig is what ships.
func DefaultConfig() Config {
	return Config{
		Detectors: []string{"limits", "ewma", "spread", "seasonal", "pca"},
		EWMA:      EWMAConfig{Lambda: 0.25, Memory: 1000},
		RobustZ:   RobustConfig{History: 50},
		Spread:    SpreadConfig{Memory: 1000, MinCount: 4},
		PCA:       PCAConfig{Lambda: 0.2, Memory: 1000, MaxSensors: 128},
		CUSUM:     CUSUMConfig{Allowance: 0.5, Memory: 1000},
		Seasonal:  SeasonalConfig{Memory: 2000},
		Forest:    MemoryConfig{Memory: 1000},
		Neighbour: MemoryConfig{Memory: 1000},
		OneClass:  OneClassConfig{Memory: 1000, Nu: 0.05},

		Cohort: CohortConfig{Lambda: 0.1, Memory: 12_000},
		Wide:   wide.DefaultConfig(),
		Models: ModelsConfig{Memory: 1000},
	}
}

// Validate names the field that is wrong.
func (c Config) Validate() error {
	seen := map[string]bool{}
	for i, name := range c.Detectors {
		if seen[name] {
			return fmt.Errorf("detectors[%d]: %q is named twice", i, name)
		}
		seen[name] = true
		if _, ok := specOf(name); !ok {
			return fmt.Errorf("detectors[%d]: %q is no detector", i, name)
		}
	}
	for i, l := range c.Limits {
		if err := l.validate(); err != nil {
			return fmt.Errorf("limits[%d].%w", i, err)
		}
	}
	if err := c.Wide.Validate(); err != nil {
		return fmt.Errorf("wide.%w", err)
	}
	if err := c.Models.validate(); err != nil {
		return fmt.Errorf("models.%w", err)
	}
	switch {
	case !(c.EWMA.Lambda > 0 && c.EWMA.Lambda <= 1):
		return fmt.Errorf("ewma.lambda: %v is not in (0, 1]", c.EWMA.Lambda)
	case c.EWMA.Memory < minMemory || c.EWMA.Memory > maxMemory:
		return fmt.Errorf("ewma.memory: %d is not between %d and %d", c.EWMA.Memory, minMemory, maxMemory)
	case c.RobustZ.History < 8 || c.RobustZ.History > maxHistory:
		return fmt.Errorf("robust_z.history: %d is not between 8 and %d", c.RobustZ.History, maxHistory)
	case c.Spread.Memory < minMemory || c.Spread.Memory > maxMemory:
		return fmt.Errorf("spread.memory: %d is not between %d and %d", c.Spread.Memory, minMemory, maxMemory)
	case !(c.PCA.Lambda > 0 && c.PCA.Lambda <= 1):
		return fmt.Errorf("pca.lambda: %v is not in (0, 1]", c.PCA.Lambda)
	case c.PCA.Memory < minMemory || c.PCA.Memory > maxMemory:
		return fmt.Errorf("pca.memory: %d is not between %d and %d", c.PCA.Memory, minMemory, maxMemory)
	case c.PCA.MaxSensors < 2 || c.PCA.MaxSensors > 512:
		return fmt.Errorf("pca.max_sensors: %d is not between 2 and 512", c.PCA.MaxSensors)
	case !(c.CUSUM.Allowance >= 0.1 && c.CUSUM.Allowance <= 3):
		return fmt.Errorf("cusum.allowance: %v is not between 0.1 and 3", c.CUSUM.Allowance)
	case c.CUSUM.Memory < minMemory || c.CUSUM.Memory > maxMemory:
		return fmt.Errorf("cusum.memory: %d is not between %d and %d", c.CUSUM.Memory, minMemory, maxMemory)
	case c.Seasonal.Memory < minMemory || c.Seasonal.Memory > maxMemory:
		return fmt.Errorf("seasonal.memory: %d is not between %d and %d", c.Seasonal.Memory, minMemory, maxMemory)
	case c.Forest.Memory < minMemory || c.Forest.Memory > maxMemory:
		return fmt.Errorf("forest.memory: %d is not between %d and %d", c.Forest.Memory, minMemory, maxMemory)
	case c.Neighbour.Memory < minMemory || c.Neighbour.Memory > maxMemory:
		return fmt.Errorf("neighbour.memory: %d is not between %d and %d", c.Neighbour.Memory, minMemory, maxMemory)
	case c.OneClass.Memory < minMemory || c.OneClass.Memory > maxMemory:
		return fmt.Errorf("one_class.memory: %d is not between %d and %d", c.OneClass.Memory, minMemory, maxMemory)
	case !(c.OneClass.Nu >= 0.01 && c.OneClass.Nu <= 0.5):
		return fmt.Errorf("one_class.nu: %v is not between 0.01 and 0.5", c.OneClass.Nu)
	case !(c.Cohort.Lambda > 0 && c.Cohort.Lambda <= 1):
		return fmt.Errorf("cohort.lambda: %v is not in (0, 1]", c.Cohort.Lambda)
	case c.Cohort.Memory < minMemory || c.Cohort.Memory > maxMemory:
		return fmt.Errorf("cohort.memory: %d is not between %d and %d", c.Cohort.Memory, minMemory, maxMemory)
	case c.Spread.MinCount < 3 || c.Spread.MinCount > 1_000_000:
		return fmt.Errorf("spread.min_count: %d is not between 3 and 1000000", c.Spread.MinCount)
	}
	return nil
}

func (l Limit) validate() error {
	if _, err := path.Match(l.Sensor, ""); err != nil || l.Sensor == "" {
		return fmt.Errorf("sensor: %q is no pattern", l.Sensor)
	}
	for _, f := range []struct {
		name string
		v    *float64
		min  float64
	}{
		{"low_warning", l.LowWarning, math.Inf(-1)},
		{"high_warning", l.HighWarning, math.Inf(-1)},
		{"low_critical", l.LowCritical, math.Inf(-1)},
		{"high_critical", l.HighCritical, math.Inf(-1)},
		{"rate_warning", l.RateWarning, 0},
		{"rate_critical", l.RateCritical, 0},
	} {
		if f.v != nil && (math.IsNaN(*f.v) || math.IsInf(*f.v, 0) || *f.v < f.min) {
			return fmt.Errorf("%s: %v is not allowed", f.name, *f.v)
		}
	}
	return nil
}
