package admission

import (
	"container/list"
	"errors"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// LimitConfig is the rate that each gateway is held to.
type LimitConfig struct {
	FramesPerSecond float64 `mapstructure:"frames_per_second" doc:"Most frames a second of one gateway; 0: no limit."`
	BytesPerSecond  float64 `mapstructure:"bytes_per_second" doc:"Most decoded bytes a second of one gateway; 0: no limit."`
	BurstSeconds    float64 `mapstructure:"burst_seconds" doc:"How many seconds' worth a gateway may send at once after a pause."`
	MaxGateways     int     `mapstructure:"max_gateways" doc:"Gateways remembered. Beyond it the one that was silent longest is forgotten, and starts afresh."`
}

// DefaultLimitConfig is far above what one gateway of a healthy fleet sends.
func DefaultLimitConfig() LimitConfig {
	return LimitConfig{FramesPerSecond: 200_000, BytesPerSecond: 256 << 20, BurstSeconds: 2, MaxGateways: 10_000}
}

// Validate names the first field that is wrong.
func (c LimitConfig) Validate() error {
	switch {
	case !(c.FramesPerSecond >= 0):
		return errors.New("frames_per_second: must not be negative")
	case !(c.BytesPerSecond >= 0):
		return errors.New("bytes_per_second: must not be negative")
	case !(c.BurstSeconds > 0 && c.BurstSeconds <= 3600):
		return errors.New("burst_seconds: must be in 0..3600 and not 0")
	case c.MaxGateways < 1:
		return errors.New("max_gateways: must be 1 or more")
	}
	return nil
}

// Limiter holds each gateway to its rate. Its memory is bounded by MaxGateways (some 300 bytes each). Safe for concurrent use.
type Limiter struct {
	cfg LimitConfig

	mu     sync.Mutex
	recent *list.List // of *bucket, the latest in front
	byID   map[string]*list.Element
}

type bucket struct {
	id            string
	frames, bytes *rate.Limiter
}

// NewLimiter starts with every bucket full.
func NewLimiter(cfg LimitConfig) *Limiter {
	return &Limiter{cfg: cfg, recent: list.New(), byID: map[string]*list.Element{}}
}

// Allow takes one frame of size bytes from the gateway's allowance at now. It returns 0, or how long the gateway has to wait;
// then nothing was taken. A frame larger than the whole burst costs the whole burst, so that it can pass at all.
func (l *Limiter) Allow(gatewayID []byte, size int, now time.Time) time.Duration {
	if l.cfg.FramesPerSecond == 0 && l.cfg.BytesPerSecond == 0 {
		return 0
	}
	b := l.bucket(gatewayID)
	var held [2]*rate.Reservation
	var wait time.Duration
	for i, r := range [2]struct {
		lim *rate.Limiter
		n   int
	}{{b.frames, 1}, {b.bytes, size}} {
		if r.lim == nil {
			continue
		}
		held[i] = r.lim.ReserveN(now, min(r.n, r.lim.Burst()))
		wait = max(wait, held[i].DelayFrom(now))
	}
	if wait > 0 {
		for _, r := range held {
			if r != nil {
				r.CancelAt(now)
			}
		}
	}
	return wait
}

func (l *Limiter) bucket(id []byte) *bucket {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e, ok := l.byID[string(id)]; ok {
		l.recent.MoveToFront(e)
		return e.Value.(*bucket)
	}
	b := &bucket{id: string(id)}
	b.frames = l.limiter(l.cfg.FramesPerSecond)
	b.bytes = l.limiter(l.cfg.BytesPerSecond)
	for l.recent.Len() >= l.cfg.MaxGateways {
		oldest := l.recent.Back()
		delete(l.byID, l.recent.Remove(oldest).(*bucket).id)
	}
	l.byID[b.id] = l.recent.PushFront(b)
	return b
}

func (l *Limiter) limiter(perSecond float64) *rate.Limiter {
	if perSecond == 0 {
		return nil
	}
	return rate.NewLimiter(rate.Limit(perSecond), max(1, int(min(perSecond*l.cfg.BurstSeconds, 1<<40))))
}

// Len is the number of gateways remembered.
func (l *Limiter) Len() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.recent.Len()
}
