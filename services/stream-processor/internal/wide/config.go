package wide

import "fmt"

// Config of the judge of wide machines.
type Config struct {
	From      int     `mapstructure:"from" doc:"a machine with at least this many sensors is judged by one linear one-class SVM for each sensor instead of by the detectors above (fixed limits hold as well)"`
	Threshold float64 `mapstructure:"threshold" doc:"score from which a sensor is outside its support vector machine; 1 - threshold is the SVM's nu, the share of usual windows outside"`
	FDR       float64 `mapstructure:"false_discovery_rate" doc:"largest expected share of sensors named wrongly among those named (Benjamini-Hochberg)"`
	Memory    int     `mapstructure:"memory" doc:"windows over which the SVMs forget"`
}

// DefaultConfig is what ships.
func DefaultConfig() Config { return Config{From: 513, Threshold: 0.9, FDR: 0.01, Memory: 1000} }

// Validate names the field that is wrong.
func (c Config) Validate() error {
	switch {
	case c.From < 1 || c.From > 1<<20:
		return fmt.Errorf("from: %d is not between 1 and %d", c.From, 1<<20)
	case !(c.Threshold >= 0.5 && c.Threshold <= 0.99):
		return fmt.Errorf("threshold: %v is not between 0.5 and 0.99", c.Threshold)
	case !(c.FDR >= 1e-9 && c.FDR <= 0.2):
		return fmt.Errorf("false_discovery_rate: %v is not between 1e-9 and 0.2", c.FDR)
	case c.Memory < 100 || c.Memory > 1_000_000:
		return fmt.Errorf("memory: %d is not between 100 and 1000000", c.Memory)
	}
	return nil
}
