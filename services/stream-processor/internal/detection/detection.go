// Package detection carries detection configurations as records: the fleet's one on a topic of its own, and in each input partition the
// changes at which that partition took another one into force.
package detection

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"

	"google.golang.org/protobuf/proto"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine"
)

// Number is the place of a configuration among the fleet's: by revision, then change, then release. A lower one never replaces a higher one.
type Number struct {
	// Revision is chosen by people, in the file.
	Revision uint32
	// Change counts what people have applied beside the file. It begins anew with nothing: a higher revision goes on counting.
	Change uint64
	// Release counts, within a revision, how often the roles of the released models changed that it takes as they have them.
	Release uint64
}

// Compare orders numbers.
func (n Number) Compare(o Number) int {
	return cmp.Or(cmp.Compare(n.Revision, o.Revision), cmp.Compare(n.Change, o.Change), cmp.Compare(n.Release, o.Release))
}

// ID is what people call a configuration by: revision and change, such as 3.1.
func (n Number) ID() string { return fmt.Sprintf("%d.%d", n.Revision, n.Change) }

// ParseID reads an ID; the release is 0.
func ParseID(id string) (Number, error) {
	r, c, ok := strings.Cut(id, ".")
	revision, err := strconv.ParseUint(r, 10, 32)
	change, err2 := strconv.ParseUint(c, 10, 64)
	if !ok || err != nil || err2 != nil || revision > math.MaxUint32 {
		return Number{}, fmt.Errorf("%q is no revision such as 3.1", id)
	}
	return Number{Revision: uint32(revision), Change: change}, nil
}

// Config is one detection configuration under its number. It never changes; safe for concurrent use.
type Config struct {
	// Judge is what machines are judged with.
	Judge *machine.Config
	Number
	// Fingerprint tells contents apart.
	Fingerprint string

	message *eventv1.DetectionConfig // without origin
	value   []byte
	origin  *eventv1.ConfigOrigin // nil: in a partition's log, or of an older build
}

// New is cfg under that revision. cfg must be valid and must not change any more.
func New(cfg *machine.Config, revision uint32) *Config { return NewRelease(cfg, revision, 0) }

// NewRelease is New of a release within the revision.
func NewRelease(cfg *machine.Config, revision uint32, release uint64) *Config {
	return numbered(cfg, Number{Revision: revision, Release: release}, nil)
}

func numbered(cfg *machine.Config, n Number, origin *eventv1.ConfigOrigin) *Config {
	own := *cfg // others may hold cfg as well
	own.Detect.Prepare()
	cfg = &own
	encoded := cfg.Encode()
	c := &Config{Judge: cfg, Number: n, Fingerprint: machine.FingerprintOf(encoded), origin: origin}
	c.message = &eventv1.DetectionConfig{
		Format: machine.EncodingFormat, Revision: n.Revision, Change: n.Change, Release: n.Release, Fingerprint: c.Fingerprint, Config: encoded,
	}
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
	c := &Config{Judge: &cfg, Number: Number{m.Revision, m.Change, m.Release}, Fingerprint: m.Fingerprint, message: m}
	if m.Origin != nil {
		c.origin = m.Origin
		c.message = proto.CloneOf(m)
		c.message.Origin = nil
	}
	c.value, _ = proto.MarshalOptions{Deterministic: true}.Marshal(c.message)
	return c, nil
}

// Message is c on the wire, as partitions have it: without its origin. It must not be changed.
func (c *Config) Message() *eventv1.DetectionConfig { return c.message }

// Value is the encoded message. It must not be changed.
func (c *Config) Value() []byte { return c.value }

// published is the encoded message with its origin.
func (c *Config) published() []byte {
	m := proto.CloneOf(c.message)
	m.Origin = c.origin
	b, _ := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	return b
}

// Same says that nothing tells a and b apart but where they come from.
func Same(a, b *Config) bool { return a.order(b) == 0 && a.Fingerprint == b.Fingerprint }

// order is below 0 when c is older than o, and 0 when the two are of one number.
func (c *Config) order(o *Config) int { return c.Compare(o.Number) }

// Replaces says whether c, met after old, takes its place: the same number may be corrected, a lower one is out of date.
func (c *Config) Replaces(old *Config) bool { return c.order(old) >= 0 && !Same(c, old) }

// after tells whether c, met in the topic after old, is the fleet's then: it replaces it, and was made from it. unproven: what old was made from is not kept any more, so it may itself
// be one that counts for nothing.
func (c *Config) after(old *Config, unproven bool) bool {
	if c.order(old) < 0 || Same(c, old) && string(c.file()) == string(old.file()) {
		return false
	}
	b := c.origin.GetBase()
	if b == nil {
		return true // of an older build, or the first that was published
	}
	base := Number{b.Revision, b.Change, b.Release}
	// A base that lies ahead: what was in between is not kept any more.
	return base.Compare(old.Number) > 0 || base == old.Number && (unproven || b.Fingerprint == old.Fingerprint)
}

// file is the file's section that c rests on, encoded, without models.
func (c *Config) file() []byte {
	if c.origin != nil {
		return c.origin.File
	}
	return settings(c.Judge) // nothing was applied yet
}

// number is c as others name it.
func (c *Config) number() *eventv1.ConfigNumber {
	return &eventv1.ConfigNumber{Revision: c.Revision, Change: c.Change, Release: c.Release, Fingerprint: c.Fingerprint}
}

// settings is a configuration without models, encoded.
func settings(cfg *machine.Config) []byte { return plain(cfg).Encode() }

// plain is cfg without models. What it holds may be shared with cfg.
func plain(cfg *machine.Config) machine.Config {
	own := *cfg
	none := machine.DefaultConfig().Detect.Models
	own.Detect.Models = none
	return own
}

func (c *Config) String() string {
	s := fmt.Sprintf("revision %d", c.Revision)
	if c.Change > 0 {
		s += fmt.Sprintf(".%d", c.Change)
	}
	if c.Release > 0 {
		s += fmt.Sprintf(", release %d", c.Release)
	}
	return fmt.Sprintf("%s (%s)", s, c.Fingerprint)
}
