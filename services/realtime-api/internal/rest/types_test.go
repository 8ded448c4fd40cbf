package rest

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

var rewrite = flag.Bool("rewrite", false, "write web/src/api.gen.ts anew")

const typesFile = "../../web/src/api.gen.ts"

var plainName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// typescript is the type of what s describes.
func (s *schema) typescript(indent string) string {
	if s.Ref != "" {
		return strings.TrimPrefix(s.Ref, "#/components/schemas/")
	}
	types, _ := s.Type.([]any)
	if one, ok := s.Type.(string); ok {
		types = []any{one}
	}
	if len(types) == 0 {
		return "unknown"
	}
	var out []string
	for _, t := range types {
		switch t {
		case "string":
			if len(s.Enum) == 0 {
				out = append(out, "string")
			}
			for _, e := range s.Enum {
				out = append(out, fmt.Sprintf("%q", e))
			}
		case "integer", "number":
			out = append(out, "number")
		case "boolean", "null":
			out = append(out, fmt.Sprint(t))
		case "array":
			item := s.Items.typescript(indent)
			if strings.Contains(item, " | ") {
				item = "(" + item + ")"
			}
			out = append(out, item+"[]")
		case "object":
			out = append(out, s.object(indent))
		}
	}
	return strings.Join(out, " | ")
}

func (s *schema) object(indent string) string {
	if len(s.Properties) == 0 {
		return "Record<string, " + s.rest() + ">"
	}
	var b strings.Builder
	b.WriteString("{\n")
	for _, name := range slices.Sorted(maps.Keys(s.Properties)) {
		mark := "?"
		if slices.Contains(s.Required, name) {
			mark = ""
		}
		quoted := name
		if !plainName.MatchString(name) {
			quoted = fmt.Sprintf("%q", name)
		}
		fmt.Fprintf(&b, "%s  %s%s: %s;\n", indent, quoted, mark, s.Properties[name].typescript(indent+"  "))
	}
	return b.String() + indent + "}"
}

// rest is the type of members that have no names.
func (s *schema) rest() string {
	m, ok := s.Additional.(map[string]any)
	if !ok {
		return "unknown"
	}
	b, err := yaml.Marshal(m)
	var inner schema
	if err == nil {
		err = yaml.Unmarshal(b, &inner)
	}
	if err != nil {
		return "unknown"
	}
	return inner.typescript("")
}

// The page's types are those of the contract: web/src/api.gen.ts is made of openapi.yaml.
func TestTypedClient(t *testing.T) {
	var doc contract
	if err := yaml.Unmarshal(OpenAPI, &doc); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	b.WriteString("// Made of internal/rest/openapi.yaml; not to be edited. `go test ./internal/rest -run TestTypedClient -rewrite` makes it anew.\n")
	for _, name := range slices.Sorted(maps.Keys(doc.Components.Schemas)) {
		fmt.Fprintf(&b, "\nexport type %s = %s;\n", name, doc.Components.Schemas[name].typescript(""))
	}
	b.WriteString("\n/** What is answered, by operation. What other services answer is said in their own contracts. */\nexport interface Answers {\n")
	for _, path := range slices.Sorted(maps.Keys(doc.Paths)) {
		for _, method := range slices.Sorted(maps.Keys(doc.Paths[path])) {
			for _, status := range []string{"200", "201"} {
				if s := doc.Paths[path][method].Responses[status].Content["application/json"].Schema; s != nil {
					fmt.Fprintf(&b, "  %q: %s;\n", strings.ToUpper(method)+" "+path, s.typescript("  "))
				}
			}
		}
	}
	b.WriteString("}\n")
	if *rewrite {
		if err := os.WriteFile(typesFile, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	got, err := os.ReadFile(typesFile)
	if err != nil || string(got) != b.String() {
		t.Errorf("web/src/api.gen.ts is not what openapi.yaml says (%v): go test ./internal/rest -run TestTypedClient -rewrite", err)
	}
}
