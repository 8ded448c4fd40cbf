package ingestclient

import (
	"math/rand/v2"
	"time"
)

// backoff is exponential with "equal jitter": half of the wait is fixed and half random, so that clients that failed
// together do not come back together, and none comes back at once.
type backoff struct {
	min, max time.Duration
	jitter   func() float64 // in [0, 1)
}

func newBackoff(lo, hi time.Duration) backoff {
	return backoff{min: lo, max: hi, jitter: rand.Float64}
}

// delay before try number attempts+1 (attempts failed so far in a row, from 0). It is at least atLeast, the server's Retry-After,
// plus up to a quarter of it: everybody was told the same number.
func (b backoff) delay(attempts int, atLeast time.Duration) time.Duration {
	d := b.max
	if attempts < 32 && b.min<<attempts>>attempts == b.min {
		d = min(b.max, b.min<<attempts)
	}
	d = d/2 + time.Duration(b.jitter()*float64(d/2))
	if atLeast = min(atLeast, maxRetryAfter); d < atLeast {
		d = atLeast + time.Duration(b.jitter()*float64(atLeast)/4)
	}
	return d
}
