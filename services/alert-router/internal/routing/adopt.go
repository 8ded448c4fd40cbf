package routing

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/alertmanager/nflog/nflogpb"
	"github.com/prometheus/alertmanager/silence/silencepb"
	"go.uber.org/zap"
	"google.golang.org/protobuf/encoding/protodelim"
)

// others is what all instances, also earlier lives of this one, have entered into their notification logs.
//
// It is kept apart from our own log. Where a route groups alerts of several machines, two instances have different alerts in groups of the
// same key, and each would take the other's entry for news about its own group. Only when a partition
// comes here are the entries about its alerts taken over (Adopt).
//
// Memory: the newest entry of each group, receiver and instance, until it expires. Safe for concurrent use.
type others struct {
	mu   sync.Mutex
	said map[string]map[string]*nflogpb.MeshEntry // by source, then by key
}

func newOthers() *others { return &others{said: make(map[string]map[string]*nflogpb.MeshEntry)} }

// entryKey names what an entry is about.
func entryKey(e *nflogpb.Entry) string {
	r := e.GetReceiver()
	return strings.Join([]string{r.GetGroupName(), r.GetIntegration(), strconv.FormatUint(uint64(r.GetIdx()), 10), string(e.GetGroupKey())}, "\x00")
}

// tell passes on an entry that was just made.
func (e *Engine) tell(entry []byte) {
	m, err := decodeEntry(entry)
	if err != nil {
		e.log.DPanic("entry of the notification log", zap.Error(err)) // not reachable: the log has made it
		return
	}
	e.opts.Told(entryKey(m.GetEntry()), entry)
}

func decodeEntry(entry []byte) (*nflogpb.MeshEntry, error) {
	m := new(nflogpb.MeshEntry)
	if err := protodelim.UnmarshalFrom(bytes.NewReader(entry), m); err != nil {
		return nil, err
	}
	if m.GetEntry().GetReceiver() == nil {
		return nil, errors.New("it names no receiver")
	}
	return m, nil
}

// aboutSilence begins the key of a silence among what instances tell one another.
const aboutSilence = "silence\x00"

// tellSilence passes on a silence that was just made, changed or heard of.
func (e *Engine) tellSilence(entry []byte) {
	m := new(silencepb.MeshSilence)
	if err := protodelim.UnmarshalFrom(bytes.NewReader(entry), m); err != nil {
		e.log.DPanic("silence", zap.Error(err)) // not reachable: the engine has made it
		return
	}
	e.opts.Told(aboutSilence+m.GetSilence().GetId(), entry)
}

// Hear takes note of an entry that source passed on through Options.Told under the given key: of a notification log, or a silence. Silences hold for everybody: they are taken
// over at once, the newest word of an id counts.
func (e *Engine) Hear(source, about string, entry []byte) error {
	if strings.HasPrefix(about, aboutSilence) {
		if err := e.silences.Merge(entry); err != nil {
			return fmt.Errorf("silence from %q: %w", source, err)
		}
		return nil
	}
	m, err := decodeEntry(entry)
	if err != nil {
		return fmt.Errorf("entry of the notification log of %q: %w", source, err)
	}
	key := entryKey(m.GetEntry())
	e.others.mu.Lock()
	defer e.others.mu.Unlock()
	of := e.others.said[source]
	if of == nil {
		of = make(map[string]*nflogpb.MeshEntry)
		e.others.said[source] = of
	}
	if old := of[key]; old == nil || !old.GetEntry().GetTimestamp().AsTime().After(m.GetEntry().GetTimestamp().AsTime()) {
		of[key] = m
	}
	return nil
}

