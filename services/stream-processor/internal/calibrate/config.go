package calibrate

import "fmt"

// Config of the calibration.
type Config struct {
	Budget float64 `mapstructure:"budget" doc:"false behaviour pages that one machine may cause per month (30 days)"`
	WarmUp int     `mapstructure:"warm_up" doc:"windows a machine must have been learned from before its behaviour is judged"`
	Memory int     `mapstructure:"memory" doc:"windows over which the tails of the detectors' scores forget; the machine's own remembers a month"`

	HabitDays int `mapstructure:"habit_days" doc:"days on which a machine must be unlike itself in the same hour, and be itself again, before that is its habit and only pages when it is worse than on those days; 0: never"`
}

// DefaultConfig is what ships.
func DefaultConfig() Config { return Config{Budget: 1, WarmUp: 60, Memory: 5000, HabitDays: 3} }

// Validate names the field that is wrong.
func (c Config) Validate() error {
	switch {
	case !(c.Budget > 0 && c.Budget <= 1e6):
		return fmt.Errorf("budget: %v is not between 0 and 1000000", c.Budget)
	case c.WarmUp < 20 || c.WarmUp > 1_000_000:
		return fmt.Errorf("warm_up: %d is not between 20 and 1000000", c.WarmUp)
	case c.Memory < 100 || c.Memory > 1_000_000:
		return fmt.Errorf("memory: %d is not between 100 and 1000000", c.Memory)
	case c.HabitDays < 0 || c.HabitDays > 100:
		return fmt.Errorf("habit_days: %d is not between 0 and 100", c.HabitDays)
	}
	return nil
}
