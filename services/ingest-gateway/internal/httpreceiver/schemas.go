package httpreceiver

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"

	"google.golang.org/protobuf/proto"

	"github.com/tocsin-io/tocsin/pkg/frame"
	"github.com/tocsin-io/tocsin/pkg/httpserver"
	ingestv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/ingest/v1"
	"github.com/tocsin-io/tocsin/services/ingest-gateway/internal/admission"
	"github.com/tocsin-io/tocsin/services/ingest-gateway/internal/intake"
)

// schemas registers the sensors of wide frames: {"sensors": [...]} or a RegisterSchemaRequest.
func (rc *Receiver) schemas(ctx context.Context, w http.ResponseWriter, r *http.Request, who *admission.Identity) {
	form, err := formOf(r.Header.Get("Content-Type"))
	if err != nil || form == delimited || form == jsonLines {
		rc.in.Metrics().RequestRefused(intake.HTTP, "unsupported")
		w.Header().Set("Accept-Post", "application/x-protobuf, application/json")
		httpserver.Problem(w, http.StatusUnsupportedMediaType, "Unsupported media type", "Content-Type must be application/x-protobuf or application/json", nil)
		return
	}
	body, err := rc.open(w, r, rc.cfg.MaxEncodedFrameBytes, int64(rc.in.MaxFrameBytes()))
	if err != nil {
		return
	}
	defer body.Close()
	var b bytes.Buffer
	if _, err := b.ReadFrom(body); err != nil {
		rc.bodyFailed(w, err, nil, nil)
		return
	}
	sensors, err := sensorsOf(form, b.Bytes())
	if err != nil {
		rc.in.Metrics().RequestRefused(intake.HTTP, "bad_request")
		answerField(w, err)
		return
	}
	id, o := rc.in.Register(ctx, who, sensors, b.Len())
	if o.Cause != intake.Taken {
		answerOne(w, r, &o)
		return
	}
	answerMessage(w, r, &ingestv1.RegisterSchemaResponse{SchemaId: id})
}

func sensorsOf(f form, b []byte) ([]string, error) {
	if f == single {
		var req ingestv1.RegisterSchemaRequest
		if err := proto.Unmarshal(b, &req); err != nil {
			return nil, errors.New("not a protobuf RegisterSchemaRequest")
		}
		return req.Sensors, nil
	}
	var req struct {
		Sensors []string `json:"sensors"`
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	err := dec.Decode(&req)
	if err == nil {
		if _, e := dec.Token(); !errors.Is(e, io.EOF) {
			return nil, errors.New("more follows after the object")
		}
		return req.Sensors, nil
	}
	var te *json.UnmarshalTypeError
	if errors.As(err, &te) {
		return nil, &frame.FieldError{Field: te.Field, Reason: "a " + te.Value + ", not what belongs there"}
	}
	return nil, err
}

func answerField(w http.ResponseWriter, err error) {
	ext := map[string]any{}
	var fe *frame.FieldError
	if errors.As(err, &fe) {
		ext["field"], ext["reason"] = fe.Field, fe.Reason
	}
	httpserver.Problem(w, http.StatusBadRequest, "Invalid schema", err.Error(), ext)
}
