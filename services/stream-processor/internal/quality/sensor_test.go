package quality

import (
	"math"
	"math/rand/v2"
	"testing"
	"time"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
)

func TestCode(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for _, c := range []struct {
		code uint8
		v    float32
		want eventv1.Validity
	}{
		{0, 1, eventv1.Validity_VALIDITY_GOOD},
		{1, 1, eventv1.Validity_VALIDITY_GOOD},
		{2, 1, eventv1.Validity_VALIDITY_UNCERTAIN},
		{3, 1, eventv1.Validity_VALIDITY_BAD},
		{4, 1, eventv1.Validity_VALIDITY_MISSING},
		{9, 1, eventv1.Validity_VALIDITY_BAD},
		{1, nan, eventv1.Validity_VALIDITY_MISSING},
		{3, nan, eventv1.Validity_VALIDITY_MISSING},
		{1, inf, eventv1.Validity_VALIDITY_BAD},
		{1, -inf, eventv1.Validity_VALIDITY_BAD},
		{1, 11, eventv1.Validity_VALIDITY_OUT_OF_RANGE},
		{2, -1, eventv1.Validity_VALIDITY_OUT_OF_RANGE},
		{1, 10, eventv1.Validity_VALIDITY_GOOD},
	} {
		if got := Code(c.code, c.v, 0, 10); got != c.want {
			t.Errorf("Code(%d, %v) = %v, want %v", c.code, c.v, got, c.want)
		}
	}
}

func TestBounds(t *testing.T) {
	low, high := -40.0, 150.0
	c := Config{Ranges: []Range{{Sensor: "temp*", Low: &low, High: &high}, {Sensor: "*", Low: &high}}}
	if l, h := c.Bounds("temp_oil"); l != -40 || h != 150 {
		t.Errorf("%v to %v", l, h)
	}
	if l, h := c.Bounds("speed"); l != 150 || !math.IsInf(float64(h), 1) {
		t.Errorf("%v to %v", l, h)
	}
}

// feed gives n values, one a second, and counts those judged stuck.
func feed(s *Sensor, at *int64, n int, next func(i int) float32) (stuck int) {
	c := DefaultConfig().Flatline
	for i := range n {
		*at += time.Second.Microseconds()
		if s.Judge(&c, next(i), *at) {
			stuck++
		}
	}
	return stuck
}

func TestWhatIsConstantByNatureIsNotStuck(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	value, step := float32(20.5), 0
	for name, next := range map[string]func(i int) float32{
		"constant":        func(int) float32 { return 42.5 },
		"setpoint":        func(i int) float32 { return 20.5 + float32(i/3600) },
		"counter at rest": func(i int) float32 { return float32(min(i, 2000)) },
		"state":           func(i int) float32 { return float32(i / 100 % 2) },
		"coarse":          func(int) float32 { return float32(math.Round(2*(3+0.3*r.NormFloat64()))) / 2 },
		"rarely changing": func(int) float32 {
			if r.IntN(40) == 0 {
				value += 0.5
			}
			return value
		},
		"slower and slower": func(i int) float32 { step++; return 1.5 + float32(math.Floor(math.Sqrt(float64(i)/4))) },
		"resting at zero": func(i int) float32 {
			if i > 5000 {
				return 0
			}
			return r.Float32()
		},
	} {
		var s Sensor
		at := int64(0)
		if n := feed(&s, &at, 20_000, next); n > 0 {
			t.Errorf("%s: %d values are called stuck", name, n)
		}
	}
}

func TestStuck(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	noise := func(int) float32 { return 3 + r.Float32() }
	coarse := func(int) float32 { return float32(math.Round(4*(3+0.3*r.NormFloat64()))) / 4 }
	for name, c := range map[string]struct {
		usual  func(int) float32
		within int
	}{"noise": {noise, 31}, "quantised": {coarse, 120}} {
		var s Sensor
		at := int64(0)
		if n := feed(&s, &at, 3000, c.usual); n > 0 {
			t.Fatalf("%s: %d values are called stuck", name, n)
		}
		if n := feed(&s, &at, 600, func(int) float32 { return 3.25 }); n < 600-c.within {
			t.Errorf("%s: only %d of 600 are called stuck", name, n)
		}
		if s.StuckAt() != 3.25 {
			t.Errorf("%s: stuck at %v", name, s.StuckAt())
		}
		if n := feed(&s, &at, 1000, c.usual); n > 3 { // by chance the same value again
			t.Errorf("%s: %d values after the end are called stuck", name, n)
		}
		if n := feed(&s, &at, 600, func(int) float32 { return 3.25 }); n < 600-2*c.within {
			t.Errorf("%s: second time only %d of 600 are called stuck: the fault was learned", name, n)
		}
	}
}

func TestOlderValuesTeachNothing(t *testing.T) {
	var s Sensor
	c := DefaultConfig().Flatline
	s.Judge(&c, 1, 100)
	before := s
	if s.Judge(&c, 2, 50) || s != before {
		t.Error("an older value changed the sensor")
	}
}
