package tuning

import (
	"errors"
	"fmt"
	"time"

	"github.com/tocsin-io/tocsin/pkg/auth"
	"github.com/tocsin-io/tocsin/pkg/frame"
	"github.com/tocsin-io/tocsin/pkg/httpserver"
	"github.com/tocsin-io/tocsin/pkg/objstore"
)

// Config is the section tuning_bench.
type Config struct {
	HTTP        httpserver.Config `mapstructure:"http" doc:"HTTP: trials of settings, health, metrics."`
	Auth        Auth              `mapstructure:"auth" doc:"Who may try settings, and on which machines' history."`
	Lake        objstore.Config   `mapstructure:"lake" doc:"The lake of the cold-path-writer: the history. It is only read."`
	MaxMachines int               `mapstructure:"max_machines" doc:"Machines judged in one trial; of more, a sample that is the same each time."`
	MaxSamples  int64             `mapstructure:"max_samples" doc:"Samples (all sensors of a machine at a moment) judged in one trial; history beyond it is left out, and the answer says so."`
	MaxValues   int64             `mapstructure:"max_values" doc:"Values held at once: what the chosen machines say in an hour. Some 30 bytes each."`
	MaxSpan     time.Duration     `mapstructure:"max_span" doc:"Longest stretch of history, with what is only learned from."`
	Timeout     time.Duration     `mapstructure:"timeout" doc:"Longest time that a trial may take. One runs at a time, on one processor."`
}

// Auth says who may ask.
type Auth struct {
	AllowAnonymous bool     `mapstructure:"allow_anonymous" doc:"Let anybody who reaches the listener try settings on every machine. Without it that is only so when nobody is listed and the listener is on loopback."`
	People         []Person `mapstructure:"people" doc:"Who may try settings, each with a token and machines."`
}

// Person is one who may try settings.
type Person struct {
	Name      string   `mapstructure:"name" doc:"Who it is, for lists and the log."`
	Token     string   `mapstructure:"token" doc:"The bearer token, at least 16 characters. Take it from the environment: ${NAME}." secret:"true"`
	Equipment []string `mapstructure:"equipment" doc:"The machines: exact equipment ids, a prefix followed by *, or * for all. Others do not exist for this person."`
}

// DefaultConfig serves on loopback, of a lake in the working directory.
func DefaultConfig() Config {
	return Config{
		HTTP: httpserver.DefaultConfig("127.0.0.1:8088"), Lake: objstore.DefaultConfig("./.tocsin/lake"),
		MaxMachines: 100, MaxSamples: 5_000_000, MaxValues: 10_000_000, MaxSpan: 100 * 24 * time.Hour, Timeout: 30 * time.Minute,
	}
}

// Validate names the first field that is wrong.
func (c Config) Validate() error {
	if err := c.HTTP.Validate(); err != nil {
		return fmt.Errorf("http.%w", err)
	}
	if err := c.Lake.Validate(); err != nil {
		return fmt.Errorf("lake.%w", err)
	}
	if len(c.Auth.People) == 0 && !c.Auth.anonymous(c.HTTP.Listen) {
		return fmt.Errorf("auth.people: empty, so anybody who reaches http.listen (%s) could read of every machine; list people, listen on loopback, or set auth.allow_anonymous", c.HTTP.Listen)
	}
	if _, err := c.Auth.tokens(c.HTTP.Listen); err != nil {
		return fmt.Errorf("auth.%w", err)
	}
	switch {
	case c.MaxMachines < 1 || c.MaxMachines > 10_000:
		return fmt.Errorf("max_machines: %d is not in 1..10000", c.MaxMachines)
	case c.MaxSamples < 1000:
		return errors.New("max_samples: must be at least 1000")
	case c.MaxValues < 1000:
		return errors.New("max_values: must be at least 1000")
	case c.MaxSpan < time.Hour:
		return errors.New("max_span: must be at least 1h")
	case c.Timeout < time.Second || c.Timeout > 24*time.Hour:
		return fmt.Errorf("timeout: %s is not in 1s..24h", c.Timeout)
	}
	return nil
}

func (a Auth) anonymous(listen string) bool {
	return a.AllowAnonymous || len(a.People) == 0 && auth.Loopback(listen)
}

// identity is who asks.
type identity struct {
	name string // empty: anybody
	see  auth.Equipment
}

func (a Auth) tokens(listen string) (*auth.Tokens[identity], error) {
	tokens := auth.NewTokens[identity]()
	if a.anonymous(listen) {
		tokens.AllowAnonymous(identity{see: auth.Every()})
	}
	for i, p := range a.People {
		if err := frame.CheckID("name", []byte(p.Name)); err != nil {
			return nil, fmt.Errorf("people[%d].%w", i, err)
		}
		if err := auth.CheckToken(p.Token); err != nil {
			return nil, fmt.Errorf("people[%d].token: %w", i, err)
		}
		if err := auth.CheckEquipment(p.Equipment); err != nil {
			return nil, fmt.Errorf("people[%d].equipment%w", i, err)
		}
		if err := tokens.Add(p.Token, identity{p.Name, auth.NewEquipment(p.Equipment)}); err != nil {
			return nil, fmt.Errorf("people[%d].token: %w", i, err)
		}
	}
	return tokens, nil
}
