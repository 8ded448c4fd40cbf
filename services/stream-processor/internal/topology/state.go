package topology

import (
	"fmt"
	"strings"

	"github.com/cespare/xxhash/v2"
	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"

	"github.com/tocsin-io/tocsin/pkg/topic"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine"
)

const (
	stateFormat   = 1
	metaKey       = "meta"
	machinePrefix = "m/"
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
func (p *partition) snapshot(c SnapshotConfig, version string, emit emitter) {
	budget := c.MaxBytes
	for e := p.dirty.head(); e != nil && budget > 0; e = p.dirty.head() {
		if p.logTimeMS-e.firstDirtyMS < c.MaxAgeMS && p.next-e.firstDirty < c.MaxRecords {
			break
		}
		p.scratch = e.machine.AppendSnapshot(p.scratch[:0])
		budget -= len(p.scratch)
		value, _ := proto.Marshal(&eventv1.MachineSnapshot{Format: stateFormat, ConfigVersion: version, AppliedOffset: p.next - 1, State: p.scratch})
		rec := p.stateRecord(machinePrefix+e.id, topic.TypeSnapshot, value)
		p.hash ^= e.snapshotHash
		e.snapshotHash = hashSnapshot(rec.Key, rec.Value)
		p.hash ^= e.snapshotHash
		e.firstDirty = -1
		p.dirty.pop()
		emit(rec)
	}
	value, _ := proto.Marshal(&eventv1.PartitionMeta{
		Format: stateFormat, NextOffset: p.next, ReplayFrom: p.replayFrom(), LogTimeMs: p.logTimeMS, StateHash: p.hash, ConfigVersion: version, LastTickMs: p.lastTickMS,
	})
	emit(p.stateRecord(metaKey, topic.TypeMeta, value))
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

// saved is what the state topic holds of one partition: the newest value of each key.
type saved struct {
	meta     *eventv1.PartitionMeta // nil: nothing was ever committed
	machines map[string][]byte
	bytes    int
}

// add takes one record of the state topic, in order.
func (s *saved) add(r *kgo.Record) error {
	key := string(r.Key)
	switch id, isMachine := strings.CutPrefix(key, machinePrefix); {
	case key == metaKey:
		m := new(eventv1.PartitionMeta)
		if err := proto.Unmarshal(r.Value, m); err != nil {
			return fmt.Errorf("meta record at offset %d: %w", r.Offset, err)
		}
		s.meta = m
	case isMachine && r.Value == nil:
		s.bytes -= len(s.machines[id])
		delete(s.machines, id)
	case isMachine:
		s.bytes += len(r.Value) - len(s.machines[id])
		s.machines[id] = r.Value
	default:
		return fmt.Errorf("unknown key %q at offset %d", key, r.Offset)
	}
	return nil
}

// load fills an empty partition from what was saved and proves that it is all there.
func (p *partition) load(s *saved) error {
	if s.meta.Format != stateFormat {
		return fmt.Errorf("state of format %d, this build reads %d", s.meta.Format, stateFormat)
	}
	for id, value := range s.machines {
		var snap eventv1.MachineSnapshot
		if err := proto.Unmarshal(value, &snap); err != nil {
			return fmt.Errorf("snapshot of %q: %w", id, err)
		}
		if snap.Format != stateFormat {
			return fmt.Errorf("snapshot of %q has format %d, this build reads %d", id, snap.Format, stateFormat)
		}
		m, err := machine.Restore(p.cfg, id, snap.State)
		if err != nil {
			return fmt.Errorf("snapshot of %q: %w", id, err)
		}
		e := &entry{id: id, machine: m, applied: snap.AppliedOffset, firstDirty: -1, heapAt: -1, snapshotHash: hashSnapshot([]byte(machinePrefix+id), value)}
		p.hash ^= e.snapshotHash
		p.machines[id] = e
		p.due.set(e)
	}
	if p.hash != s.meta.StateHash {
		return fmt.Errorf("state hash %016x, the last commit says %016x: snapshots are missing or of another time", p.hash, s.meta.StateHash)
	}
	p.next, p.logTimeMS, p.lastTickMS = s.meta.ReplayFrom, s.meta.LogTimeMs, s.meta.LastTickMs
	return nil
}
