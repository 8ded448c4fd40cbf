package topology

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/cespare/xxhash/v2"
	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"
	"google.golang.org/protobuf/proto"

	"github.com/tocsin-io/tocsin/pkg/topic"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine"
)

const (
	// stateFormat is the format of snapshots, metaFormat that of the meta record. Format 1 of the latter noted neither dead letters nor
	// configurations.
	stateFormat   = 1
	metaFormat    = 2
	metaKey       = "meta"
	configKey     = "config"
	machinePrefix = "m/"
	partPrefix    = "p/"
	// partBytes is the most of a machine's state in one record: below max.message.bytes of the topic, also where it does not compress.
	partBytes = 4 << 20
	maxParts  = 1 << 12
)

// SnapshotConfig bounds what is written, and so what a restart must replay.
type SnapshotConfig struct {
	MaxAgeMS   int64 // of unsaved effects, in log time
	MaxRecords int64 // of the input between the oldest unsaved effect and now
	MaxBytes   int   // per partition and transaction
}

// snapshot emits the states of the machines that have been dirty longest, as many as are due and the budget allows,
// and the meta record that closes the partition's part of the transaction. It must be the last thing of the
// transaction: the state it saves holds the effect of every record below p.next.
func (p *partition) snapshot(c SnapshotConfig, emit emitter) {
	p.saveLent(emit)
	budget := c.MaxBytes
	for e := p.dirty.head(); e != nil && budget > 0; e = p.dirty.head() {
		if p.logTimeMS-e.firstDirtyMS < c.MaxAgeMS && p.next-e.firstDirty < c.MaxRecords {
			break
		}
		p.saveNow(e, emit)
		budget -= len(p.scratch)
		p.dirty.pop()
	}
	from := p.replayFrom()
	p.dead.dropBefore(from)
	if p.past.advance(from); p.past.stored == nil {
		p.past.stored = p.past.encode()
		rec := p.stateRecord(configKey, topic.TypePartitionConfig, p.past.stored)
		p.hash ^= p.past.hash
		p.past.hash = hashSnapshot(rec.Key, rec.Value)
		p.hash ^= p.past.hash
		emit(rec)
	}
	value, _ := proto.Marshal(&eventv1.PartitionMeta{
		Format: metaFormat, NextOffset: p.next, ReplayFrom: from, LogTimeMs: p.logTimeMS, StateHash: p.hash,
		ConfigVersion: p.in.Fingerprint, LastTickMs: p.lastTickMS, DeadLetters: p.dead.encode(from), Comparisons: p.comparing.saved(), ModelInputs: p.comparing.inputs.saved(),
	})
	emit(p.stateRecord(metaKey, topic.TypeMeta, value))
}

// saveNow saves all of a machine, which is to be taken out of the queue.
func (p *partition) saveNow(e *entry, emit emitter) {
	p.scratch = e.machine.AppendSnapshot(p.scratch[:0])
	p.hash ^= e.snapshotHash
	p.save(e, p.scratch, emit)
	p.hash ^= e.snapshotHash
	e.firstDirty = -1
}

// save emits the records that hold a machine's state.
func (p *partition) save(e *entry, state []byte, emit emitter) {
	parts := max(1, (len(state)+partBytes-1)/partBytes)
	e.snapshotHash = 0
	for i := range parts { // one after the other: the keeper of cases reads them so
		m := &eventv1.MachineSnapshot{Format: stateFormat, ConfigVersion: p.in.Fingerprint, AppliedOffset: p.next - 1, State: state[i*partBytes : min(len(state), (i+1)*partBytes)]}
		if i == 0 {
			m.MoreParts = uint32(parts - 1)
		}
		value, _ := proto.Marshal(m)
		rec := p.stateRecord(partKey(e.id, i), topic.TypeSnapshot, value)
		e.snapshotHash ^= hashSnapshot(rec.Key, rec.Value)
		emit(rec)
		if i == 0 {
			p.cases.saved = append(p.cases.saved, savedAs{e, rec})
		}
	}
	for i := parts; i < e.parts; i++ {
		emit(p.stateRecord(partKey(e.id, i), topic.TypeSnapshot, nil))
	}
	e.parts = parts
}

