package api

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"

	"github.com/tocsin-io/tocsin/services/model-trainer/internal/dataset"
	"github.com/tocsin-io/tocsin/services/model-trainer/internal/model"
)

// fieldError is something wrong in a request, with the field's path.
type fieldError struct{ field, reason string }

func (e *fieldError) Error() string { return e.field + ": " + e.reason }

// scoreRequest is the body of POST /v1/models/{name}/score: one row or many. A row is an object by feature, or an array in the features' order.
type scoreRequest struct {
	Row  json.RawMessage   `json:"row"`
	Rows []json.RawMessage `json:"rows"`
	// Times of the rows, for models that know a season: RFC 3339 or seconds.
	Times []json.RawMessage `json:"times"`
}

// strictly decodes one JSON value without unknown fields into v.
func strictly(b []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return &fieldError{"body", err.Error()}
	}
	if d.More() {
		return &fieldError{"body", "more than one JSON value"}
	}
	return nil
}

// table makes the rows of the request a table for m.
func (q *scoreRequest) table(m *model.Model, maxRows int) (*model.Table, error) {
	rows, single := q.Rows, len(q.Row) > 0
	switch {
	case single && len(rows) > 0:
		return nil, &fieldError{"row", "given beside rows"}
	case single:
		rows = []json.RawMessage{q.Row}
	case len(rows) == 0:
		return nil, &fieldError{"rows", "is missing or empty"}
	case len(rows) > maxRows:
		return nil, &fieldError{"rows", fmt.Sprintf("%d are more than %d", len(rows), maxRows)}
	}
	t := &model.Table{Columns: m.Features, Values: make([]float32, 0, len(rows)*len(m.Features))}
	for i, raw := range rows {
		path := fmt.Sprintf("rows[%d]", i)
		if single {
			path = "row"
		}
		if err := appendRow(t, raw, path); err != nil {
			return nil, err
		}
	}
	return t, q.steps(t, m)
}

func appendRow(t *model.Table, raw json.RawMessage, path string) error {
	if raw = bytes.TrimSpace(raw); len(raw) > 0 && raw[0] == '[' {
		var values []*float64
		if err := json.Unmarshal(raw, &values); err != nil {
			return &fieldError{path, err.Error()}
		}
		if len(values) != len(t.Columns) {
			return &fieldError{path, fmt.Sprintf("has %d values, the model has %d features", len(values), len(t.Columns))}
		}
		for j, v := range values {
			if err := appendValue(t, v, fmt.Sprintf("%s[%d]", path, j)); err != nil {
				return err
			}
		}
		return nil
	}
	var values map[string]*float64
	if err := json.Unmarshal(raw, &values); err != nil {
		return &fieldError{path, err.Error()}
	}
	for _, name := range t.Columns {
		v, ok := values[name]
		if !ok {
			return &fieldError{path + "." + name, "is missing"}
		}
		if err := appendValue(t, v, path+"."+name); err != nil {
			return err
		}
	}
	return nil // what else the row says is no feature of this model: a challenger may want it
}

func appendValue(t *model.Table, v *float64, path string) error {
	if v == nil {
		return &fieldError{path, "is null"}
	}
	f := float32(*v)
	if !(math.Abs(float64(f)) <= math.MaxFloat32) {
		return &fieldError{path, fmt.Sprintf("%v is not a finite number of 32 bits", *v)}
	}
	t.Values = append(t.Values, f)
	return nil
}

// steps numbers the rows in time.
func (q *scoreRequest) steps(t *model.Table, m *model.Model) error {
	if len(q.Times) == 0 {
		if m.TimeStep > 0 && m.Algorithm == model.Seasonal {
			return &fieldError{"times", "is missing: the model knows a season by time"}
		}
		return nil
	}
	if len(q.Times) != t.Rows() {
		return &fieldError{"times", fmt.Sprintf("has %d entries for %d rows", len(q.Times), t.Rows())}
	}
	if m.TimeStep <= 0 {
		return nil
	}
	for i, raw := range q.Times {
		seconds, err := seconds(raw)
		if err != nil {
			return &fieldError{fmt.Sprintf("times[%d]", i), err.Error()}
		}
		t.Steps = append(t.Steps, dataset.Step(seconds, m.TimeStep))
	}
	return nil
}

func seconds(raw json.RawMessage) (float64, error) {
	var text string
	if err := json.Unmarshal(raw, &text); err != nil {
		text = string(raw)
	}
	return dataset.ParseTime(text)
}
