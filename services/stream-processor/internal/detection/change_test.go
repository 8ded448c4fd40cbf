package detection_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tocsin-io/tocsin/pkg/kafka/kafkatest"
	"github.com/tocsin-io/tocsin/pkg/topic"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/detection"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine"
)

var noon = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func by(name string) detection.Change {
	return detection.Change{Kind: detection.KindSettings, By: name, Why: "it paged too often", At: noon}
}

func budget(to float64) detection.Edit {
	return func(_ *detection.Config, c *machine.Config) error { c.Calibrate.Budget = to; return nil }
}

// Two processes change the same revision at once: the first in the log has changed it, the other looks again, and whoever comes later reads the same.
func TestOfTwoChangesTheFirstStands(t *testing.T) {
	k := kafkatest.Start(t, 1)
	a, b := open(t, k), open(t, k)
	if _, err := a.Settle(within(t), config(1, 100)); err != nil {
		t.Fatal(err)
	}
	asked, meanwhile := 0, errors.New("changed meanwhile")
	late := func(strict bool) detection.Edit {
		return func(now *detection.Config, c *machine.Config) error {
			asked++
			if now.Change == 0 {
				if _, err := b.Apply(within(t), by("bo"), budget(4)); err != nil {
					t.Fatal(err)
				}
			} else if strict {
				return meanwhile
			}
			c.Episodes.ClearWindows = 9
			return nil
		}
	}
	if _, err := a.Apply(within(t), by("ada"), late(true)); !errors.Is(err, meanwhile) || asked != 2 {
		t.Fatalf("asked %d times: %v", asked, err)
	}
	got, err := a.Apply(within(t), by("ada"), late(false))
	if err != nil || got.Change != 2 || got.Judge.Calibrate.Budget != 4 || got.Judge.Episodes.ClearWindows != 9 {
		t.Fatal(got, err)
	}
	later := open(t, k)
	now, err := later.Settle(within(t), config(1, 100))
	if err != nil || !detection.Same(now, got) {
		t.Fatal(now, err)
	}
	h := later.History()
	if len(h) != 3 || h[0].By != "ada" || h[1].By != "bo" || h[2].Kind != detection.KindFile || len(h[1].Changes) != 1 || h[1].Changes[0].Key != "calibrate.budget" || h[1].Changes[0].B != "4" || !h[1].At.Equal(noon) {
		t.Fatalf("%+v", h)
	}
	if _, err := later.Apply(within(t), by("ada"), budget(4)); !errors.Is(err, detection.ErrNothing) {
		t.Fatal(err)
	}
	// What partitions are told has nothing of where it comes from, and so stays small and the same.
	told, err := detection.Parse(got.Value())
	if err != nil || !detection.Same(told, got) || told.Message().Origin != nil {
		t.Fatal(told, err)
	}
}

