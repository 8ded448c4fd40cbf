package detection

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/pkg/config"
	"github.com/tocsin-io/tocsin/pkg/kafka"
	"github.com/tocsin-io/tocsin/pkg/topic"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine"
)

// Kinds of revisions.
const (
	KindFile       = "file"
	KindRelease    = "release"
	KindSettings   = "settings"
	KindCorrection = "correction"
	KindBack       = "back"
)

const (
	// keptEntries are remembered, and kept in the topic.
	keptEntries = 200
	// maxPlain bounds a configuration without models: with them (224 KiB) and those that a partition keeps until its snapshots have passed, it has to fit into a record of 1 MiB.
	maxPlain = 128 << 10
)

// ErrTooLarge: the configuration would not fit into its records.
var ErrTooLarge = errors.New("the configuration would become too large: move corrections that have been heeded out of it")

// Errors of Apply.
var (
	ErrNothing     = errors.New("nothing would change")
	ErrUnpublished = errors.New("no detection configuration was published yet")
)

// Change says who changes the fleet's configuration beside its file, and why.
type Change struct {
	Kind           string
	By, Why, Trial string
	At             time.Time
	BackTo         *Number // of kind KindBack
}

// Entry is a configuration that was the fleet's, or is.
type Entry struct {
	Number
	Fingerprint    string
	Kind           string
	By, Why, Trial string
	At             time.Time
	Changes        []config.Difference
	BackTo         *Number
}

// entry is an Entry and what it takes to go back there.
type entry struct {
	Entry
	key      string
	settings []byte // without models
}

// remember is called with l.mu held.
func (l *Log) remember(c *Config, key string, at time.Time) {
	e := entry{key: key, settings: settings(c.Judge), Entry: Entry{Number: c.Number, Fingerprint: c.Fingerprint, Kind: KindFile, At: at}}
	if o := c.origin; o != nil {
		e.Kind, e.By, e.Why, e.Trial, e.At = o.Kind, o.By, o.Why, o.Trial, time.UnixMicro(o.AtUs)
		for _, d := range o.Changes {
			e.Changes = append(e.Changes, config.Difference{Key: d.Key, A: d.Was, B: d.Is})
		}
		if b := o.BackTo; b != nil {
			e.BackTo = &Number{b.Revision, b.Change, b.Release}
		}
	}
	l.entries = append(l.entries, e)
	if n := len(l.entries) - 2*keptEntries; n > 0 { // those that are too many in the topic, because nobody applied anything for long
		l.entries = slices.Delete(l.entries, 0, n)
	}
}

// History is what was the fleet's configuration, the newest first: it holds. At most some hundred are known.
func (l *Log) History() []Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make([]Entry, 0, len(l.entries))
	for _, e := range slices.Backward(l.entries) {
		out = append(out, e.Entry)
	}
	return out
}

// Settings are those of the newest entry of a revision and change, without models.
func (l *Log) Settings(n Number) (*machine.Config, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range slices.Backward(l.entries) {
		if e.Revision != n.Revision || e.Change != n.Change {
			continue
		}
		cfg, err := machine.DecodeConfig(e.settings)
		return &cfg, err == nil
	}
	return nil, false
}

// Edit says what is to become of the fleet's configuration: it is given a copy of its settings without models, which are no part of a change, and may change it. An error ends the
// attempt. It may be called several times: whenever another process was quicker.
type Edit func(now *Config, settings *machine.Config) error

// Apply publishes a change of the fleet's configuration, and returns the one that then holds. It needs Run. What it returns is known by Log: an error that is none of Edit's and of this package
// says that nobody knows whether the change stands.
func (l *Log) Apply(ctx context.Context, what Change, edit Edit) (*Config, error) {
	l.applying.Lock()
	defer l.applying.Unlock()
	for {
		if err := l.catchUp(ctx); err != nil {
			return nil, err
		}
		now := l.Current()
		if now == nil {
			return nil, ErrUnpublished
		}
		own, err := machine.DecodeConfig(settings(now.Judge))
		if err != nil {
			return nil, fmt.Errorf("the published detection configuration: %w", err)
		}
		if err := edit(now, &own); err != nil {
			return nil, err
		}
		if len(settings(&own)) > maxPlain {
			return nil, ErrTooLarge
		}
		own.Detect.Models = now.Judge.Detect.Models
		if err := own.Validate(); err != nil {
			return nil, err
		}
		n := now.Number
		n.Change++
		origin := &eventv1.ConfigOrigin{
			Id: newID(), Base: now.number(), File: now.file(), Kind: what.Kind, By: what.By, Why: what.Why, AtUs: what.At.UnixMicro(), Trial: what.Trial,
			Changes: differences(now.Judge, &own),
		}
		if b := what.BackTo; b != nil {
			origin.BackTo = &eventv1.ConfigNumber{Revision: b.Revision, Change: b.Change, Release: b.Release}
		}
		if len(origin.Changes) == 0 {
			return nil, ErrNothing
		}
		next := numbered(&own, n, origin)
		key := next.ID() + "/" + origin.Id
		if err := l.publish(ctx, key, next); err != nil {
			return nil, fmt.Errorf("publish the change: %w", err)
		}
		if l.stands(key) {
			l.log.Info("a change of the detection configuration was applied", zap.Stringer("is", next), zap.Stringer("was", now), zap.String("by", what.By), zap.String("kind", what.Kind), zap.String("why", what.Why))
			l.tidy(ctx)
			return next, nil
		}
		l.forget(ctx, key)
	}
}

