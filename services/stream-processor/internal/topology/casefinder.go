package topology

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
)

// CaseFinder makes a case of what processor.state.v1 still holds, where none was kept. It takes the partition's records in order. Memory: one machine's snapshot,
// and the configurations. Not safe for concurrent use.
type CaseFinder struct {
	machine string
	before  int64
	configs map[string]*eventv1.DetectionConfig // by fingerprint
	parts   []*eventv1.MachineSnapshot
	at      int64
	past    bool // what comes is newer than what is looked for
}

// NewCaseFinder looks for the newest snapshot of the machine that holds nothing from offset before on.
func NewCaseFinder(machine string, before int64) *CaseFinder {
	return &CaseFinder{machine: machine, before: before, configs: map[string]*eventv1.DetectionConfig{}}
}

// Add takes one record of the state's topic.
func (f *CaseFinder) Add(rec *kgo.Record) error {
	if key := string(rec.Key); key == configKey {
		var m eventv1.PartitionConfig
		if err := proto.Unmarshal(rec.Value, &m); err != nil {
			return fmt.Errorf("configuration at offset %d: %w", rec.Offset, err)
		}
		f.configs[m.GetConfig().GetFingerprint()] = m.GetConfig()
		for _, s := range m.GetSwitches() {
			f.configs[s.GetConfig().GetFingerprint()] = s.GetConfig()
		}
		return nil
	}
	id, part, ok := cutPartKey(string(rec.Key))
	if !ok || id != f.machine || rec.Value == nil || f.past {
		return nil
	}
	s := new(eventv1.MachineSnapshot)
	if err := proto.Unmarshal(rec.Value, s); err != nil {
		return fmt.Errorf("snapshot at offset %d: %w", rec.Offset, err)
	}
	switch {
	case s.GetAppliedOffset() >= f.before:
		f.past = true
	case part == 0:
		f.parts, f.at = append(f.parts[:0:0], s), rec.Offset
	case part == len(f.parts):
		f.parts = append(f.parts, s)
	}
	return nil
}

// Case is what was found; none when the snapshot, a part of it, or its configuration is gone.
func (f *CaseFinder) Case(partition int32, episode string) []*eventv1.Case {
	if len(f.parts) == 0 || len(f.parts) != 1+int(f.parts[0].GetMoreParts()) || f.configs[f.parts[0].GetConfigVersion()] == nil {
		return nil
	}
	out := make([]*eventv1.Case, len(f.parts))
	for i, s := range f.parts {
		out[i] = &eventv1.Case{
			Format: CaseFormat, EpisodeId: episode, EquipmentId: f.machine, Partition: partition, OpenedOffset: f.before,
			ReplayFrom: f.parts[0].GetAppliedOffset() + 1, Config: f.configs[s.GetConfigVersion()], StateOffset: f.at, State: s, Part: uint32(i),
		}
	}
	return out
}
