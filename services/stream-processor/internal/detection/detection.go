// Package detection carries detection configurations as records: the fleet's one on a topic of its own, and in each input partition the
// changes at which that partition took another one into force.
package detection

import (
	"cmp"
	"errors"
	"fmt"

	"google.golang.org/protobuf/proto"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine"
)

// Config is one detection configuration under its revision. It never changes; safe for concurrent use.
type Config struct {
	// Judge is what machines are judged with.
	Judge *machine.Config
	// Revision is chosen by people. A lower one never replaces a higher one.
	Revision uint32
	// Release counts, within a revision, how often the roles of the released models changed that it takes as they have them. A lower one never replaces a higher one.
	Release uint64
	// Fingerprint tells contents apart.
	Fingerprint string

	message *eventv1.DetectionConfig
	value   []byte
}

// New is cfg under that revision. cfg must be valid and must not change any more.
func New(cfg *machine.Config, revision uint32) *Config { return NewRelease(cfg, revision, 0) }

// NewRelease is New of a release within the revision.
func NewRelease(cfg *machine.Config, revision uint32, release uint64) *Config {
	own := *cfg // others may hold cfg as well
	own.Detect.Prepare()
	cfg = &own
	encoded := cfg.Encode()
	c := &Config{Judge: cfg, Revision: revision, Release: release, Fingerprint: machine.FingerprintOf(encoded)}
	c.message = &eventv1.DetectionConfig{Format: machine.EncodingFormat, Revision: revision, Release: release, Fingerprint: c.Fingerprint, Config: encoded}
	c.value, _ = proto.MarshalOptions{Deterministic: true}.Marshal(c.message)
	return c
}

// Parse reads a record's value, which anybody may have written. An error says that this build cannot judge by it.
func Parse(value []byte) (*Config, error) {
	m := new(eventv1.DetectionConfig)
	if err := proto.Unmarshal(value, m); err != nil {
		return nil, fmt.Errorf("not a DetectionConfig: %w", err)
	}
	return Of(m)
}

// Of is Parse of a message, which must not change any more.
func Of(m *eventv1.DetectionConfig) (*Config, error) {
	if m == nil {
		return nil, errors.New("no detection configuration")
	}
	if m.Format != machine.EncodingFormat {
		return nil, fmt.Errorf("detection configuration of format %d, this build reads %d", m.Format, machine.EncodingFormat)
	}
	if got := machine.FingerprintOf(m.Config); got != m.Fingerprint {
		return nil, fmt.Errorf("detection configuration has the fingerprint %s, it says %q", got, m.Fingerprint)
	}
	cfg, err := machine.DecodeConfig(m.Config)
	if err != nil {
		return nil, err
	}
	cfg.Detect.Prepare()
	c := &Config{Judge: &cfg, Revision: m.Revision, Release: m.Release, Fingerprint: m.Fingerprint, message: m}
	c.value, _ = proto.MarshalOptions{Deterministic: true}.Marshal(m)
	return c, nil
}

// Message is c on the wire. It must not be changed.
func (c *Config) Message() *eventv1.DetectionConfig { return c.message }

// Value is the encoded message. It must not be changed.
func (c *Config) Value() []byte { return c.value }

// Same says that nothing tells a and b apart.
func Same(a, b *Config) bool { return a.order(b) == 0 && a.Fingerprint == b.Fingerprint }

// order is below 0 when c is older than o, and 0 when the two are of one revision and release.
func (c *Config) order(o *Config) int {
	return cmp.Or(cmp.Compare(c.Revision, o.Revision), cmp.Compare(c.Release, o.Release))
}

// Replaces says whether c, met after old, takes its place: the same revision may be corrected, a lower one is out of date.
func (c *Config) Replaces(old *Config) bool { return c.order(old) >= 0 && !Same(c, old) }

func (c *Config) String() string {
	if c.Release > 0 {
		return fmt.Sprintf("revision %d, release %d (%s)", c.Revision, c.Release, c.Fingerprint)
	}
	return fmt.Sprintf("revision %d (%s)", c.Revision, c.Fingerprint)
}
