// Package httpreceiver takes frames over HTTP: POST /v1/frames, POST /v1/schemas and POST /data-enqueue.
//
// A body of one frame is answered by its status code; a body of many by a list of results, one for each frame in order. A body that breaks
// off in the middle is answered by a problem that holds the results of the frames before the break.
package httpreceiver

import (
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/pkg/auth"
	"github.com/tocsin-io/tocsin/pkg/httpserver"
	"github.com/tocsin-io/tocsin/services/ingest-gateway/internal/admission"
	"github.com/tocsin-io/tocsin/services/ingest-gateway/internal/intake"
	"github.com/tocsin-io/tocsin/services/ingest-gateway/internal/jsonframe"
	"github.com/tocsin-io/tocsin/services/ingest-gateway/internal/payload"
)

// Config bounds what a request may cost.
type Config struct {
	MaxEncodedFrameBytes int64         `mapstructure:"max_encoded_frame_bytes" doc:"Most bytes of a body of one protobuf frame as it comes, before Content-Encoding is undone."`
	MaxEncodedBulkBytes  int64         `mapstructure:"max_encoded_bulk_bytes" doc:"Most bytes of a bulk or JSON body as it comes, before Content-Encoding is undone."`
	MaxDecodedBulkBytes  int64         `mapstructure:"max_decoded_bulk_bytes" doc:"Most bytes of a bulk or JSON body after Content-Encoding is undone."`
	MaxBulkFrames        int           `mapstructure:"max_bulk_frames" doc:"Most frames of one bulk."`
	MaxRequests          int           `mapstructure:"max_requests" doc:"Most requests served at once; beyond it they are answered 503 with Retry-After."`
	BodyTimeout          time.Duration `mapstructure:"body_timeout" doc:"A client that has not sent its whole body by then, or does not take its answer within this, is cut off."`
}

// DefaultConfig holds the limits that the contracts state.
func DefaultConfig() Config {
	return Config{
		MaxEncodedFrameBytes: 1 << 20, MaxEncodedBulkBytes: 16 << 20, MaxDecodedBulkBytes: 64 << 20,
		MaxBulkFrames: 10_000, MaxRequests: 256, BodyTimeout: 30 * time.Second,
	}
}

// Validate names the first field that is wrong.
func (c Config) Validate() error {
	switch {
	case c.MaxEncodedFrameBytes < 64:
		return errors.New("max_encoded_frame_bytes: must be 64 or more")
	case c.MaxEncodedBulkBytes < 64:
		return errors.New("max_encoded_bulk_bytes: must be 64 or more")
	case c.MaxDecodedBulkBytes < c.MaxEncodedBulkBytes || c.MaxDecodedBulkBytes > 1<<31:
		return errors.New("max_decoded_bulk_bytes: must be in max_encoded_bulk_bytes..2147483648")
	case c.MaxBulkFrames < 1:
		return errors.New("max_bulk_frames: must be 1 or more")
	case c.MaxRequests < 1:
		return errors.New("max_requests: must be 1 or more")
	case c.BodyTimeout <= 0:
		return errors.New("body_timeout: must be positive")
	}
	return nil
}

// Receiver holds the handlers. Safe for concurrent use.
type Receiver struct {
	cfg    Config
	in     *intake.Intake
	auth   *admission.Authenticator
	log    *zap.Logger
	places chan struct{} // one for each request served
	ids    *identities   // of the frames of /data-enqueue
}

// New makes a receiver; Register gives it to a server.
func New(cfg Config, in *intake.Intake, auth *admission.Authenticator, log *zap.Logger) *Receiver {
	return &Receiver{
		cfg: cfg, in: in, auth: auth, log: log.Named("http"), places: make(chan struct{}, cfg.MaxRequests), ids: newIdentities(maxMachines),
	}
}

// Register adds the handlers.
func (rc *Receiver) Register(s *httpserver.Server) {
	s.Handle("POST /v1/frames", rc.guarded("POST /v1/frames", rc.frames))
	s.Handle("POST /v1/schemas", rc.guarded("POST /v1/schemas", rc.schemas))
	s.Handle("POST /data-enqueue", rc.guarded("POST /data-enqueue", rc.enqueue))
}

type handler func(ctx context.Context, w http.ResponseWriter, r *http.Request, who *admission.Identity)

// guarded is what every request goes through: a place, a name, a deadline for its body, a span.
func (rc *Receiver) guarded(name string, h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		select {
		case rc.places <- struct{}{}:
			defer func() { <-rc.places }()
		default:
			rc.in.Metrics().RequestRefused(intake.HTTP, "too_many_requests")
			w.Header().Set("Retry-After", "1")
			httpserver.Problem(w, http.StatusServiceUnavailable, "Too many requests at once", "try again", nil)
			return
		}
		who, err := rc.identify(r)
		if err != nil {
			rc.in.Metrics().RequestRefused(intake.HTTP, "unauthenticated")
			auth.Challenge(w.Header())
			httpserver.Problem(w, http.StatusUnauthorized, "Unauthorized", err.Error(), nil)
			return
		}
		if err := http.NewResponseController(w).SetReadDeadline(time.Now().Add(rc.cfg.BodyTimeout)); err != nil {
			rc.log.Warn("set read deadline", zap.Error(err))
		}
		w = &impatient{ResponseWriter: w, timeout: rc.cfg.BodyTimeout}
		// A frame handed to Kafka goes on when its sender hangs up, and is answered when the process drains.
		ctx := context.WithoutCancel(r.Context())
		ctx = propagation.TraceContext{}.Extract(ctx, propagation.HeaderCarrier(r.Header))
		ctx, span := rc.in.Tracer().Start(ctx, name, trace.WithSpanKind(trace.SpanKindServer),
			trace.WithAttributes(attribute.String("http.request.method", r.Method), attribute.String("url.path", r.URL.Path)))
		defer span.End()
		h(ctx, w, r, who)
	})
}

