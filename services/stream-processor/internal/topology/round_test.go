package topology

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"google.golang.org/protobuf/proto"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/cohort"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/detect"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/detection"
)

// fleet is a partition of five machines that are held against each other, a minute at a time.
type fleet struct {
	*life
	r     *rand.Rand
	drift float64 // of the machine "m2", each minute
	all   float64 // what they have in common
}

func newFleet() *fleet {
	cfg := judgeConfig()
	cfg.Detect.Detectors = append(cfg.Detect.Detectors, detect.CohortName)
	cfg.Detect.Cohort.Memory = 50
	f := &fleet{life: newLife(), r: rand.New(rand.NewPCG(1, 2))}
	f.cfg = detection.New(cfg, 1)
	f.p = f.roomy()
	return f
}

// roomy is an empty partition for more machines than a life's.
func (f *fleet) roomy() *partition {
	p := f.empty()
	p.maxMachines = 10
	return p
}

func (f *fleet) minute(t *testing.T, n int) {
	t.Helper()
	f.all = 0.95*f.all + 3*f.r.NormFloat64()
	for k := range 5 {
		m := f.life.minute(fmt.Sprintf("m%d", k), f.r)
		for i := range 60 {
			m.Values[i] += float32(float64(k) + f.all) // they differ for good
			if k == 2 {
				m.Values[i] += float32(f.drift * float64(n))
			}
		}
		f.logMS = m.BaseTimeUS/1000 + 67_000
		f.apply(t, f.p, f.write(frameRecord(m)))
	}
	f.apply(t, f.p, f.write(tickRecord()))
	if round := f.p.gather(); round != nil {
		for _, r := range roundRecords(3, round) {
			f.apply(t, f.p, f.write(r))
		}
	}
}

// Whoever restores a partition whose machines are held against each other, from snapshots of any age, comes to the same bytes; and so does who judges one machine again by itself, for where its sisters
// were stands in the log.
func TestRoundsSurviveARestore(t *testing.T) {
	for name, c := range map[string]SnapshotConfig{
		"nothing saved": {MaxAgeMS: 1 << 40, MaxRecords: 1 << 40, MaxBytes: 1 << 20},
		"all saved":     {MaxAgeMS: 0, MaxRecords: 1, MaxBytes: 1 << 20},
		"some saved":    {MaxAgeMS: 100_000, MaxRecords: 1 << 40, MaxBytes: 1},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFleet()
			rounds, from := 0, int64(0)
			var before []byte
			for n := range 70 {
				if n == 55 {
					f.drift = 0.5
					from, before = f.p.next, f.p.machines["m2"].machine.AppendSnapshot(nil)
				}
				f.minute(t, n-55)
				rounds += f.p.count.compared
				f.p.count = counts{}
				f.commit(t, c)
				if n%25 == 13 {
					next := f.restored(t)
					next.maxMachines = f.p.maxMachines
					same(t, next, f.p)
					f.p = next
				}
			}
			if rounds < 5*50 {
				t.Fatalf("%d comparisons", rounds)
			}
			again, err := NewCaseReplay([]*eventv1.Case{{
				Format: CaseFormat, EquipmentId: "m2", Partition: 3, ReplayFrom: from, Config: f.cfg.Message(),
				State: &eventv1.MachineSnapshot{Format: stateFormat, State: before},
			}}, nil, resolve)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range f.log {
				if again.Takes(r) {
					if _, err := again.Apply(context.Background(), r); err != nil {
						t.Fatal(err)
					}
				}
			}
			got, want := again.r.p.machines["m2"].machine.AppendSnapshot(nil), f.p.machines["m2"].machine.AppendSnapshot(nil)
			if !bytes.Equal(got, want) {
				t.Fatal("judged again by itself it came to something else")
			}
		})
	}
}

// What a partition gathers does not depend on the order of machines, comes back from its record as it was, and a machine in alert does not count.
func TestARoundComesBackFromTheLog(t *testing.T) {
	f := newFleet()
	for n := range 10 {
		f.minute(t, n)
	}
	f.p.gatheredUS = 0
	round := f.p.gather()
	if round == nil || len(round.Classes) != 1 || round.Classes[0].Members != 5 || round.Classes[0].Anew {
		t.Fatalf("%+v", round)
	}
	for range 20 { // map order differs
		f.p.gatheredUS = 0
		if other := f.p.gather(); fmt.Sprint(other) != fmt.Sprint(round) {
			t.Fatalf("%v, then %v", round, other)
		}
	}
	if f.p.gather() != nil {
		t.Error("the same round is gathered twice")
	}
	recs := roundRecords(3, round)
	if len(recs) != 1 {
		t.Fatalf("%d records", len(recs))
	}
	var m eventv1.CohortRound
	if err := proto.Unmarshal(recs[0].Value, &m); err != nil {
		t.Fatal(err)
	}
	back, err := cohort.RoundOf(&m)
	if err != nil || fmt.Sprint(back) != fmt.Sprint(round) {
		t.Fatalf("%v, want %v: %v", back, round, err)
	}
	big := &cohort.Round{StartUS: 1, LengthUS: 1}
	for i := range 3000 {
		big.Classes = append(big.Classes, cohort.Middles{Class: uint64(i), Members: 4, Sensors: make([]detect.Middle, 10)})
	}
	n := 0
	for _, r := range roundRecords(3, big) {
		if len(r.Value) > 2*mostRoundBytes {
			t.Errorf("a record of %d bytes", len(r.Value))
		}
		var m eventv1.CohortRound
		if err := proto.Unmarshal(r.Value, &m); err != nil {
			t.Fatal(err)
		}
		n += len(m.Classes)
	}
	if n != 3000 {
		t.Errorf("%d cohorts of 3000", n)
	}
}
