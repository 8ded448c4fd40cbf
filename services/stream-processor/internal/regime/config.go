package regime

import (
	"fmt"
	"math"
	"path"
	"time"
)

// Config says which regimes machines have, and whether further ones are looked for.
type Config struct {
	Given  []Rule        `mapstructure:"given" doc:"regimes by the value of one sensor, such as speed, load or a mode number; of those that are about the machine the first whose bounds hold counts. Machines with given regimes are not searched for others"`
	Find   bool          `mapstructure:"find" doc:"whether regimes are found from the data: levels that the machine jumps to, stays at and leaves again, several times over"`
	Visits int           `mapstructure:"visits" doc:"stays at a found level before it is believed to be a regime; each one before that is an anomaly like any other. 2 to 100"`
	Settle time.Duration `mapstructure:"settle" doc:"transition: for so long after a change of regime, and at most so long while one may be under way, behaviour is not judged; fixed limits are"`
}

// Rule gives a regime by one sensor's mean over the window.
type Rule struct {
	Machine string   `mapstructure:"machine" doc:"equipment id; * and ? match any text and any character"`
	Name    string   `mapstructure:"name" doc:"such as off, warm-up, steady or load; rules of one name are one regime"`
	Sensor  string   `mapstructure:"sensor" doc:"name of the sensor that tells"`
	From    *float64 `mapstructure:"from" doc:"it is at least this"`
	Below   *float64 `mapstructure:"below" doc:"it is less than this"`
}

const (
	maxRules   = 10_000
	maxRegimes = 6 // of one machine: given ones
	mostFound  = 4 // with the one that it was first known in
	maxName    = 64
)

// DefaultConfig is what ships.
func DefaultConfig() Config { return Config{Find: false, Visits: 3, Settle: 20 * time.Second} }

// Validate names the field that is wrong.
func (c *Config) Validate() error {
	switch {
	case c.Visits < 2 || c.Visits > 100:
		return fmt.Errorf("visits: %d is not between 2 and 100", c.Visits)
	case c.Settle < 0 || c.Settle > time.Hour:
		return fmt.Errorf("settle: %v is not between 0 and 1h", c.Settle)
	case len(c.Given) > maxRules:
		return fmt.Errorf("given: %d are more than %d", len(c.Given), maxRules)
	}
	for i := range c.Given {
		if err := c.Given[i].validate(); err != nil {
			return fmt.Errorf("given[%d].%w", i, err)
		}
	}
	return nil
}

func (r *Rule) validate() error {
	if _, err := path.Match(r.Machine, ""); err != nil || r.Machine == "" {
		return fmt.Errorf("machine: %q is no pattern", r.Machine)
	}
	if r.Name == "" || len(r.Name) > maxName {
		return fmt.Errorf("name: %q is not 1 to %d bytes long", r.Name, maxName)
	}
	if r.Sensor == "" {
		return fmt.Errorf("sensor: %q is no name", r.Sensor)
	}
	low, high := r.bounds()
	if !(low < high) || math.IsInf(low, -1) && math.IsInf(high, 1) {
		return fmt.Errorf("below: a regime from %v to below %v is none", low, high)
	}
	return nil
}

// bounds are the half-open interval of the rule.
func (r *Rule) bounds() (low, high float64) {
	low, high = math.Inf(-1), math.Inf(1)
	if r.From != nil {
		low = *r.From
	}
	if r.Below != nil {
		high = *r.Below
	}
	return low, high
}