func partKey(id string, part int) string {
	if part == 0 {
		return machinePrefix + id
	}
	return partPrefix + strconv.Itoa(part) + "/" + id
}

// cutPartKey is partKey backwards.
func cutPartKey(key string) (id string, part int, ok bool) {
	if id, ok := strings.CutPrefix(key, machinePrefix); ok {
		return id, 0, true
	}
	rest, ok := strings.CutPrefix(key, partPrefix)
	if !ok {
		return "", 0, false
	}
	number, id, ok := strings.Cut(rest, "/")
	part, err := strconv.Atoi(number)
	return id, part, ok && err == nil && part > 0 && part < maxParts
}

func (p *partition) stateRecord(key, typ string, value []byte) *kgo.Record {
	return &kgo.Record{Topic: topic.State, Partition: p.id, Key: []byte(key), Value: value, Headers: []kgo.RecordHeader{{Key: topic.HeaderType, Value: []byte(typ)}}}
}

func hashSnapshot(key, value []byte) uint64 {
	var d xxhash.Digest
	d.Reset()
	_, _ = d.Write(key)
	_, _ = d.Write([]byte{0})
	_, _ = d.Write(value)
	return d.Sum64()
}

// partOf names a further record of a machine's state.
type partOf struct {
	id   string
	part int
}

// saved is what the state topic holds of one partition: the newest value of each key.
type saved struct {
	meta     *eventv1.PartitionMeta // nil: nothing was ever committed
	config   []byte                 // nil: saved by a build that did not
	machines map[string][]byte
	parts    map[partOf][]byte // where a machine's state goes on; nil until there is one
	bytes    int
	at       map[string]int64 // where the newest record of each machine stands
	// disposable lets load give up each snapshot once its machine is made, so that memory never holds both of all.
	disposable bool
}

// add takes one record of the state topic, in order.
func (s *saved) add(r *kgo.Record) error {
	key := string(r.Key)
	switch id, part, isMachine := cutPartKey(key); {
	case key == metaKey:
		m := new(eventv1.PartitionMeta)
		if err := proto.Unmarshal(r.Value, m); err != nil {
			return fmt.Errorf("meta record at offset %d: %w", r.Offset, err)
		}
		s.meta = m
	case key == configKey:
		s.config = bytes.Clone(r.Value)
	case isMachine && part > 0:
		k := partOf{id, part}
		s.bytes += len(r.Value) - len(s.parts[k])
		if r.Value == nil {
			delete(s.parts, k)
			return nil
		}
		if s.parts == nil {
			s.parts = map[partOf][]byte{}
		}
		s.parts[k] = append(s.parts[k][:0], r.Value...)
	case isMachine && r.Value == nil:
		s.bytes -= len(s.machines[id])
		delete(s.machines, id)
	case isMachine:
		// A copy: the record's value is part of a fetch, which one that lives on would keep from being freed.
		s.bytes += len(r.Value) - len(s.machines[id])
		s.machines[id] = append(s.machines[id][:0], r.Value...)
		if s.at == nil {
			s.at = map[string]int64{}
		}
		s.at[id] = r.Offset
	default:
		return fmt.Errorf("unknown key %q at offset %d", key, r.Offset)
	}
	return nil
}

// load fills an empty partition from what was saved and proves that it is all there. Then it stands at replay_from.
func (p *partition) load(s *saved) error {
	if f := s.meta.Format; f != metaFormat && f != 1 {
		return fmt.Errorf("state of format %d, this build reads %d", f, metaFormat)
	}
	var err error
	switch {
	case s.meta.Format == 1:
		p.undecided = true
	case s.config == nil:
		return errors.New("the configuration it was judged under is missing")
	default:
		past, err := decodeHistory(s.config)
		if err != nil {
			return err
		}
		p.past, p.in = *past, past.base
		p.hash = past.hash
	}
	if p.dead, err = decodeOffsets(s.meta.DeadLetters, s.meta.ReplayFrom, s.meta.NextOffset); err != nil {
		return err
	}
	if err := p.loadMachines(s); err != nil {
		return err
	}
	if p.hash != s.meta.StateHash {
		return fmt.Errorf("state hash %016x, the last commit says %016x: snapshots are missing or of another time", p.hash, s.meta.StateHash)
	}
	p.next, p.logTimeMS, p.lastTickMS = s.meta.ReplayFrom, s.meta.LogTimeMs, s.meta.LastTickMs
	return nil
}

