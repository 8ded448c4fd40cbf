package rest

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
)

// schema is as much of JSON Schema as openapi.yaml uses.
type schema struct {
	Ref        string             `yaml:"$ref"`
	Type       any                `yaml:"type"`
	Required   []string           `yaml:"required"`
	Properties map[string]*schema `yaml:"properties"`
	Items      *schema            `yaml:"items"`
	Additional any                `yaml:"additionalProperties"`
	Enum       []string           `yaml:"enum"`
}

type contract struct {
	Paths map[string]map[string]struct {
		Responses map[string]struct {
			Content map[string]struct{ Schema *schema }
		}
	}
	Components struct{ Schemas map[string]*schema }
}

// check says where v is not what s says; a member that s does not name is an error too.
func (c *contract) check(at string, s *schema, v any) error {
	if s.Ref != "" {
		return c.check(at, c.Components.Schemas[strings.TrimPrefix(s.Ref, "#/components/schemas/")], v)
	}
	types, _ := s.Type.([]any)
	if one, ok := s.Type.(string); ok {
		types = []any{one}
	}
	kind := "null"
	switch x := v.(type) {
	case string:
		kind = "string"
		if len(s.Enum) > 0 && !slices.Contains(s.Enum, x) {
			return fmt.Errorf("%s: %q is none of %v", at, x, s.Enum)
		}
	case bool:
		kind = "boolean"
	case json.Number:
		kind = "number"
		if !strings.ContainsAny(x.String(), ".eE") && slices.Contains(types, any("integer")) {
			kind = "integer"
		}
	case []any:
		kind = "array"
		for i, e := range x {
			if s.Items == nil {
				return fmt.Errorf("%s: elements are not described", at)
			}
			if err := c.check(fmt.Sprintf("%s[%d]", at, i), s.Items, e); err != nil {
				return err
			}
		}
	case map[string]any:
		kind = "object"
		for _, name := range s.Required {
			if _, ok := x[name]; !ok {
				return fmt.Errorf("%s: %s is missing", at, name)
			}
		}
		for _, name := range slices.Sorted(maps.Keys(x)) {
			p := s.Properties[name]
			if p == nil && s.Additional == nil {
				return fmt.Errorf("%s.%s is not described", at, name)
			}
			if p == nil {
				continue
			}
			if err := c.check(at+"."+name, p, x[name]); err != nil {
				return err
			}
		}
	}
	if !slices.Contains(types, any(kind)) {
		return fmt.Errorf("%s is %s, not %v", at, kind, types)
	}
	return nil
}

// Every member of every answer is described, with its type, and what is required is there.
func TestAnswersAreDescribed(t *testing.T) {
	var doc contract
	if err := yaml.Unmarshal(OpenAPI, &doc); err != nil {
		t.Fatal(err)
	}
	h, mux := server(t)
	fill(t, h, 3)
	if err := h.ApplyAnomaly(&eventv1.Anomaly{
		AnomalyId: "y", EquipmentId: "m-002", Detectors: []string{"ewma"}, Regime: "load", Cohort: 3, Earlier: &eventv1.EarlierEpisode{EpisodeId: "e", Similarity: 0.5},
		Contributions: []*eventv1.Contribution{{Sensor: "p"}},
	}); err != nil {
		t.Fatal(err)
	}
	apply(t, h, covered("m-001", "g", group(judged, "", "p"), group(badQuality, "stuck", "q")))
	for path, of := range map[string]string{
		"/v1/machines": "", "/v1/machines/{id}": "", "/v1/machines/{id}/windows": "", "/v1/anomalies": "", "/v1/alerts": "?include_closed=true", "/v1/summary": "", "/v1/places": "",
		"/v1/coverage": "", "/v1/equipment/{id}/coverage": "",
	} {
		for id, status := range map[string]string{"m-001": "200", "nobody": "default"} {
			if id == "nobody" && !strings.Contains(path, "{id}") {
				continue
			}
			w := get(t, mux, "GET", strings.ReplaceAll(path, "{id}", id)+of)
			d := json.NewDecoder(w.Body)
			d.UseNumber()
			var v any
			if err := d.Decode(&v); err != nil {
				t.Fatal(err)
			}
			s := doc.Components.Schemas["Problem"]
			if status == "200" {
				s = doc.Paths[path]["get"].Responses["200"].Content["application/json"].Schema
			}
			if err := doc.check("GET "+path, s, v); err != nil {
				t.Error(err)
			}
		}
	}
}
