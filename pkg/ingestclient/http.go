package ingestclient

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	ingestv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/ingest/v1"
)

const (
	// contentBulk is SensorFrames one after the other, each after its length as a varint.
	contentBulk = "application/x-protobuf; delimited=true"
	// contentProto is what answers are asked for in: one PublishResponse.
	contentProto = "application/x-protobuf"
	// maxAnswer bounds what is read of an answer.
	maxAnswer = 16 << 20
)

// httpTransport posts one bulk at a time for each lane.
type httpTransport struct {
	cfg      Config
	endpoint string
	client   *http.Client
	pool     *http.Transport
}

func newHTTPTransport(cfg Config, u *url.URL) *httpTransport {
	pool := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		TLSClientConfig:       cfg.TLS,
		MaxIdleConnsPerHost:   cfg.Lanes,
		IdleConnTimeout:       60 * time.Second,
		TLSHandshakeTimeout:   10 * time.Second,
		ResponseHeaderTimeout: cfg.RequestTimeout,
	}
	return &httpTransport{
		cfg:      cfg,
		endpoint: u.JoinPath("v1", "frames").String(),
		pool:     pool,
		client: &http.Client{
			Transport: pool,
			Timeout:   cfg.RequestTimeout,
			// A redirect would send the token elsewhere.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

func (h *httpTransport) close() error {
	h.pool.CloseIdleConnections()
	return nil
}

func (h *httpTransport) run(ctx context.Context, l *lane) error {
	var enc bulkEncoder
	for {
		batch := l.next(ctx)
		if batch == nil {
			return nil
		}
		results, f := h.post(ctx, &enc, batch)
		if f == nil {
			f = match(batch, results)
		}
		if f != nil {
			if err := l.failed(ctx, batch, *f); err != nil {
				return err
			}
			continue
		}
		l.worked(len(batch))
		for i, it := range batch {
			l.answered(it, results[i])
		}
	}
}

// post sends the bulk. Its answer has one result per frame, or there is a failure.
func (h *httpTransport) post(ctx context.Context, enc *bulkEncoder, batch []*item) ([]*ingestv1.FrameResult, *failure) {
	body, err := enc.encode(batch, h.cfg.Gzip)
	if err != nil {
		return nil, &failure{err: fmt.Errorf("encode bulk: %w", err), verdict: again}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, h.endpoint, bytes.NewReader(body))
	if err != nil {
		return nil, &failure{err: err, verdict: stop}
	}
	req.Header.Set("Content-Type", contentBulk)
	req.Header.Set("Accept", contentProto)
	if h.cfg.Gzip {
		req.Header.Set("Content-Encoding", "gzip")
	}
	if h.cfg.Token != "" {
		req.Header.Set("Authorization", "Bearer "+h.cfg.Token)
	}
	resp, err := h.client.Do(req)
	if err != nil {
		return nil, &failure{err: err, verdict: again}
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, &failure{err: fmt.Errorf("read answer: %w", err), verdict: again}
	}
	results, err := decodeResults(resp.Header.Get("Content-Type"), answer)
	if err == nil {
		// Whatever the status: a bulk is answered per frame.
		return results, nil
	}
	return nil, classifyHTTP(resp, answer, err)
}

// bulkEncoder reuses its memory from one bulk to the next.
type bulkEncoder struct {
	body bytes.Buffer
	zw   *gzip.Writer
}

// encode returns the body; it is valid until the next call.
func (e *bulkEncoder) encode(batch []*item, compress bool) ([]byte, error) {
	e.body.Reset()
	var w io.Writer = &e.body
	if compress {
		if e.zw == nil {
			zw, err := gzip.NewWriterLevel(&e.body, gzip.BestSpeed)
			if err != nil {
				return nil, err
			}
			e.zw = zw
		}
		e.zw.Reset(&e.body)
		w = e.zw
	}
	var length [binary.MaxVarintLen64]byte
	for _, it := range batch {
		if _, err := w.Write(length[:binary.PutUvarint(length[:], uint64(len(it.payload)))]); err != nil {
			return nil, err
		}
		if _, err := w.Write(it.payload); err != nil {
			return nil, err
		}
	}
	if compress {
		if err := e.zw.Close(); err != nil {
			return nil, err
		}
	}
	return e.body.Bytes(), nil
}

// match refuses an answer that is not about the frames that were sent: better to send twice than to believe it.
func match(batch []*item, results []*ingestv1.FrameResult) *failure {
	if len(results) != len(batch) {
		return &failure{err: fmt.Errorf("%d results for %d frames", len(results), len(batch)), verdict: again}
	}
	for i, it := range batch {
		if err := sameFrame(it, results[i]); err != nil {
			return &failure{err: fmt.Errorf("result %d: %w", i, err), verdict: again}
		}
	}
	return nil
}

// sameFrame lets a result without ids pass: a frame too broken to name itself is answered by position only.
func sameFrame(it *item, r *ingestv1.FrameResult) error {
	if r.GetEquipmentId() == "" && r.GetStatus() != ingestv1.FrameStatus_FRAME_STATUS_ACKNOWLEDGED {
		return nil
	}
	if got := (Ref{GatewayID: r.GetGatewayId(), EquipmentID: r.GetEquipmentId(), Sequence: r.GetSequence()}); got != it.ref {
		return fmt.Errorf("answer is about frame %s, sent was %s", got, it.ref)
	}
	return nil
}

var errNoResults = errors.New("answer holds no results")

func decodeResults(contentType string, answer []byte) ([]*ingestv1.FrameResult, error) {
	kind, _, _ := mime.ParseMediaType(contentType)
	var out ingestv1.PublishResponse
	var err error
	switch kind {
	case contentProto, "application/protobuf":
		err = proto.Unmarshal(answer, &out)
	case "application/json":
		err = protojson.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(answer, &out)
	default:
		return nil, fmt.Errorf("content type %q: %w", contentType, errNoResults)
	}
	if err != nil {
		return nil, err
	}
	if len(out.GetResults()) == 0 {
		return nil, errNoResults
	}
	return out.GetResults(), nil
}

// classifyHTTP decides once what an answer without results means.
func classifyHTTP(resp *http.Response, answer []byte, cause error) *failure {
	f := &failure{verdict: again, after: retryAfter(resp.Header.Get("Retry-After"), time.Now())}
	var problem struct { // RFC 9457
		Title  string `json:"title"`
		Detail string `json:"detail"`
		Field  string `json:"field"`
	}
	if kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); kind == "application/problem+json" {
		_ = json.Unmarshal(answer, &problem) // best effort: it only words the error
	}
	f.field = problem.Field
	f.err = fmt.Errorf("gateway answered %s", resp.Status)
	if problem.Title != "" || problem.Detail != "" {
		f.err = fmt.Errorf("gateway answered %s: %s: %s", resp.Status, problem.Title, problem.Detail)
	}
	switch code := resp.StatusCode; {
	case code == http.StatusTooManyRequests || code == http.StatusRequestTimeout || code >= 500 && code != http.StatusNotImplemented:
	case code == http.StatusBadRequest || code == http.StatusRequestEntityTooLarge || code == http.StatusUnprocessableEntity:
		f.verdict = shrink
	case code >= 200 && code < 300:
		f.err = fmt.Errorf("%w (%w)", f.err, cause)
	default: // redirects, 401, 403, 404, 405, 406, 415: the configuration is wrong
		f.verdict = stop
	}
	return f
}

// retryAfter reads both forms of RFC 9110, section 10.2.3: seconds and a date.
func retryAfter(v string, now time.Time) time.Duration {
	if v == "" {
		return 0
	}
	if s, err := strconv.ParseUint(v, 10, 32); err == nil {
		return time.Duration(s) * time.Second
	}
	if at, err := http.ParseTime(v); err == nil {
		return max(0, at.Sub(now))
	}
	return 0
}
