package ingestclient

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net/url"
	"time"

	"go.uber.org/zap"
)

// Config says where to send, how hard to try and how much to hold. Zero values take the default named at the field.
type Config struct {
	// URL of the gateway: http(s)://host:8081 sends bulks to POST /v1/frames; grpc(s)://host:9081 uses PublishStream.
	// https and grpcs are TLS. A path given with http(s) stands before /v1/frames.
	URL string
	// Token is sent as "Authorization: Bearer <Token>"; empty sends none.
	Token string
	// TLS is used by https and grpcs; nil means the system's roots.
	TLS *tls.Config
	// Gzip compresses bulks (HTTP only): CPU for bytes, which pays on slow uplinks.
	Gzip bool

	// Lanes is how many requests or streams run side by side (default 2). A machine always uses the same one.
	Lanes int
	// MaxBufferedBytes bounds what Send holds, in encoded bytes plus a fixed cost per frame (default 32 MiB).
	MaxBufferedBytes int
	// MaxFrameBytes is the largest encoded frame that Send takes (default 1 MiB, the gateway's limit).
	MaxFrameBytes int
	// MaxBatchFrames and MaxBatchBytes bound one bulk, or what a stream has in flight (defaults 1,000 and 1 MiB).
	MaxBatchFrames int
	MaxBatchBytes  int
	// MaxInFlightPerMachine is how many frames of one machine may await an answer at once. The default 1 keeps the order of a
	// machine whatever the server does, at one round trip per frame of a machine (250 to 350 frames a second were measured
	// on loopback). More sends one machine's history faster. The order holds then, too, with Tocsin's ingest-gateway, whatever it refuses: behind
	// a frame answered RETRY it takes none of that machine until the refused one has come again (its DESIGN.md names the one exception: Kafka loses a
	// record for good and recovers in the same moment). Sequences of a machine must rise. With another server a frame answered RETRY
	// may arrive after later ones of the same request. At most 1,000: what arrives further back than 1,024
	// sequences is taken for a repeat by the stream-processor.
	MaxInFlightPerMachine int
	// Linger is how long a bulk waits for company (HTTP only; default 5 ms; negative means none).
	Linger time.Duration

	// MinBackoff and MaxBackoff bound the jittered exponential wait between tries (defaults 100 ms and 15 s). A longer
	// Retry-After is honoured, up to 5 minutes.
	MinBackoff, MaxBackoff time.Duration
	// RequestTimeout is how long an answer may take before the try counts as failed (default 30 s).
	RequestTimeout time.Duration

	// OnReject is told of each frame that will never be taken, with the field and the reason. It runs on a lane's
	// goroutine: it must be quick and must not call Flush or Close. Nil: only counted and logged.
	OnReject func(Rejection)
	// OnAck is told of each frame that Kafka has. The same rules.
	OnAck func(Ref)
	// Log gets failures and recoveries, each once. Nil is silent.
	Log *zap.Logger
}

// Ref names a frame as the whole system does.
type Ref struct {
	GatewayID   string
	EquipmentID string
	Sequence    uint64
}

// Rejection is a frame that is not sent again.
type Rejection struct {
	Ref
	// Field that is wrong, e.g. "values[3]"; empty when the server named none.
	Field  string
	Reason string
	// Forbidden: the frame may be fine, but this gateway may not send it.
	Forbidden bool
}

// Stats are totals since New, except Buffered.
type Stats struct {
	Accepted     uint64 // frames that Send took
	Acknowledged uint64 // frames that Kafka has
	Rejected     uint64 // frames reported to OnReject
	Retried      uint64 // sends of a frame that had been sent before
	Buffered     uint64 // frames held now
}

const (
	maxRetryAfter         = 5 * time.Minute
	maxInFlightPerMachine = 1000
	// frameOverhead is the bookkeeping of one held frame: queue slot, ids, in-flight entry.
	frameOverhead = 256
)

func orDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

func (c Config) withDefaults() Config {
	orDefault(&c.Lanes, 2)
	orDefault(&c.MaxBufferedBytes, 32<<20)
	orDefault(&c.MaxFrameBytes, 1<<20)
	orDefault(&c.MaxBatchFrames, 1000)
	orDefault(&c.MaxBatchBytes, 1<<20)
	orDefault(&c.MaxInFlightPerMachine, 1)
	orDefault(&c.Linger, 5*time.Millisecond)
	orDefault(&c.MinBackoff, 100*time.Millisecond)
	orDefault(&c.MaxBackoff, 15*time.Second)
	orDefault(&c.RequestTimeout, 30*time.Second)
	if c.Log == nil {
		c.Log = zap.NewNop()
	}
	return c
}

// Validate names everything that is wrong, not only the first thing.
func (c Config) Validate() error {
	_, err := c.withDefaults().check()
	return err
}

func (c Config) check() (*url.URL, error) {
	var errs []error
	u, err := url.Parse(c.URL)
	switch {
	case err != nil:
		errs = append(errs, fmt.Errorf("url: %w", err))
	case u.Scheme != "http" && u.Scheme != "https" && u.Scheme != "grpc" && u.Scheme != "grpcs":
		errs = append(errs, fmt.Errorf("url %q: scheme must be http, https, grpc or grpcs", c.URL))
	case u.Host == "":
		errs = append(errs, fmt.Errorf("url %q: no host", c.URL))
	case u.User != nil:
		// It would end up in logs; the token has its own place.
		errs = append(errs, errors.New("url: must not hold credentials"))
	case (u.Scheme == "grpc" || u.Scheme == "grpcs") && u.Port() == "":
		errs = append(errs, fmt.Errorf("url %q: gRPC needs a port", c.URL))
	}
	for _, f := range []struct {
		name string
		v    int
	}{
		{"lanes", c.Lanes},
		{"max batch frames", c.MaxBatchFrames},
		{"max batch bytes", c.MaxBatchBytes},
		{"max in flight per machine", c.MaxInFlightPerMachine},
		{"max frame bytes", c.MaxFrameBytes},
	} {
		if f.v < 1 {
			errs = append(errs, fmt.Errorf("%s is %d, must be at least 1", f.name, f.v))
		}
	}
	if c.MaxInFlightPerMachine > maxInFlightPerMachine {
		errs = append(errs, fmt.Errorf("max in flight per machine is %d, must be at most %d", c.MaxInFlightPerMachine, maxInFlightPerMachine))
	}
	if c.MaxBufferedBytes < c.MaxFrameBytes+frameOverhead {
		errs = append(errs, fmt.Errorf("max buffered bytes is %d, must hold one frame of %d", c.MaxBufferedBytes, c.MaxFrameBytes))
	}
	if c.MinBackoff < 0 || c.MaxBackoff < c.MinBackoff {
		errs = append(errs, fmt.Errorf("backoff from %s to %s is no range", c.MinBackoff, c.MaxBackoff))
	}
	if c.RequestTimeout < 0 {
		errs = append(errs, fmt.Errorf("request timeout is %s, must be positive", c.RequestTimeout))
	}
	return u, errors.Join(errs...)
}