// loadMachines makes machines of their snapshots, as many side by side as there are processors.
func (p *partition) loadMachines(s *saved) error {
	ids := slices.Collect(maps.Keys(s.machines)) // in any order: nothing below depends on it
	values := make([][]byte, len(ids))
	for i, id := range ids {
		values[i] = s.machines[id]
	}
	if s.disposable {
		s.machines = nil
	}
	entries := make([]*entry, len(ids))
	var at atomic.Int64
	var g errgroup.Group
	for range runtime.GOMAXPROCS(0) {
		g.Go(func() error {
			for i := int(at.Add(1)) - 1; i < len(ids); i = int(at.Add(1)) - 1 {
				e, err := p.loadMachine(ids[i], values[i], s.parts)
				if err != nil {
					return fmt.Errorf("snapshot of %q: %w", ids[i], err)
				}
				entries[i], values[i] = e, nil
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	p.machines = make(map[string]*entry, len(entries))
	parts := 0
	for _, e := range entries {
		parts += e.parts - 1
		p.hash ^= e.snapshotHash
		if at, ok := s.at[e.id]; ok {
			e.stateAt = at
		}
		p.machines[e.id] = e
		p.due.set(e)
	}
	if parts != len(s.parts) {
		return fmt.Errorf("%d records go on with states, %d are called for", len(s.parts), parts)
	}
	return nil
}

// loadMachine restores one machine under the configuration that was in force when its snapshot was taken: under an earlier one it would lose what that
// one has no use for.
func (p *partition) loadMachine(id string, value []byte, parts map[partOf][]byte) (*entry, error) {
	var snap eventv1.MachineSnapshot
	if err := decodeSnapshot(value, &snap); err != nil {
		return nil, err
	}
	hash := hashSnapshot([]byte(machinePrefix+id), value)
	for i := 1; i <= int(snap.MoreParts); i++ {
		value, ok := parts[partOf{id, i}]
		if !ok {
			return nil, fmt.Errorf("part %d of %d is missing", i, snap.MoreParts)
		}
		var part eventv1.MachineSnapshot
		if err := decodeSnapshot(value, &part); err != nil {
			return nil, fmt.Errorf("part %d: %w", i, err)
		}
		hash ^= hashSnapshot([]byte(partKey(id, i)), value)
		snap.State = append(snap.State, part.State...)
	}
	m, err := machine.Restore(p.past.at(snap.AppliedOffset).Judge, id, snap.State)
	if err != nil {
		return nil, err
	}
	return &entry{id: id, machine: m, applied: snap.AppliedOffset, firstDirty: -1, heapAt: -1, snapshotHash: hash, parts: 1 + int(snap.MoreParts), stateAt: -1}, nil
}

func decodeSnapshot(value []byte, m *eventv1.MachineSnapshot) error {
	if err := proto.Unmarshal(value, m); err != nil {
		return err
	}
	if m.Format != stateFormat {
		return fmt.Errorf("format %d, this build reads %d", m.Format, stateFormat)
	}
	return nil
}

// replayed ends a replay: what it came to must be what was saved.
func (p *partition) replayed(s *saved) error {
	p.count, p.undecided = counts{}, false
	p.comparing.load(s.meta.Comparisons, s.meta.ModelInputs)
	if s.meta.Format != 1 && p.in.Fingerprint != s.meta.ConfigVersion {
		return fmt.Errorf("the replay ends under configuration %s, the state under %s", p.in.Fingerprint, s.meta.ConfigVersion)
	}
	return nil
}
