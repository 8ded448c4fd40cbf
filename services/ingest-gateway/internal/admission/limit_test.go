package admission

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Over any stretch of time a gateway gets at most its burst and what it earned, and a refusal says a time after which it gets through.
func TestLimiterHoldsTheRate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cfg := LimitConfig{
			FramesPerSecond: float64(rapid.IntRange(1, 100).Draw(t, "frames")), BytesPerSecond: float64(rapid.IntRange(100, 10_000).Draw(t, "bytes")),
			BurstSeconds: 2, MaxGateways: 3,
		}
		l := NewLimiter(cfg)
		start := time.Unix(1_000_000, 0)
		now := start
		frames, bytes := 0.0, 0.0
		for range rapid.IntRange(1, 300).Draw(t, "n") {
			now = now.Add(time.Duration(rapid.IntRange(0, 100).Draw(t, "ms")) * time.Millisecond)
			size := rapid.IntRange(0, 100).Draw(t, "size")
			wait := l.Allow([]byte("g"), size, now)
			if wait > 0 {
				if rapid.Bool().Draw(t, "wait") {
					now = now.Add(wait + time.Microsecond)
					if again := l.Allow([]byte("g"), size, now); again > 0 {
						t.Fatalf("told to wait %s, then %s more", wait, again)
					}
				} else {
					continue
				}
			}
			frames++
			bytes += float64(size)
		}
		span := now.Sub(start).Seconds()
		if most := cfg.FramesPerSecond * (span + 2); frames > most+1 {
			t.Fatalf("%v frames in %vs", frames, span)
		}
		if most := cfg.BytesPerSecond * (span + 2); bytes > most+1 {
			t.Fatalf("%v bytes in %vs", bytes, span)
		}
	})
}

func TestLimiterMemoryIsBounded(t *testing.T) {
	l := NewLimiter(LimitConfig{FramesPerSecond: 1, BurstSeconds: 1, MaxGateways: 100})
	now := time.Unix(1, 0)
	if l.Allow([]byte("busy"), 1, now) != 0 {
		t.Fatal("first frame")
	}
	for i := range 100_000 {
		l.Allow(fmt.Appendf(nil, "gw-%d", i), 1, now)
		// Who keeps sending is not forgotten, so a flood of new names does not give a gateway a fresh bucket.
		if l.Allow([]byte("busy"), 1, now) == 0 {
			t.Fatalf("forgotten after %d others", i)
		}
	}
	if n := l.Len(); n != 100 {
		t.Fatalf("%d gateways remembered", n)
	}
}

func TestLimiterLetsALargeFramePass(t *testing.T) {
	l := NewLimiter(LimitConfig{BytesPerSecond: 100, BurstSeconds: 1, MaxGateways: 1})
	now := time.Unix(1, 0)
	if w := l.Allow([]byte("g"), 1_000_000, now); w != 0 {
		t.Fatal(w)
	}
	if w := l.Allow([]byte("g"), 1, now); w == 0 {
		t.Fatal("the large frame cost nothing")
	}
}
