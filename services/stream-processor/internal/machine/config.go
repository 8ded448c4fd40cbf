package machine

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"github.com/tocsin-io/tocsin/services/stream-processor/internal/breaker"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/calibrate"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/cohort"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/coverage"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/detect"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/quality"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/regime"
)

// Config is everything that a judgement depends on beside the records. It is shared by all machines and must not change
// once a Machine has been made with it.
type Config struct {
	WindowLength time.Duration `mapstructure:"window_length" doc:"length of the tumbling windows, aligned to 1970-01-01 UTC; 1ms to 1h"`
	Lateness     time.Duration `mapstructure:"allowed_lateness" doc:"how far a row may lag behind the machine's newest row and still be in time"`
	IdleFlush    time.Duration `mapstructure:"idle_flush" doc:"when no frame came for this long (broker time), windows still open are judged with what they have"`
	MaxFuture    time.Duration `mapstructure:"max_future" doc:"rows further ahead of the broker's clock than this are stored but not judged"`
	KeptWindows  int           `mapstructure:"kept_windows" doc:"closed windows per machine that late rows can still correct"`
	MaxSensors   int           `mapstructure:"max_sensors" doc:"most sensors judged per machine; further ones are stored only"`
	MaxGateways  int           `mapstructure:"max_gateways" doc:"most gateways per machine whose sequence numbers are remembered"`

	Silence   SilenceConfig    `mapstructure:"silence"`
	Quality   quality.Config   `mapstructure:"quality"`
	Detect    detect.Config    `mapstructure:"detect"`
	Calibrate calibrate.Config `mapstructure:"calibrate"`
	Regimes   regime.Config    `mapstructure:"regimes"`
	Cohort    cohort.Config    `mapstructure:"cohort"`
	Episodes  EpisodeConfig    `mapstructure:"episodes"`
	Coverage  coverage.Config  `mapstructure:"coverage"`
	Breaker   breaker.Config   `mapstructure:"breaker"`

	// faulty, if not nil, may replace detectors. Tests break them with it.
	faulty func(detect.Spec) detect.Spec

	Corrections []Correction `mapstructure:"corrections" doc:"people's word on what machines may learn; each counts once, when the machine's event time gets there or the release comes into force"`
}

// SilenceConfig says when a machine is silent. All times are broker time.
type SilenceConfig struct {
	Factor        float64       `mapstructure:"factor" doc:"silent after this many times the machine's learned interval between arrivals"`
	Min           time.Duration `mapstructure:"min" doc:"never silent before this"`
	MinArrivals   int           `mapstructure:"min_arrivals" doc:"arrivals needed before silence is judged at all"`
	CriticalAfter time.Duration `mapstructure:"critical_after" doc:"silence becomes critical after this; 0: never"`
}

// EpisodeConfig says how verdicts become episodes.
type EpisodeConfig struct {
	OngoingEvery    time.Duration `mapstructure:"ongoing_every" doc:"an open episode is reported again at most this often (event time), or when its severity rises"`
	ClearWindows    int           `mapstructure:"clear_windows" doc:"clear windows in a row that end an episode"`
	CriticalWindows int           `mapstructure:"critical_windows" doc:"anomalous windows after which an episode is critical; before it is a warning"`
	QualityWindows  int           `mapstructure:"quality_windows" doc:"windows in a row with mostly unusable values that open a bad_quality episode"`
	ClockFrames     int           `mapstructure:"clock_frames" doc:"frames in a row from too far in the future that open a clock episode"`
}

// DefaultConfig is what ships.
func DefaultConfig() Config {
	return Config{
		WindowLength: 5 * time.Second, Lateness: 2 * time.Second, IdleFlush: 10 * time.Second, MaxFuture: 5 * time.Minute,
		KeptWindows: 6, MaxSensors: 30_000, MaxGateways: 8,
		Silence:   SilenceConfig{Factor: 5, Min: 15 * time.Second, MinArrivals: 5, CriticalAfter: 5 * time.Minute},
		Quality:   quality.DefaultConfig(),
		Detect:    detect.DefaultConfig(),
		Calibrate: calibrate.DefaultConfig(),
		Regimes:   regime.DefaultConfig(),
		Cohort:    cohort.DefaultConfig(),
		Episodes:  EpisodeConfig{OngoingEvery: time.Minute, ClearWindows: 6, CriticalWindows: 3, QualityWindows: 3, ClockFrames: 3},
		Coverage:  coverage.DefaultConfig(),
		Breaker:   breaker.DefaultConfig(),
	}
}