// Adopt takes over what other instances have told people of these alerts: what stands is then not told again, and the end of what somebody was told of
// is owed by us. Of all that was said of an alert the newest word counts.
//
// An entry that was passed on too late (its writer died first) is missing here: then people are told again. At least once, never less.
func (e *Engine) Adopt(alerts []Alert) error {
	if len(alerts) == 0 {
		return nil
	}
	mine, err := e.entries()
	if err != nil {
		return err
	}
	heard := newHearing(alerts)
	now := time.Now()
	e.others.mu.Lock()
	for _, of := range e.others.said {
		maps.DeleteFunc(of, func(_ string, m *nflogpb.MeshEntry) bool { return !m.GetExpiresAt().AsTime().After(now) })
		for key, m := range of {
			heard.listen(key, m.GetEntry())
		}
	}
	e.others.mu.Unlock()
	for key, entry := range mine {
		heard.listen(key, entry)
	}
	for _, key := range slices.Sorted(maps.Keys(heard.words)) {
		stand, ended, changed := heard.words[key].applyTo(mine[key])
		if !changed {
			continue
		}
		about := heard.about[key]
		if err := e.nflog.Log(about.GetReceiver(), string(about.GetGroupKey()), stand, ended, nil, 0); err != nil {
			return fmt.Errorf("take over the notification log: %w", err)
		}
	}
	return nil
}

// hearing gathers the newest word about some alerts, by the key of the entries that say it.
type hearing struct {
	alerts map[uint64]bool
	words  map[string]words
	about  map[string]*nflogpb.Entry // any entry of the key: it names receiver and group
}

// words are the newest word on each alert, by hash.
type words map[uint64]word

type word struct {
	at   time.Time
	said state
}

// state is what a receiver was told of an alert last.
type state uint8

const (
	nothing state = iota
	firing
	resolved
	doubtful // it may have been told that the alert is firing
)

func newHearing(alerts []Alert) *hearing {
	h := &hearing{alerts: make(map[uint64]bool, len(alerts)), words: make(map[string]words), about: make(map[string]*nflogpb.Entry)}
	for i := range alerts {
		h.alerts[alertHash(alerts[i].Labels)] = true
	}
	return h
}

func (h *hearing) listen(key string, entry *nflogpb.Entry) {
	at := entry.GetTimestamp().AsTime()
	note := func(hash uint64, said state) {
		if !h.alerts[hash] {
			return
		}
		if h.words[key] == nil {
			h.words[key], h.about[key] = make(words), entry
		}
		if w, ok := h.words[key][hash]; !ok || at.After(w.at) {
			h.words[key][hash] = word{at, said}
		}
	}
	for _, hash := range entry.GetFiringAlerts() {
		note(hash, firing)
		note(inDoubt(hash), doubtful)
	}
	for _, hash := range entry.GetResolvedAlerts() {
		note(hash, resolved)
	}
}

// applyTo is what an entry (nil: none) says once the words are part of it.
func (ws words) applyTo(entry *nflogpb.Entry) (firingAlerts, resolvedAlerts []uint64, changed bool) {
	states := make(map[uint64]state) // an alert in doubt is there under both its names until it is put under its own
	for _, h := range entry.GetResolvedAlerts() {
		states[h] = resolved
	}
	for _, h := range entry.GetFiringAlerts() {
		states[h] = firing
	}
	for h, w := range ws {
		was := states[h]
		if was == nothing && states[inDoubt(h)] == firing {
			was = doubtful
		}
		changed = changed || was != w.said
		delete(states, inDoubt(h))
		states[h] = w.said
	}
	for _, h := range slices.Sorted(maps.Keys(states)) {
		switch states[h] {
		case firing:
			firingAlerts = append(firingAlerts, h)
		case doubtful:
			firingAlerts = append(firingAlerts, inDoubt(h))
		default:
			resolvedAlerts = append(resolvedAlerts, h)
		}
	}
	return firingAlerts, resolvedAlerts, changed
}

// entries is our own notification log by key.
func (e *Engine) entries() (map[string]*nflogpb.Entry, error) {
	data, err := e.nflog.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("read notification log: %w", err)
	}
	out := make(map[string]*nflogpb.Entry)
	for r := bytes.NewReader(data); ; {
		var m nflogpb.MeshEntry
		err := protodelim.UnmarshalFrom(r, &m)
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read notification log: %w", err)
		}
		out[entryKey(m.GetEntry())] = m.GetEntry()
	}
}
