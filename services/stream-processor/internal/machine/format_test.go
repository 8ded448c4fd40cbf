package machine

import (
	"os"
	"path/filepath"
	"testing"
)

// A state saved before the format changed goes on: what it holds is known, and what it could not hold begins with nothing.
func TestSnapshotOfFormat1GoesOn(t *testing.T) {
	old, err := os.ReadFile(filepath.Join("testdata", "format1.snapshot"))
	if err != nil {
		t.Fatal(err)
	}
	r := lived(t) // what format1.snapshot is of, with the build of then
	m, err := Restore(r.cfg, "pump-1", old)
	if err != nil {
		t.Fatal(err)
	}
	if m.learning() || m.SensorCount() != 3 || m.learned == 0 || m.learnedUS == 0 || len(m.panes.All()) == 0 || !m.episodes[silence].open {
		t.Fatalf("%d windows learned, %d sensors", m.learned, m.SensorCount())
	}
	before := len(r.anomalies)
	r.m = m
	s := newSignal(8)
	for i := int64(800); i < 1400; i++ {
		r.sample(epoch0+i*second, s.next()...)
	}
	for _, a := range r.anomalies[before:] {
		if a.Phase == started {
			t.Errorf("%s", a.Summary)
		}
	}
	told := r.count("behaviour", started)
	v := s.next()
	v[0] += 20
	for i := int64(1400); i < 1440; i++ {
		r.sample(epoch0+i*second, v...)
	}
	if r.count("behaviour", started) == told {
		t.Error("what was learned is lost")
	}
	if _, err := Restore(r.cfg, "pump-1", m.AppendSnapshot(nil)); err != nil {
		t.Fatal(err)
	}
}
