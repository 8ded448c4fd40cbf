package httpreceiver

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strconv"
	"time"

	"github.com/tocsin-io/tocsin/pkg/frame"
	"github.com/tocsin-io/tocsin/pkg/httpserver"
	"github.com/tocsin-io/tocsin/services/ingest-gateway/internal/admission"
	"github.com/tocsin-io/tocsin/services/ingest-gateway/internal/intake"
	"github.com/tocsin-io/tocsin/services/ingest-gateway/internal/jsonframe"
)

// schemaFrom is the number of features from which their names are registered once instead of being sent each time.
const schemaFrom = 256

// enqueue takes one sample of one machine as a flat JSON object of numbers. The machine is named by ?equipment_id=, the header
// X-Equipment-Id or the key equipment_id; its time by ?time_us= or the key time_us, else it is now.
//
// It answers 202 when Kafka has the frame. Such a sender does not number its samples, so one that it sends again after an error or
// a broken connection may count twice; POST /v1/frames is for those who must not.
func (rc *Receiver) enqueue(ctx context.Context, w http.ResponseWriter, r *http.Request, who *admission.Identity) {
	if form, err := formOf(r.Header.Get("Content-Type")); err != nil || form != jsonAny {
		rc.in.Metrics().RequestRefused(intake.HTTP, "unsupported")
		w.Header().Set("Accept-Post", "application/json")
		httpserver.Problem(w, http.StatusUnsupportedMediaType, "Unsupported media type", "Content-Type must be application/json", nil)
		return
	}
	body, err := rc.open(w, r, rc.cfg.MaxEncodedBulkBytes, int64(rc.in.MaxFrameBytes()))
	if err != nil {
		return
	}
	defer body.Close()
	var b bytes.Buffer
	if _, err := b.ReadFrom(body); err != nil {
		rc.bodyFailed(w, err, nil, nil)
		return
	}
	sample, err := rc.sample(r, b.Bytes())
	if err != nil {
		t := rc.in.Refuse(who, *intake.Refusal(&frame.Frame{}, err), b.Len())
		o := t.Wait()
		answerOne(w, r, &o)
		return
	}
	gatewayID, sequence := rc.ids.next(sample.EquipmentID)
	f := frame.New(sample.EquipmentID, gatewayID, sequence, time.UnixMicro(sample.TimeUS), nil, sample.Values)
	rc.name(ctx, who, f, sample.Sensors, b.Len())
	t := rc.in.Submit(ctx, who.WithAlias(gatewayID), f.AppendTo(nil))
	o := t.Wait()
	if o.Cause != intake.Taken {
		answerOne(w, r, &o)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusAccepted)
	_ = json.NewEncoder(w).Encode(struct { // the client is gone: nothing left to tell it
		EquipmentID string `json:"equipment_id"`
		GatewayID   string `json:"gateway_id"`
		Sequence    uint64 `json:"sequence,string"`
		Features    int    `json:"features"`
		SchemaID    string `json:"schema_id,omitempty"`
	}{sample.EquipmentID, gatewayID, sequence, len(sample.Sensors), string(f.SchemaID)})
}

// sample reads the body and what the request says beside it.
func (rc *Receiver) sample(r *http.Request, body []byte) (*jsonframe.Features, error) {
	s, err := jsonframe.DecodeFeatures(body, rc.in.MaxValues())
	if err != nil {
		return nil, err
	}
	query := r.URL.Query()
	for _, id := range []string{r.Header.Get("X-Equipment-Id"), query.Get("equipment_id")} {
		if id == "" {
			continue
		}
		if s.EquipmentID != "" && s.EquipmentID != id {
			return nil, &frame.FieldError{Field: "equipment_id", Reason: "given twice, differently"}
		}
		s.EquipmentID = id
	}
	// Checked here already, so that the counters hold nothing but ids.
	if err := frame.CheckID("equipment_id", []byte(s.EquipmentID)); err != nil {
		return nil, err
	}
	if text := query.Get("time_us"); text != "" {
		if s.HasTime {
			return nil, &frame.FieldError{Field: "time_us", Reason: "given twice"}
		}
		if s.TimeUS, err = strconv.ParseInt(text, 10, 64); err != nil {
			return nil, &frame.FieldError{Field: "time_us", Reason: "not an integer of 64 bits"}
		}
		s.HasTime = true
	}
	if !s.HasTime {
		s.TimeUS = time.Now().UnixMicro()
	}
	return s, nil
}

// name gives the frame its sensors: by schema when they are many. If the registry does not take the schema now, or is full because senders
// change their features all the time, the frame carries the names itself: larger, but not refused.
func (rc *Receiver) name(ctx context.Context, who *admission.Identity, f *frame.Frame, sensors []string, size int) {
	if len(sensors) >= schemaFrom {
		if id, o := rc.in.Register(ctx, who, sensors, size); o.Cause == intake.Taken {
			f.SchemaID = []byte(id)
			return
		}
	}
	f.Sensors = make([][]byte, len(sensors))
	for i, s := range sensors {
		f.Sensors[i] = []byte(s)
	}
}
