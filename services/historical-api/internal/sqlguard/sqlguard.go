// Package sqlguard decides whether a query may run. It reads the tree that DuckDB's own parser has made of the text (json_serialize_sql), so there is no second
// grammar that could be of another opinion, and it names what is allowed: one SELECT, tables that the caller is given, functions of a list. Whatever is not on a
// list is refused, also what a later engine brings.
//
// It is one of three walls. The engine behind it is locked (no files but the lake's, no settings, no extensions), and the process around that has neither
// credentials nor memory beyond its limit. The wall against reading another group's machines is this one together with the views, which show masked columns only: the files
// behind them cannot be named.
package sqlguard

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
)

// Refusal says why a query may not run. Its text is for who asked.
type Refusal struct {
	Reason string
	Wrong  bool // it could not run anywhere: it is no SQL, or asks a table that there is not
}

func (r *Refusal) Error() string { return r.Reason }

func refuse(format string, args ...any) error { return &Refusal{Reason: fmt.Sprintf(format, args...)} }

func wrong(format string, args ...any) error {
	return &Refusal{Reason: fmt.Sprintf(format, args...), Wrong: true}
}

// functions are scalar functions, aggregates and macros that compute from their arguments alone. What tells of the engine, its settings or its catalog, and what
// runs SQL from a text, is not among them. The test in the engine's package makes the list from the engine's own and says what is new.
//
//go:embed functions.txt
var functionList string

// tableFunctions make rows from their arguments.
func tableFunction(name string) bool {
	switch name {
	case "range", "generate_series", "unnest", "json_each", "json_tree":
		return true
	}
	return false
}

// Guard holds the lists. Safe for concurrent use.
type Guard struct {
	functions map[string]bool
	tables    map[string]bool
}

// New makes a guard that lets these tables be read.
func New(tables []string) *Guard {
	g := &Guard{functions: map[string]bool{}, tables: map[string]bool{}}
	for f := range strings.FieldsSeq(functionList) {
		g.functions[f] = true
	}
	for _, t := range tables {
		g.tables[t] = true
	}
	return g
}

// maxDepth bounds the recursion; the parser's own limit is 1000 levels of expressions.
const maxDepth = 10_000

// Check reads a tree and returns the tables that the query names, sorted. An error that is no Refusal says that the tree cannot be read.
func (g *Guard) Check(tree []byte) ([]string, error) {
	var root struct {
		Error      bool              `json:"error"`
		Kind       string            `json:"error_type"`
		Message    string            `json:"error_message"`
		Statements []json.RawMessage `json:"statements"`
	}
	if err := json.Unmarshal(tree, &root); err != nil {
		return nil, fmt.Errorf("the parser's tree: %w", err)
	}
	switch {
	case root.Error && root.Kind == "not implemented":
		return nil, refuse("only a query (SELECT, WITH, FROM, VALUES) may run here")
	case root.Error:
		return nil, wrong("%s", root.Message)
	case len(root.Statements) != 1:
		return nil, refuse("%d statements: exactly one may run", len(root.Statements))
	}
	dec := json.NewDecoder(bytes.NewReader(root.Statements[0]))
	dec.UseNumber()
	var statement any
	if err := dec.Decode(&statement); err != nil {
		return nil, fmt.Errorf("the parser's tree: %w", err)
	}
	w := &walk{guard: g, ctes: map[string]bool{}, tables: map[string]bool{}}
	if err := w.names(statement, 0); err != nil {
		return nil, err
	}
	if err := w.nodes(statement, 0); err != nil {
		return nil, err
	}
	var out []string
	for t := range w.tables {
		out = append(out, t)
	}
	slices.Sort(out)
	return out, nil
}

type walk struct {
	guard  *Guard
	ctes   map[string]bool // names that the query defines, lower case
	tables map[string]bool
}

