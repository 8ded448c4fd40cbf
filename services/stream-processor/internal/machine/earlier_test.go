package machine

import (
	"strings"
	"testing"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
)

// The second leak names the first, and a fault of another sensor does not.
func TestNearestEarlierEpisode(t *testing.T) {
	r, s := newRig(t, nil), newSignal(5)
	at := epoch0
	run := func(seconds, slot int, shift float32) {
		for range seconds {
			v := s.next()
			v[slot] += shift
			at += second
			r.sample(at, v...)
		}
	}
	run(1200, 0, 0)
	run(200, 0, 8)
	run(900, 0, 0)
	m, err := Restore(r.cfg, "pump-1", r.m.AppendSnapshot(nil)) // remembered over a restart
	if err != nil {
		t.Fatal(err)
	}
	r.m = m
	run(200, 2, 4)
	run(900, 2, 0)
	run(200, 0, 9)
	var begun []*eventv1.Anomaly
	for _, a := range r.anomalies {
		if a.Phase == started && a.Cause == "behaviour" {
			begun = append(begun, a)
		}
	}
	if len(begun) != 3 {
		t.Fatalf("%d episodes", len(begun))
	}
	if begun[0].Earlier != nil || begun[1].Earlier != nil {
		t.Errorf("there was nothing alike: %v, %v", begun[0].Earlier, begun[1].Earlier)
	}
	if e := begun[2].Earlier; e == nil || e.EpisodeId != begun[0].EpisodeId || e.Similarity < 0.9 || e.EndedUs <= e.StartedUs || e.StartedUs != begun[0].StartedUs {
		t.Errorf("nearest is %v, want %s", e, begun[0].EpisodeId)
	}
	if d := begun[2].Detectors; len(d) == 0 || d[0] != begun[2].Contributions[0].Detector || strings.Join(d, "") == "" {
		t.Errorf("spoken by %v", d)
	}
}

func TestMostEarlierEpisodesAreKept(t *testing.T) {
	m := &Machine{id: "m"}
	for i := range int64(3 * mostEarlier) {
		m.episodes[limit] = episode{any: true, told: &told{startedUS: i, evidence: []evidence{{slot: 0, share: 0.7}, {slot: 3, share: 0.3}}}}
		m.remember(limit, i+1)
	}
	if len(m.earlier) != mostEarlier || m.earlier[0].startedUS != 2*mostEarlier {
		t.Fatalf("%d kept, the oldest of %d", len(m.earlier), m.earlier[0].startedUS)
	}
	if e := m.nearest(limit, []evidence{{slot: 0, share: 1}}); e == nil || e.StartedUs != 3*mostEarlier-1 {
		t.Fatalf("of equal ones the newest: %v", e)
	}
	if e := m.nearest(behaviour, []evidence{{slot: 0, share: 1}}); e != nil {
		t.Fatalf("of another cause: %v", e)
	}
}