// stands tells whether what was published under key was the fleet's configuration.
func (l *Log) stands(key string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.entries, func(e entry) bool { return e.key == key })
}

// tidy takes what is older than what is kept out of the topic, as far as it can.
func (l *Log) tidy(ctx context.Context) {
	l.mu.Lock()
	var keys []string
	if n := len(l.entries) - keptEntries; n > 0 {
		for _, e := range l.entries[:n] {
			keys = append(keys, e.key)
		}
		l.entries = slices.Delete(l.entries, 0, n)
		for _, e := range l.entries { // a release has the key of the one before it
			keys = slices.DeleteFunc(keys, func(k string) bool { return k == e.key })
		}
	}
	l.mu.Unlock()
	for _, k := range keys {
		l.forget(ctx, k)
	}
}

// forget has compaction take away what stands under key. What it could not is passed over by readers all the same.
func (l *Log) forget(ctx context.Context, key string) {
	if err := kafka.ProduceSync(ctx, l.cl, &kgo.Record{Topic: topic.Config, Key: []byte(key)}); err != nil {
		l.log.Debug("an old detection configuration stays in the topic", zap.String("key", key), zap.Error(err))
	}
}

// merge is what the file says now, with what was applied beside base, the file of before: see config.Merge. Models are the file's. Corrections are people's word, and stay all.
func merge(base, applied, file *machine.Config) (_ *machine.Config, kept, overruled []string) {
	out := *file
	k, o := config.Merge(*base, *applied, &out, "detect.models", "corrections")
	out.Corrections = slices.Clone(file.Corrections)
	for _, c := range applied.Corrections {
		if !slices.Contains(base.Corrections, c) && !slices.Contains(out.Corrections, c) {
			out.Corrections = append(out.Corrections, c)
		}
	}
	if n := len(out.Corrections) - len(file.Corrections); n > 0 {
		kept = append(kept, fmt.Sprintf("corrections: %d beside the file's", n))
	}
	if err := out.Validate(); err != nil { // each alone is valid, together they are not
		return file, nil, append(words(k), words(o)...)
	}
	return &out, append(words(k), kept...), words(o)
}

func words(list []config.Difference) []string {
	var out []string
	for _, d := range list {
		out = append(out, fmt.Sprintf("%s: %s, not %s", d.Key, d.B, d.A))
	}
	return out
}

// differences are those of two configurations, but for models.
func differences(a, b *machine.Config) []*eventv1.ConfigChange {
	var out []*eventv1.ConfigChange
	for _, d := range config.Differences(plain(a), plain(b)) {
		if d.Key == "corrections" {
			d = corrected(a.Corrections, b.Corrections)
		}
		out = append(out, &eventv1.ConfigChange{Key: d.Key, Was: d.A, Is: d.B})
	}
	return out
}

// corrected names the corrections that came and went, not all that there are.
func corrected(a, b []machine.Correction) config.Difference {
	gone := func(from, to []machine.Correction) (s string) {
		for _, c := range from {
			if !slices.Contains(to, c) {
				if s != "" {
					s += "; "
				}
				s += fmt.Sprintf("%s of %s from %s", c.Kind, c.Machine, c.From)
			}
		}
		return s
	}
	return config.Difference{Key: "corrections", A: gone(a, b), B: gone(b, a)}
}

func newID() string { return rand.Text() }

// Applied is what c has otherwise than its file, but for models.
func (c *Config) Applied() []config.Difference {
	file, err := machine.DecodeConfig(c.file())
	if err != nil {
		return nil
	}
	var out []config.Difference
	for _, d := range differences(&file, c.Judge) {
		out = append(out, config.Difference{Key: d.Key, A: d.Was, B: d.Is})
	}
	return out
}

// FileCorrections are the corrections of c that stand in its file.
func (c *Config) FileCorrections() []machine.Correction {
	file, err := machine.DecodeConfig(c.file())
	if err != nil {
		return nil
	}
	return file.Corrections
}
