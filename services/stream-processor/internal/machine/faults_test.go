package machine

import (
	"math/rand/v2"
	"testing"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
)

func TestQuietNoiseDoesNotPage(t *testing.T) {
	hours := 6
	if testing.Short() {
		hours = 1
	}
	for seed := range uint64(6) {
		r, s := newRig(t, nil), newSignal(seed)
		for i := range int64(hours * 3600) {
			r.sample(epoch0+i*second, s.next()...)
			r.windows = r.windows[:0]
		}
		if n := r.starts(); n > 0 {
			t.Errorf("seed %d: %d episodes, first %s", seed, n, r.anomalies[0].Summary)
		}
	}
}

func TestFaultsAreFoundWithinAFewWindows(t *testing.T) {
	const fault = 1500
	for name, c := range map[string]struct {
		within int64 // seconds
		change func(v []float32, since float64, r *rand.Rand)
	}{
		"level shift":    {30, func(v []float32, _ float64, _ *rand.Rand) { v[0] += 3 }},
		"drop":           {30, func(v []float32, _ float64, _ *rand.Rand) { v[0] -= 3 }},
		"drift":          {150, func(v []float32, since float64, _ *rand.Rand) { v[0] += float32(since) * 0.03 }},
		"variance burst": {60, func(v []float32, _ float64, r *rand.Rand) { v[0] += float32(5 * r.NormFloat64()) }},
		"quantised":      {30, func(v []float32, _ float64, _ *rand.Rand) { v[2]++ }},
	} {
		t.Run(name, func(t *testing.T) {
			r, s := newRig(t, nil), newSignal(11)
			for i := range int64(fault + 400) {
				v := s.next()
				if i >= fault {
					c.change(v, float64(i-fault), s.r)
				}
				r.sample(epoch0+i*second, v...)
			}
			if len(r.anomalies) == 0 {
				t.Fatal("not found")
			}
			a := r.anomalies[0]
			if delay := (a.ObservedUs - epoch0 - fault*second) / second; delay < 0 || delay > c.within {
				t.Fatalf("found after %d s: %s", delay, a.Summary)
			}
			if a.Cause != "behaviour" || a.Phase != started || a.Severity != eventv1.Severity_SEVERITY_WARNING {
				t.Fatalf("%v", a)
			}
			guilty := "s0"
			if name == "quantised" {
				guilty = "s2"
			}
			if a.Contributions[0].Sensor != guilty || a.Contributions[0].Share < 0.5 {
				t.Fatalf("blamed %v", a.Contributions)
			}
			last := r.anomalies[len(r.anomalies)-1]
			if last.Phase != ongoing || last.Severity != eventv1.Severity_SEVERITY_CRITICAL || r.starts() != 1 {
				t.Fatalf("400 s later: %v, %d episodes", last, r.starts())
			}
			if v := r.m.Current(); name != "variance burst" && !v.Flag || v.Score < 0.99 || v.Severity != eventv1.Severity_SEVERITY_CRITICAL {
				t.Fatalf("verdict %+v", v)
			}
		})
	}
}

func TestFaultIsNotLearnedAndEndsWhenItIsOver(t *testing.T) {
	r, s := newRig(t, nil), newSignal(5)
	at := epoch0
	run := func(seconds int, shift float32) {
		for range seconds {
			v := s.next()
			v[0] += shift
			at += second
			r.sample(at, v...)
		}
	}
	run(1200, 0)
	run(6*3600, 6)
	if r.count("behaviour", started) != 1 || r.count("behaviour", ended) != 0 {
		t.Fatalf("after six hours: %d started, %d ended", r.count("behaviour", started), r.count("behaviour", ended))
	}
	if n := r.count("behaviour", ongoing); n < 355 || n > 365 {
		t.Fatalf("%d reports in six hours, want one a minute", n)
	}
	run(120, 0)
	if r.count("behaviour", ended) != 1 {
		t.Fatal("did not end")
	}
	run(600, 0)
	run(60, 6)
	if r.count("behaviour", started) != 2 {
		t.Fatal("the same fault is not found again")
	}
}

func TestSpikeIsAtMostAWarning(t *testing.T) {
	r, s := newRig(t, nil), newSignal(9)
	for i := range int64(1600) {
		v := s.next()
		if i == 1200 {
			v[0] += 500
		}
		r.sample(epoch0+i*second, v...)
	}
	for _, a := range r.anomalies {
		if a.Severity > eventv1.Severity_SEVERITY_WARNING {
			t.Fatalf("%s %s: %s", a.Phase, a.Severity, a.Summary)
		}
	}
	if r.count("behaviour", started) != 1 || r.count("behaviour", ended) != 1 {
		t.Fatalf("%d started, %d ended", r.count("behaviour", started), r.count("behaviour", ended))
	}
}
