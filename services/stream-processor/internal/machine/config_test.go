package machine

import (
	"strings"
	"testing"
	"time"

	"github.com/tocsin-io/tocsin/services/stream-processor/internal/detect"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/quality"
)

func TestValidateNamesTheField(t *testing.T) {
	if err := DefaultConfig().Validate(); err != nil {
		t.Fatal(err)
	}
	low, high := 2.0, 1.0
	for field, edit := range map[string]func(*Config){
		"window_length":                func(c *Config) { c.WindowLength = 0 },
		"allowed_lateness":             func(c *Config) { c.Lateness = -1 },
		"idle_flush":                   func(c *Config) { c.IdleFlush = time.Millisecond },
		"max_future":                   func(c *Config) { c.MaxFuture = -time.Second },
		"kept_windows":                 func(c *Config) { c.KeptWindows = 0 },
		"max_sensors":                  func(c *Config) { c.MaxSensors = 1 << 30 },
		"silence.factor":               func(c *Config) { c.Silence.Factor = 0 },
		"episodes.clear_windows":       func(c *Config) { c.Episodes.ClearWindows = 0 },
		"quality.flatline.min_samples": func(c *Config) { c.Quality.Flatline.MinSamples = 0 },
		"quality.ranges[0].low":        func(c *Config) { c.Quality.Ranges = []quality.Range{{Sensor: "a", Low: &low, High: &high}} },
		"quality.ranges[0].sensor":     func(c *Config) { c.Quality.Ranges = []quality.Range{{Sensor: "[", Low: &low}} },
		"detect.detectors[0]":          func(c *Config) { c.Detect.Detectors = []string{"oracle"} },
		"detect.detectors[1]":          func(c *Config) { c.Detect.Detectors = []string{"ewma", "ewma"} },
		"detect.limits[0].sensor":      func(c *Config) { c.Detect.Limits = []detect.Limit{{}} },
		"detect.ewma.lambda":           func(c *Config) { c.Detect.EWMA.Lambda = 2 },
		"detect.robust_z.history":      func(c *Config) { c.Detect.RobustZ.History = 1000 },
		"calibrate.budget":             func(c *Config) { c.Calibrate.Budget = 0 },
		"calibrate.warm_up":            func(c *Config) { c.Calibrate.WarmUp = 1 },
	} {
		c := DefaultConfig()
		before := c.Fingerprint()
		edit(&c)
		if err := c.Validate(); err == nil || !strings.HasPrefix(err.Error(), field+": ") {
			t.Errorf("%s: %v", field, err)
		}
		if c.Fingerprint() == before {
			t.Errorf("%s is not in the fingerprint", field)
		}
	}
	if a, b := DefaultConfig().Fingerprint(), DefaultConfig().Fingerprint(); a != b {
		t.Fatalf("%s, then %s", a, b)
	}
}