// Validate names the first field that is wrong, by its path in the configuration.
func (c Config) Validate() error {
	within := func(field string, v, lo, hi any, ok bool) error {
		if ok {
			return nil
		}
		return fmt.Errorf("%s: %v is not between %v and %v", field, v, lo, hi)
	}
	duration := func(field string, v, lo, hi time.Duration) error { return within(field, v, lo, hi, v >= lo && v <= hi) }
	number := func(field string, v, lo, hi int) error { return within(field, v, lo, hi, v >= lo && v <= hi) }
	const day = 24 * time.Hour
	if c.WindowLength%time.Microsecond != 0 {
		return fmt.Errorf("window_length: %v is no whole number of microseconds", c.WindowLength)
	}
	f := c.Silence.Factor
	for _, err := range []error{
		duration("window_length", c.WindowLength, time.Millisecond, time.Hour),
		duration("allowed_lateness", c.Lateness, 0, 100*c.WindowLength),
		duration("idle_flush", c.IdleFlush, time.Second, day),
		duration("max_future", c.MaxFuture, 0, 365*day),
		number("kept_windows", c.KeptWindows, 1, 1000),
		number("max_sensors", c.MaxSensors, 1, hardMaxSensors),
		number("max_gateways", c.MaxGateways, 1, hardMaxGateways),
		within("silence.factor", f, 1, 1000, f >= 1 && f <= 1000),
		duration("silence.min", c.Silence.Min, time.Second, 30*day),
		number("silence.min_arrivals", c.Silence.MinArrivals, 3, 1_000_000),
		duration("silence.critical_after", c.Silence.CriticalAfter, 0, 30*day),
		duration("episodes.ongoing_every", c.Episodes.OngoingEvery, 0, day),
		number("episodes.clear_windows", c.Episodes.ClearWindows, 1, 10_000),
		number("episodes.critical_windows", c.Episodes.CriticalWindows, 1, 10_000),
		number("episodes.quality_windows", c.Episodes.QualityWindows, 1, 10_000),
		number("episodes.clock_frames", c.Episodes.ClockFrames, 1, 10_000),
	} {
		if err != nil {
			return err
		}
	}
	if n := len(c.Corrections); n > maxCorrections {
		return fmt.Errorf("corrections: %d are more than %d", n, maxCorrections)
	}
	for i := range c.Corrections {
		if err := c.Corrections[i].Validate(); err != nil {
			return fmt.Errorf("corrections[%d].%w", i, err)
		}
	}
	if err := c.Quality.Validate(); err != nil {
		return fmt.Errorf("quality.%w", err)
	}
	if err := c.Detect.Validate(); err != nil {
		return fmt.Errorf("detect.%w", err)
	}
	if err := c.Breaker.Validate(); err != nil {
		return fmt.Errorf("breaker.%w", err)
	}
	if err := c.Coverage.Validate(); err != nil {
		return fmt.Errorf("coverage.%w", err)
	}
	if err := c.Calibrate.Validate(); err != nil {
		return fmt.Errorf("calibrate.%w", err)
	}
	if err := c.Cohort.Validate(); err != nil {
		return fmt.Errorf("cohort.%w", err)
	}
	if err := c.Regimes.Validate(); err != nil {
		return fmt.Errorf("regimes.%w", err)
	}
	return nil
}

// EncodingFormat is the version of what Encode writes.
const EncodingFormat = 1

// Encode is the configuration as JSON: equal for equal ones. The configuration must be valid.
func (c Config) Encode() []byte {
	b, err := json.Marshal(c)
	if err != nil { // only NaN and infinities, which Validate refuses
		b = fmt.Appendf(nil, "%+v", c)
	}
	return b
}

// DecodeConfig reads what Encode wrote. A field that an older build did not have keeps its default; one that this build does not have is an
// error: what it asks for cannot be done. The result is valid.
func DecodeConfig(b []byte) (Config, error) {
	c := DefaultConfig()
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return Config{}, fmt.Errorf("detection configuration: %w", err)
	}
	if err := c.Validate(); err != nil {
		return Config{}, fmt.Errorf("detection configuration: %w", err)
	}
	return c, nil
}

// Fingerprint is the same for equal configurations and differs for others: the config_version of a snapshot. The configuration must be valid.
func (c Config) Fingerprint() string { return FingerprintOf(c.Encode()) }

// FingerprintOf is the fingerprint of what Encode wrote, whichever build did.
func FingerprintOf(encoded []byte) string {
	sum := sha256.Sum256(append([]byte("judge-v1\x00"), encoded...))
	return hex.EncodeToString(sum[:8])
}
