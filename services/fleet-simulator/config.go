package fleetsimulator

import (
	"errors"
	"fmt"
	"time"

	"github.com/tocsin-io/tocsin/pkg/ingestclient"
)

// Config is the section fleet_simulator.
type Config struct {
	Machines int     `mapstructure:"machines" doc:"Machines in the fleet; the five kinds take turns."`
	Rate     float64 `mapstructure:"rate" doc:"Frames a second of each machine, each with one sample of all its sensors. At most 1000."`
	Gateways int     `mapstructure:"gateways" doc:"Gateways that the machines are spread over; 0 is one for every 50 machines."`
	Seed     uint64  `mapstructure:"seed" doc:"Decides everything random: the same seed gives the same fleet, noise and random faults."`

	Faults          string        `mapstructure:"faults" doc:"A YAML file of faults, or auto (random ones), demo (a few obvious ones), none."`
	FirstFaultAfter time.Duration `mapstructure:"first_fault_after" doc:"Time before the first fault of auto and demo: what detectors have to learn what is normal."`
	FaultEvery      time.Duration `mapstructure:"fault_every" doc:"Mean time between two faults of auto, over the whole fleet."`
	TruthFile       string        `mapstructure:"truth_file" doc:"File that every fault really injected is appended to as a line of JSON; empty is none."`

	To    string `mapstructure:"to" doc:"Ingest-gateway: http(s)://host:8081 (bulk) or grpc(s)://host:9081 (stream)."`
	Token string `mapstructure:"token" secret:"true" doc:"Bearer token for the gateway; empty sends none."`

	Duration  time.Duration `mapstructure:"duration" doc:"Simulated time after which the simulation ends; 0 is never."`
	History   time.Duration `mapstructure:"history" doc:"Time before now that is sent first, as fast as the gateway takes it, so that detectors know the machines when real time begins. Not with start_time."`
	StartTime string        `mapstructure:"start_time" doc:"Time of the first sample (RFC 3339); empty is now."`
	Speedup   float64       `mapstructure:"speedup" doc:"Simulated seconds per second; 1 is real time, 0 as fast as the gateway takes it."`
	Cycle     time.Duration `mapstructure:"cycle" doc:"Length of a shift, in which a machine is off, warms up, works steadily and under load; 0 runs all machines steadily."`
}

// DefaultConfig is a small fleet in real time, without faults.
func DefaultConfig() Config {
	return Config{
		Machines: 20, Rate: 1, Seed: 1,
		Faults: FaultsNone, FirstFaultAfter: 30 * time.Second, FaultEvery: time.Minute,
		To:      "http://127.0.0.1:8081",
		Speedup: 1,
	}
}

// DemoConfig is what the demo runs: 20 machines that are known for ten minutes, and faults that cannot be overlooked after
// half a minute of watching.
func DemoConfig() Config {
	c := DefaultConfig()
	c.History = 10 * time.Minute
	c.Faults, c.FirstFaultAfter = FaultsDemo, c.History+30*time.Second
	return c
}

// Values of Config.Faults that are no files.
const (
	FaultsNone = "none"
	FaultsAuto = "auto"
	FaultsDemo = "demo"
)

const (
	maxMachines = 1_000_000
	maxRate     = 1000.0 // Hz; sequences rely on it, see firstSequence
)

// gateways is the number of gateways that holds.
func (c Config) gateways() int {
	if c.Gateways == 0 {
		return max(1, (c.Machines+49)/50)
	}
	return c.Gateways
}

func (c Config) period() time.Duration { return time.Duration(float64(time.Second) / c.Rate) }

func (c Config) startTime(now time.Time) (time.Time, error) {
	if c.StartTime == "" {
		return now.Add(-c.History), nil
	}
	return time.Parse(time.RFC3339Nano, c.StartTime)
}

// Validate names every field that is wrong; it does not read the faults file.
func (c Config) Validate() error {
	var errs []error
	bad := func(wrong bool, format string, args ...any) {
		if wrong {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	bad(c.Machines < 1 || c.Machines > maxMachines, "machines: is %d, must be between 1 and %d", c.Machines, maxMachines)
	// Written so that NaN is refused, too.
	bad(!(c.Rate >= 1e-3 && c.Rate <= maxRate), "rate: is %g, must be between 0.001 and %g", c.Rate, maxRate)
	bad(c.Gateways < 0 || c.Gateways > max(1, c.Machines), "gateways: is %d, must be between 0 and the number of machines", c.Gateways)
	bad(c.Faults == "", "faults: must be a file, auto, demo or none")
	bad(c.History < 0 || c.History > 30*24*time.Hour, "history: is %s, must be between 0 and 720h", c.History)
	bad(c.History > 0 && (c.StartTime != "" || c.Speedup != 1), "history: needs speedup 1 and no start_time")
	bad(c.FirstFaultAfter < 0, "first_fault_after: is %s, must not be negative", c.FirstFaultAfter)
	bad(c.Faults == FaultsAuto && c.FaultEvery < time.Second, "fault_every: is %s, must be at least 1s", c.FaultEvery)
	bad(c.Duration < 0, "duration: is %s, must not be negative", c.Duration)
	bad(!(c.Speedup == 0 || c.Speedup >= 1e-3 && c.Speedup <= 1e6), "speedup: is %g, must be 0 or between 0.001 and 1000000", c.Speedup)
	bad(c.Cycle != 0 && (c.Cycle < time.Minute || c.Cycle > 30*24*time.Hour), "cycle: is %s, must be 0 or between 1m and 720h", c.Cycle)
	if _, err := c.startTime(time.Time{}); err != nil {
		errs = append(errs, fmt.Errorf("start_time: %w", err))
	}
	if err := (ingestclient.Config{URL: c.To}).Validate(); err != nil {
		errs = append(errs, fmt.Errorf("to: %w", err))
	}
	return errors.Join(errs...)
}