// names collects the names of WITH. A name is known in the whole query, wider than its scope; so it must not be one that means something out of its scope.
func (w *walk) names(v any, depth int) error {
	if depth > maxDepth {
		return refuse("nested too deeply")
	}
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			if err := w.names(e, depth+1); err != nil {
				return err
			}
		}
	case map[string]any:
		if m, ok := v["cte_map"].(map[string]any); ok {
			entries, _ := m["map"].([]any)
			for _, e := range entries {
				entry, _ := e.(map[string]any)
				key, _ := entry["key"].(string)
				if err := w.define(key); err != nil {
					return err
				}
			}
		}
		if name, ok := v["cte_name"].(string); ok {
			if err := w.define(name); err != nil {
				return err
			}
		}
		for _, e := range v {
			if err := w.names(e, depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

func (w *walk) define(name string) error {
	low := strings.ToLower(name)
	if !plain(low) || catalogue(low) {
		return refuse("WITH %q: a name here is made of letters, digits and _, and does not begin as the engine's own tables do", name)
	}
	w.ctes[low] = true
	return nil
}

// plain names cannot be a file's: the engine takes a name with a dot, a slash or a colon for one.
func plain(s string) bool {
	if s == "" || len(s) > 128 {
		return false
	}
	for _, c := range s {
		if c != '_' && (c < 'a' || c > 'z') && (c < '0' || c > '9') {
			return false
		}
	}
	return true
}

// catalogue tells whether the engine has, or may get, tables of its own that are called like this.
func catalogue(low string) bool {
	for _, p := range []string{"duckdb_", "pg_", "sqlite_", "pragma_", "information_schema"} {
		if strings.HasPrefix(low, p) {
			return true
		}
	}
	return false
}

// nodes checks every table and function.
func (w *walk) nodes(v any, depth int) error {
	if depth > maxDepth {
		return refuse("nested too deeply")
	}
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			if err := w.nodes(e, depth+1); err != nil {
				return err
			}
		}
	case map[string]any:
		skip, err := w.node(v)
		if err != nil {
			return err
		}
		for k, e := range v {
			if k == skip {
				continue
			}
			if err := w.nodes(e, depth+1); err != nil {
				return err
			}
		}
	}
	return nil
}

// node checks one node. It names the child whose own function is allowed already.
func (w *walk) node(n map[string]any) (skip string, err error) {
	if n["class"] == "CONSTANT" {
		return "value", nil // what a text says is data
	}
	if n["class"] == "PARAMETER" {
		return "", refuse("parameters are not supported: write the values into the query")
	}
	if _, ok := n["sample"]; ok { // the mark of a table reference and of a SELECT
		switch n["type"] {
		case "SELECT_NODE", "SUBQUERY", "JOIN", "EXPRESSION_LIST", "EMPTY", "PIVOT":
		case "BASE_TABLE":
			return "", w.table(n)
		case "TABLE_FUNCTION":
			return "function", w.tableFunction(n)
		case "SHOW_REF":
			return "", refuse("DESCRIBE, SHOW and SUMMARIZE are not available: GET /v1/tables lists tables and columns")
		default:
			return "", refuse("%v is not available", n["type"])
		}
	}
	if name, ok := n["function_name"].(string); ok {
		return "", w.function(n, name)
	}
	return "", nil
}

func (w *walk) table(n map[string]any) error {
	name, _ := n["table_name"].(string)
	low := strings.ToLower(name)
	schema, _ := n["schema_name"].(string)
	catalog, _ := n["catalog_name"].(string)
	switch {
	case schema != "" && !strings.EqualFold(schema, "main"), catalog != "":
		return refuse("there is no table %q", strings.TrimPrefix(catalog+"."+schema+"."+name, "."))
	case w.guard.tables[low]:
		w.tables[low] = true
		return nil
	case w.ctes[low]:
		return nil
	}
	if plain(low) && !catalogue(low) {
		return wrong("there is no table %q", name)
	}
	return refuse("there is no table %q", name)
}

func (w *walk) tableFunction(n map[string]any) error {
	f, _ := n["function"].(map[string]any)
	name, _ := f["function_name"].(string)
	if !tableFunction(strings.ToLower(name)) || qualified(f) {
		return refuse("the table function %q is not available", name)
	}
	for k, e := range f { // its arguments
		if k == "function_name" {
			continue
		}
		if err := w.nodes(e, 0); err != nil {
			return err
		}
	}
	return nil
}

func (w *walk) function(n map[string]any, name string) error {
	if !w.guard.functions[strings.ToLower(name)] || qualified(n) {
		return refuse("the function %q is not available", name)
	}
	return nil
}

// qualified tells whether the function is looked for elsewhere than where all functions are.
func qualified(f map[string]any) bool {
	schema, _ := f["schema"].(string)
	catalog, _ := f["catalog"].(string)
	return schema != "" && schema != "main" || catalog != ""
}