// identify finds the sender by token, else by client certificate, else takes it as anonymous where that is allowed.
func (rc *Receiver) identify(r *http.Request) (*admission.Identity, error) {
	authorization := r.Header.Get("Authorization")
	if name := httpserver.ClientName(r); authorization == "" && name != "" {
		return rc.auth.Certificate(name)
	}
	return rc.auth.Authenticate(authorization)
}

// impatient gives the client until timeout to take its answer, counted from the answer's first byte: until then
// it may take as long as Kafka does. A client that does not read would keep its place for ever.
type impatient struct {
	http.ResponseWriter
	timeout time.Duration
	begun   bool
}

func (w *impatient) WriteHeader(status int) {
	w.begin()
	w.ResponseWriter.WriteHeader(status)
}

func (w *impatient) Write(b []byte) (int, error) {
	w.begin()
	return w.ResponseWriter.Write(b)
}

func (w *impatient) begin() {
	if !w.begun {
		w.begun = true
		_ = http.NewResponseController(w.ResponseWriter).SetWriteDeadline(time.Now().Add(w.timeout)) // fails only on a closed connection
	}
}

func (w *impatient) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (rc *Receiver) frames(ctx context.Context, w http.ResponseWriter, r *http.Request, who *admission.Identity) {
	form, err := formOf(r.Header.Get("Content-Type"))
	if err != nil {
		rc.in.Metrics().RequestRefused(intake.HTTP, "unsupported")
		w.Header().Set("Accept-Post", acceptPost)
		httpserver.Problem(w, http.StatusUnsupportedMediaType, "Unsupported media type", err.Error(), nil)
		return
	}
	maxEncoded, maxDecoded := rc.cfg.MaxEncodedBulkBytes, rc.cfg.MaxDecodedBulkBytes
	if form == single {
		maxEncoded, maxDecoded = rc.cfg.MaxEncodedFrameBytes, int64(rc.in.MaxFrameBytes())
	}
	body, err := rc.open(w, r, maxEncoded, maxDecoded)
	if err != nil {
		return
	}
	defer body.Close()
	src := sourceOf(form, body, rc.in.MaxFrameBytes(), rc.in.MaxValues())
	var tickets []*intake.Ticket
	session := rc.in.Request(who)
	for {
		raw, refused, e := src.next()
		if e != nil {
			err = e
			break
		}
		if len(tickets) == rc.cfg.MaxBulkFrames {
			err = errTooManyFrames
			break
		}
		if refused != nil {
			tickets = append(tickets, rc.in.Refuse(who, *refused, len(raw)))
			continue
		}
		tickets = append(tickets, session.Submit(ctx, raw))
	}
	outcomes := make([]intake.Outcome, len(tickets))
	for i, t := range tickets {
		outcomes[i] = t.Wait()
	}
	trace.SpanFromContext(ctx).SetAttributes(attribute.Int("tocsin.frames", len(outcomes)))
	switch {
	case !isEOF(err):
		rc.bodyFailed(w, err, outcomes, maxFrames(rc.cfg))
	case len(outcomes) == 0:
		rc.in.Metrics().RequestRefused(intake.HTTP, "bad_request")
		httpserver.Problem(w, http.StatusBadRequest, "Bad request", "the body holds no frame", nil)
	case src.bulk():
		answerBulk(w, r, outcomes)
	default:
		answerOne(w, r, &outcomes[0])
	}
}

// open undoes the content coding, or answers the request.
func (rc *Receiver) open(w http.ResponseWriter, r *http.Request, maxEncoded, maxDecoded int64) (body io.ReadCloser, err error) {
	if r.ContentLength > maxEncoded {
		err = &payload.TooLargeError{What: "encoded", Limit: maxEncoded}
	} else {
		body, err = payload.Open(r.Body, r.Header.Get("Content-Encoding"), maxEncoded, maxDecoded)
	}
	if err != nil {
		rc.bodyFailed(w, err, nil, nil)
		return nil, err
	}
	return body, nil
}

var errTooManyFrames = errors.New("the bulk holds too many frames")

func maxFrames(c Config) map[string]any { return map[string]any{"max_frames": c.MaxBulkFrames} }

// bodyFailed answers a body that could not be read to its end. What was read before is answered with it.
func (rc *Receiver) bodyFailed(w http.ResponseWriter, err error, outcomes []intake.Outcome, ext map[string]any) {
	status, title, reason := http.StatusBadRequest, "Bad request", "bad_request"
	var large *payload.TooLargeError
	var syntax *jsonframe.SyntaxError
	all := map[string]any{}
	switch {
	case errors.As(err, &large):
		status, title, reason = http.StatusRequestEntityTooLarge, "Content too large", "too_large"
	case errors.Is(err, errTooManyFrames):
		status, title, reason = http.StatusRequestEntityTooLarge, "Content too large", "too_large"
		for k, v := range ext {
			all[k] = v
		}
	case errors.Is(err, payload.ErrCoding):
		status, title, reason = http.StatusUnsupportedMediaType, "Unsupported content coding", "unsupported"
		w.Header().Set("Accept-Encoding", "gzip, zstd")
	case errors.Is(err, os.ErrDeadlineExceeded):
		status, title = http.StatusRequestTimeout, "Request timeout"
		err = errors.New("the body did not come in time")
	case errors.As(err, &syntax):
		all["field"] = "frame"
	}
	rc.in.Metrics().RequestRefused(intake.HTTP, reason)
	if len(outcomes) > 0 {
		all["results"] = resultsJSON(outcomes)
	}
	httpserver.Problem(w, status, title, err.Error(), all)
}
