package httpreceiver

import (
	"encoding/json"
	"math"
	"mime"
	"net/http"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/tocsin-io/tocsin/pkg/httpserver"
	ingestv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/ingest/v1"
	"github.com/tocsin-io/tocsin/services/ingest-gateway/internal/intake"
)

// statusOf is the status code for one frame.
func statusOf(c intake.Cause) (int, string) {
	switch c {
	case intake.Taken:
		return http.StatusOK, ""
	case intake.Malformed, intake.Invalid:
		return http.StatusBadRequest, "Invalid frame"
	case intake.TooLarge:
		return http.StatusRequestEntityTooLarge, "Frame too large"
	case intake.NotAllowed:
		return http.StatusForbidden, "Forbidden"
	case intake.RateLimited:
		return http.StatusTooManyRequests, "Too many requests"
	default:
		return http.StatusServiceUnavailable, "Kafka cannot take it now"
	}
}

// answerOne answers a body that was one frame.
func answerOne(w http.ResponseWriter, r *http.Request, o *intake.Outcome) {
	status, title := statusOf(o.Cause)
	if status == http.StatusOK {
		answerResults(w, r, []intake.Outcome{*o})
		return
	}
	ext := map[string]any{}
	if o.Field != "" {
		ext["field"], ext["reason"] = o.Field, o.Reason
	}
	if o.EquipmentID != "" || o.GatewayID != "" {
		ext["equipment_id"], ext["gateway_id"], ext["sequence"] = o.EquipmentID, o.GatewayID, strconv.FormatUint(o.Sequence, 10)
	}
	detail := o.Reason
	if o.Field != "" {
		detail = o.Field + ": " + o.Reason
	}
	if o.RetryAfter > 0 {
		ext["retry_after_ms"] = o.RetryAfter.Milliseconds()
	}
	retryAfter(w, o.RetryAfter)
	httpserver.Problem(w, status, title, detail, ext)
}

// answerBulk answers for each frame with 200, unless not one could be taken or refused for good: then the whole
// bulk is to be sent again, and clients that only look at the status code know it.
func answerBulk(w http.ResponseWriter, r *http.Request, outcomes []intake.Outcome) {
	var wait time.Duration
	status := 0
	for i := range outcomes {
		wait = max(wait, outcomes[i].RetryAfter)
		s, _ := statusOf(outcomes[i].Cause)
		if s != http.StatusTooManyRequests && s != http.StatusServiceUnavailable {
			s = http.StatusOK
		}
		if status == 0 || s < status { // 200 < 429 < 503
			status = s
		}
	}
	retryAfter(w, wait)
	if status == http.StatusOK {
		answerResults(w, r, outcomes)
		return
	}
	httpserver.Problem(w, status, "No frame was taken", "send the whole bulk again, unchanged", map[string]any{"results": resultsJSON(outcomes)})
}

func answerResults(w http.ResponseWriter, r *http.Request, outcomes []intake.Outcome) {
	answerMessage(w, r, response(outcomes))
}

// answerMessage answers 200 in the form that the client accepts.
func answerMessage(w http.ResponseWriter, r *http.Request, m proto.Message) {
	var body []byte
	var err error
	if wantsProtobuf(r.Header.Values("Accept")) {
		w.Header().Set("Content-Type", "application/x-protobuf")
		body, err = proto.Marshal(m)
	} else {
		w.Header().Set("Content-Type", "application/json")
		body, err = protojson.MarshalOptions{UseProtoNames: true}.Marshal(m)
	}
	if err != nil { // only invalid UTF-8 can do it, which no outcome holds
		httpserver.Problem(w, http.StatusInternalServerError, "Internal error", "the answer cannot be encoded", nil)
		return
	}
	w.Header().Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write(body) // the client is gone: nothing left to tell it
}

func response(outcomes []intake.Outcome) *ingestv1.PublishResponse {
	resp := &ingestv1.PublishResponse{Results: make([]*ingestv1.FrameResult, len(outcomes))}
	for i := range outcomes {
		resp.Results[i] = outcomes[i].Result()
	}
	return resp
}

// resultsJSON is the list of results for the inside of a problem.
func resultsJSON(outcomes []intake.Outcome) json.RawMessage {
	b, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(response(outcomes))
	if err != nil {
		return json.RawMessage("[]")
	}
	var resp struct {
		Results json.RawMessage `json:"results"`
	}
	if json.Unmarshal(b, &resp) != nil {
		return json.RawMessage("[]")
	}
	return resp.Results
}

func retryAfter(w http.ResponseWriter, d time.Duration) {
	if d > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(d.Seconds()))))
	}
}

// wantsProtobuf tells whether the client names protobuf and no JSON before it. Weights are not looked at: a client
// that accepts both gets what it names first.
func wantsProtobuf(accept []string) bool {
	for _, a := range strings.Split(strings.Join(accept, ","), ",") {
		t, _, err := mime.ParseMediaType(a)
		if err != nil {
			continue
		}
		switch t {
		case "application/x-protobuf", "application/protobuf", "application/vnd.google.protobuf":
			return true
		case "application/json", "*/*", "application/*":
			return false
		}
	}
	return false
}
