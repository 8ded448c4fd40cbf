package api

import (
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"slices"
	"time"

	"github.com/tocsin-io/tocsin/services/model-trainer/internal/dataset"
	"github.com/tocsin-io/tocsin/services/model-trainer/internal/feature"
	"github.com/tocsin-io/tocsin/services/model-trainer/internal/registry"
	"github.com/tocsin-io/tocsin/services/model-trainer/internal/supervised"
)

// predictRequest is the body of POST /v1/models/{name}/predict: rows, each an object by column, or a file below the data folder. Rows of an entity stand in order, from the first that is known on: what
// came before says what a course means.
type predictRequest struct {
	Rows []map[string]json.RawMessage `json:"rows"`
	File string                       `json:"file"`
	Last bool                         `json:"last"` // only each entity's last row
}

// prediction is what is said of one row. Fields that the task does not have are left out.
type prediction struct {
	Row           int                `json:"row"` // from 0
	Entity        string             `json:"entity,omitempty"`
	Value         *float64           `json:"value,omitempty"`
	Low           *float64           `json:"low,omitempty"` // 90 % of true values lie between low and high
	High          *float64           `json:"high,omitempty"`
	Class         string             `json:"class,omitempty"`
	Probabilities map[string]float64 `json:"probabilities,omitempty"`
}

func (a *API) predict(r *http.Request) (int, any, error) {
	start := time.Now()
	name, version, err := registry.Split(r.PathValue("name"))
	if err != nil {
		return 0, nil, err
	}
	var q predictRequest
	if err := body(r, &q); err != nil {
		return 0, nil, err
	}
	if version == "" {
		roles, err := a.registry.Roles(r.Context(), name)
		if err != nil {
			return 0, nil, err
		}
		version = roles.Champion
	}
	m, err := a.registry.Load(r.Context(), name, version)
	if err != nil {
		return 0, nil, err
	}
	p, err := m.Predictor()
	if err != nil {
		return 0, nil, &fieldError{"name", err.Error() + ": POST .../score"}
	}
	t, err := a.asked(&q, p)
	if err != nil {
		return 0, nil, err
	}
	said, err := p.Predict(t, q.Last)
	if err != nil {
		return 0, nil, err
	}
	answer := struct {
		Model   string       `json:"model"`
		Target  string       `json:"target"`
		Results []prediction `json:"results"`
	}{name + "@" + version, m.Target, make([]prediction, len(said))}
	entity := p.Spec().Recipe.Entity
	for i, s := range said {
		answer.Results[i] = word(p, &s, t.Text(entity, s.Row))
	}
	a.scored.Add(len(said))
	a.latency.UpdateDuration(start)
	return http.StatusOK, answer, nil
}

func word(p *supervised.Predictor, s *supervised.Prediction, entity string) prediction {
	out := prediction{Row: s.Row, Entity: entity}
	if classes := p.Classes(); classes != nil {
		out.Class, out.Probabilities = classes[s.Class], make(map[string]float64, len(classes))
		for k, c := range classes {
			out.Probabilities[c] = s.Probabilities[k]
		}
		return out
	}
	out.Value, out.Low, out.High = &s.Value, &s.Low, &s.High
	return out
}

// asked is the request's rows as a table.
func (a *API) asked(q *predictRequest, p *supervised.Predictor) (*feature.Table, error) {
	texts := p.Spec().Recipe.Texts()
	switch {
	case q.File != "" && len(q.Rows) > 0:
		return nil, &fieldError{"file", "given beside rows"}
	case q.File != "":
		rows := a.limits.MaxTrainRows
		if !q.Last {
			rows = a.limits.MaxRows
		}
		return a.columns(q.File, dataset.ColumnOptions{Texts: texts, Only: p.Columns(), MaxRows: rows})
	case len(q.Rows) == 0:
		return nil, &fieldError{"rows", "is missing or empty"}
	case len(q.Rows) > a.limits.MaxRows:
		return nil, &fieldError{"rows", fmt.Sprintf("%d are more than %d", len(q.Rows), a.limits.MaxRows)}
	}
	t := &feature.Table{Rows: len(q.Rows)}
	for _, name := range p.Columns() {
		c := feature.Column{Name: name}
		for i, row := range q.Rows {
			path := fmt.Sprintf("rows[%d].%s", i, name)
			raw, ok := row[name]
			if !ok {
				return nil, &fieldError{path, "is missing"}
			}
			if slices.Contains(texts, name) {
				var text string
				if err := json.Unmarshal(raw, &text); err != nil {
					text = string(raw) // 7 and "7" are the same name
				}
				c.Texts = append(c.Texts, text)
				continue
			}
			var v *float64
			if err := json.Unmarshal(raw, &v); err != nil {
				return nil, &fieldError{path, err.Error()}
			}
			if v == nil {
				c.Numbers = append(c.Numbers, math.NaN())
				continue
			}
			c.Numbers = append(c.Numbers, *v)
		}
		t.Columns = append(t.Columns, c)
	}
	return t, nil
}