// The first attempt of TestOfTwoChangesTheFirstStands leaves its record behind; read in any state of compaction, it must count for nothing.
func TestALostChangeStaysLost(t *testing.T) {
	k := kafkatest.Start(t, 1)
	a, b := open(t, k), open(t, k)
	if _, err := a.Settle(within(t), config(1, 100)); err != nil {
		t.Fatal(err)
	}
	first := true
	got, err := a.Apply(within(t), by("ada"), func(_ *detection.Config, c *machine.Config) error {
		if first {
			first = false
			if _, err := b.Apply(within(t), by("bo"), budget(4)); err != nil {
				t.Fatal(err)
			}
		}
		c.Episodes.ClearWindows = 9
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	all := kafkatest.ReadAll(t, k, topic.Config)
	gone := 0
	for _, r := range all {
		if len(r.Value) == 0 {
			gone++
		}
	}
	if len(all) != 5 || gone != 1 { // the file's, bo's, ada's lost one and its tombstone, ada's
		t.Fatalf("%d records, %d of them tombstones", len(all), gone)
	}
	for _, drop := range [][]int{{2}, {0}, {0, 1}, {0, 1, 2}} { // the lost one is gone; the oldest are, which are not kept for ever
		k := kafkatest.Start(t, 1)
		cl := kafkatest.Client(t, k)
		for i, r := range all {
			if slices.Contains(drop, i) || len(r.Value) == 0 {
				continue
			}
			if err := cl.ProduceSync(within(t), &kgo.Record{Topic: topic.Config, Key: r.Key, Value: r.Value}).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
		now, err := open(t, k).Settle(within(t), config(1, 100))
		if err != nil || !detection.Same(now, got) {
			t.Fatalf("without records %d: %v, %v", drop, now, err)
		}
	}
}

// A restart does not undo what was applied, and an edited file is not passed over: key by key the newer word of people holds.
func TestWhatWasAppliedAndTheFile(t *testing.T) {
	k := kafkatest.Start(t, 1)
	log := open(t, k)
	file := func(revision uint32, edit func(*machine.Config)) *detection.Config {
		c := machine.DefaultConfig()
		c.Calibrate.Budget = 1
		if edit != nil {
			edit(&c)
		}
		return detection.New(&c, revision)
	}
	settle := func(mine *detection.Config) *detection.Config {
		t.Helper()
		c, err := open(t, k).Settle(within(t), mine)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	settle(file(1, nil))
	if _, err := log.Apply(within(t), by("ada"), budget(2)); err != nil {
		t.Fatal(err)
	}
	word := machine.Correction{Machine: "pump-1", Kind: machine.NewNormal, From: noon.Format(time.RFC3339), Why: "new impeller"}
	applied, err := log.Apply(within(t), by("ada"), func(_ *detection.Config, c *machine.Config) error {
		c.Corrections = append(c.Corrections, word)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	n := len(kafkatest.ReadAll(t, k, topic.Config))
	// The file as it was: started again it changes nothing.
	if c := settle(file(1, nil)); !detection.Same(c, applied) || len(kafkatest.ReadAll(t, k, topic.Config)) != n {
		t.Fatalf("a restart made %v of %v", c, applied)
	}
	// A file that says something else new goes beside what was applied.
	c := settle(file(2, func(c *machine.Config) { c.Episodes.ClearWindows = 9 }))
	if c.ID() != "2.2" || c.Judge.Calibrate.Budget != 2 || c.Judge.Episodes.ClearWindows != 9 || !slices.Contains(c.Judge.Corrections, word) {
		t.Fatalf("%v: %+v", c, c.Applied())
	}
	// An old file gives way.
	if got := settle(file(1, nil)); !detection.Same(got, c) {
		t.Fatal(got)
	}
	// A file that says something new of what was applied holds.
	c = settle(file(3, func(c *machine.Config) { c.Episodes.ClearWindows, c.Calibrate.Budget = 9, 5 }))
	if c.ID() != "3.2" || c.Judge.Calibrate.Budget != 5 || len(c.Applied()) != 1 || !slices.Contains(c.Judge.Corrections, word) {
		t.Fatalf("%v: %+v", c, c.Applied())
	}
	// One that takes over what was applied changes nothing now, and counts for what comes.
	c = settle(file(3, func(c *machine.Config) {
		c.Episodes.ClearWindows, c.Calibrate.Budget, c.Corrections = 9, 5, []machine.Correction{word}
	}))
	if c.ID() != "3.2" || len(c.Applied()) != 0 || len(c.Judge.Corrections) != 1 {
		t.Fatalf("%v: %+v", c, c.Applied())
	}
	// A release of models goes on from what was applied.
	if _, err := log.Apply(within(t), by("ada"), budget(7)); err != nil {
		t.Fatal(err)
	}
	m := *c.Judge
	m.Detect.Detectors = append([]string{"limits"}, m.Detect.Detectors...)
	m.Detect.Detectors = slices.Compact(m.Detect.Detectors)
	c = settle(detection.NewRelease(&m, 3, 4))
	if c.ID() != "3.3" || c.Release != 4 || c.Judge.Calibrate.Budget != 7 {
		t.Fatal(c)
	}
	if got, ok := log.Settings(detection.Number{Revision: 1, Change: 1}); !ok || got.Calibrate.Budget != 2 {
		t.Fatalf("revision 1.1 is %+v", got)
	}
}

func TestIDs(t *testing.T) {
	for id, ok := range map[string]bool{"3.1": true, "0.0": true, "4294967295.7": true, "": false, "3": false, "3.": false, ".1": false, "4294967296.1": false, "3.1.1": false, "-1.2": false} {
		n, err := detection.ParseID(id)
		if (err == nil) != ok || ok && n.ID() != id {
			t.Errorf("%q: %v, %v", id, n, err)
		}
	}
}
