package coverage

import (
	"errors"
	"fmt"
	"path"
	"time"
)

// Config says what counts as judged in time.
type Config struct {
	BlindAfter   time.Duration `mapstructure:"blind_after" doc:"a sensor that should be judged and is not for this long (event time) is an anomaly of cause blind; 0: never"`
	SensorFactor float64       `mapstructure:"sensor_factor" doc:"a sensor is silent after this many times the longest stretch that it usually skips, while others of the machine send"`
	SensorMin    time.Duration `mapstructure:"sensor_min" doc:"a sensor is never silent before this (event time)"`
	LateAfter    time.Duration `mapstructure:"late_after" doc:"a machine whose newest sample is further behind the broker's clock than this is not judged in time"`
	ReportEvery  time.Duration `mapstructure:"report_every" doc:"shortest time (broker's) between two coverage records of a machine"`
	Shelved      []Shelf       `mapstructure:"shelved" doc:"sensors that are not judged and not learned from: out of service, under repair. Their values are kept"`
}

// Shelf takes sensors out of judgement (ISA-18.2 calls it shelving, or out of service).
type Shelf struct {
	Machine string `mapstructure:"machine" doc:"equipment id; * and ? match any text and any character"`
	Sensor  string `mapstructure:"sensor" doc:"sensor name; * and ? match any text and any character"`
	Until   string `mapstructure:"until" doc:"event time, RFC 3339, from which it is judged again; empty: until the configuration changes"`
	Why     string `mapstructure:"why" doc:"for those who read it later"`
}

// DefaultConfig is what ships.
func DefaultConfig() Config {
	return Config{
		BlindAfter: time.Minute, SensorFactor: 5, SensorMin: 30 * time.Second, LateAfter: 2 * time.Minute,
		ReportEvery: 10 * time.Second,
	}
}

const (
	maxShelved   = 10_000
	longestRange = 30 * 24 * time.Hour
)

// Validate names the field that is wrong.
func (c Config) Validate() error {
	for _, f := range []struct {
		name   string
		v, min time.Duration
	}{
		{"blind_after", c.BlindAfter, 0},
		{"sensor_min", c.SensorMin, time.Second},
		{"late_after", c.LateAfter, time.Second},
		{"report_every", c.ReportEvery, time.Second},
	} {
		if f.v < f.min || f.v > longestRange {
			return fmt.Errorf("%s: %s is not in %s..%s", f.name, f.v, f.min, longestRange)
		}
	}
	if !(c.SensorFactor >= 1 && c.SensorFactor <= 1e6) {
		return fmt.Errorf("sensor_factor: %v is not between 1 and 1000000", c.SensorFactor)
	}
	if n := len(c.Shelved); n > maxShelved {
		return fmt.Errorf("shelved: %d are more than %d", n, maxShelved)
	}
	for i := range c.Shelved {
		if err := c.Shelved[i].validate(); err != nil {
			return fmt.Errorf("shelved[%d].%w", i, err)
		}
	}
	return nil
}

func (s *Shelf) validate() error {
	if _, err := path.Match(s.Machine, ""); err != nil || s.Machine == "" {
		return fmt.Errorf("machine: %q is no pattern", s.Machine)
	}
	if _, err := path.Match(s.Sensor, ""); err != nil || s.Sensor == "" {
		return fmt.Errorf("sensor: %q is no pattern", s.Sensor)
	}
	if s.Until != "" {
		if _, err := time.Parse(time.RFC3339Nano, s.Until); err != nil {
			return errors.New("until: not a time of RFC 3339")
		}
	}
	return nil
}

// Shelves are those of one machine; mostly nil.
type Shelves []shelf

type shelf struct {
	sensor  string
	untilUS int64
	ever    bool
}

// ShelvesOf picks what concerns one machine. c must be valid.
func (c *Config) ShelvesOf(equipmentID string) Shelves {
	var out Shelves
	for i := range c.Shelved {
		s := &c.Shelved[i]
		if ok, err := path.Match(s.Machine, equipmentID); err != nil || !ok {
			continue
		}
		k := shelf{sensor: s.Sensor, ever: s.Until == ""}
		if !k.ever {
			at, err := time.Parse(time.RFC3339Nano, s.Until)
			if err != nil {
				continue // Validate refuses it
			}
			k.untilUS = at.UnixMicro()
		}
		out = append(out, k)
	}
	return out
}

// Until is the event time before which the sensor is not judged; false: it is judged. ever: always.
func (s Shelves) Until(sensor string) (untilUS int64, ever, ok bool) {
	for i := range s {
		if match, err := path.Match(s[i].sensor, sensor); err != nil || !match {
			continue
		}
		ok = true
		ever = ever || s[i].ever
		untilUS = max(untilUS, s[i].untilUS)
	}
	return untilUS, ever, ok
}
