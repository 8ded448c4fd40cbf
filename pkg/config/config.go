// Package config reads the fleet's one YAML file: a section per service, strict, every key with a default and an
// environment name.
//
// Precedence, weakest first: the default in the code, the file, the environment (TOCSIN_<SECTION>_<KEY>). A value in the file may
// hold ${NAME}, which is replaced from the environment; $${ is a literal ${. Unknown keys and values of
// the wrong kind are errors that name file and line; all of them are reported, not only the first.
package config

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"sort"
	"strings"

	"github.com/spf13/viper"
	"go.yaml.in/yaml/v3"
)

// Section is one part of the file. Value points to a struct that holds the defaults; Load overwrites what is given.
// If the struct has Validate() error, Load calls it; its message must begin with the field's path and a colon.
type Section struct {
	Name  string
	Value any
}

// Known lists every section of a fleet file, so that a single service can tell another's section from a misspelt one.
func Known() []string {
	return []string{
		"process", "kafka", "log", "tracing", "ingest_gateway", "stream_processor", "alert_router", "cold_path_writer",
		"realtime_api", "historical_api", "model_trainer", "iceberg_committer", "fleet_simulator", "broker", "tuning_bench",
	}
}

// Error is one thing wrong in the configuration.
type Error struct {
	File   string // empty: not from the file
	Line   int    // 0: unknown
	Path   string // e.g. "ingest_gateway.http.listen"
	Reason string
}

func (e *Error) Error() string {
	at := e.File
	if e.Line > 0 {
		at = fmt.Sprintf("%s:%d", e.File, e.Line)
	}
	if at != "" {
		at += ": "
	}
	return at + e.Path + ": " + e.Reason
}

// Load fills the sections from the file at path (none when empty) and the environment.
func Load(path string, sections ...Section) error { return LoadWith(os.LookupEnv, path, sections...) }

// LoadWith is Load for who reads another process's file: what ${NAME} stands for there is asked of lookup.
func LoadWith(lookup func(name string) (string, bool), path string, sections ...Section) error {
	var root yaml.Node
	if path != "" {
		b, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("configuration: %w", err)
		}
		if err := yaml.Unmarshal(b, &root); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	l := loader{file: path, lines: map[string]int{}, env: environment(), lookup: lookup, failed: map[string]bool{}}
	l.top(&root, sections)
	for _, s := range sections {
		v, ok := s.Value.(interface{ Validate() error })
		if !ok || l.failed[s.Name] {
			continue // what could not be read cannot be judged
		}
		if err := v.Validate(); err != nil {
			l.invalid(s.Name, err)
		}
	}
	return l.err()
}

// Overlay puts YAML or JSON over the struct that v points to, as strictly as Load does, and calls its Validate. Neither the environment nor ${NAME} counts: the text may come from
// somebody who must not learn what stands there.
func Overlay(text []byte, name string, v any) error {
	var root yaml.Node
	if err := yaml.Unmarshal(text, &root); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	l := loader{lines: map[string]int{}, env: viper.New(), failed: map[string]bool{}}
	if root.Kind == yaml.DocumentNode && len(root.Content) == 1 {
		l.decode(root.Content[0], reflect.ValueOf(v).Elem(), name)
	}
	if err := l.err(); err != nil {
		return err
	}
	if c, ok := v.(interface{ Validate() error }); ok {
		if err := c.Validate(); err != nil {
			l.invalid(name, err)
		}
	}
	return l.err()
}

func environment() *viper.Viper {
	v := viper.New()
	v.SetEnvPrefix("TOCSIN")
	v.SetEnvKeyReplacer(strings.NewReplacer(".", "_"))
	v.AutomaticEnv()
	return v
}

type loader struct {
	file  string
	lines map[string]int
	env   *viper.Viper
	errs  []error
	// failed are the sections with mistakes.
	failed map[string]bool
	// lookup gives what ${NAME} stands for; nil: it is nothing but text.
	lookup func(name string) (string, bool)
}

func (l *loader) err() error { return errors.Join(l.errs...) }

func (l *loader) fail(line int, path, format string, args ...any) {
	section, _, _ := strings.Cut(path, ".")
	l.failed[section] = true
	l.errs = append(l.errs, &Error{File: l.file, Line: line, Path: path, Reason: fmt.Sprintf(format, args...)})
}

// invalid reports a Validate error at the line of the field that its message begins with.
func (l *loader) invalid(section string, err error) {
	field, reason, ok := strings.Cut(err.Error(), ": ")
	if !ok {
		field, reason = "", err.Error()
	}
	path := strings.TrimSuffix(section+"."+field, ".")
	e := &Error{Path: path, Reason: reason}
	if l.env.GetString(path) != "" {
		e.Reason = "environment " + EnvName(path) + ": " + reason
		l.errs = append(l.errs, e)
		return
	}
	for p := path; p != ""; {
		if line, ok := l.lines[p]; ok {
			e.File, e.Line = l.file, line
			break
		}
		i := strings.LastIndexAny(p, ".[")
		if i < 0 {
			break
		}
		p = p[:i]
	}
	l.errs = append(l.errs, e)
}

func (l *loader) top(root *yaml.Node, sections []Section) {
	byName := map[string]Section{}
	for _, s := range sections {
		byName[s.Name] = s
	}
	given := map[string]*yaml.Node{}
	if root.Kind == yaml.DocumentNode && len(root.Content) == 1 {
		m := root.Content[0]
		switch {
		case m.Kind == yaml.MappingNode:
			for i := 0; i+1 < len(m.Content); i += 2 {
				name := m.Content[i].Value
				if given[name] != nil {
					l.fail(m.Content[i].Line, name, "given twice")
				}
				given[name] = m.Content[i+1]
				l.lines[name] = m.Content[i].Line
				if _, mine := byName[name]; !mine && !contains(Known(), name) {
					l.fail(m.Content[i].Line, name, "unknown section%s", suggest(name, Known()))
				}
			}
		case m.Kind != yaml.ScalarNode || m.Tag != "!!null":
			l.fail(m.Line, "(file)", "must be a mapping of sections")
		}
	}
	for _, s := range sections {
		l.decode(given[s.Name], reflect.ValueOf(s.Value).Elem(), s.Name)
	}
}

// decode fills v from node (nil when the file does not give it) and the environment.
func (l *loader) decode(node *yaml.Node, v reflect.Value, path string) {
	if node != nil && node.Kind == yaml.AliasNode {
		node = node.Alias
	}
	if v.Kind() == reflect.Struct {
		l.object(node, v, path)
		return
	}
	if s := l.env.GetString(path); s != "" && leaf(v.Type()) {
		l.scalar(envNode(s, v.Type()), v, path, "environment "+EnvName(path)+": ")
		return
	}
	if node == nil || node.Tag == "!!null" {
		return
	}
	switch v.Kind() {
	case reflect.Slice:
		if node.Kind != yaml.SequenceNode {
			l.fail(node.Line, path, "must be a list")
			return
		}
		out := reflect.MakeSlice(v.Type(), len(node.Content), len(node.Content))
		for i, n := range node.Content {
			p := fmt.Sprintf("%s[%d]", path, i)
			l.lines[p] = n.Line
			l.decode(n, out.Index(i), p)
		}
		v.Set(out)
	case reflect.Map:
		if node.Kind != yaml.MappingNode {
			l.fail(node.Line, path, "must be a mapping")
			return
		}
		out := reflect.MakeMapWithSize(v.Type(), len(node.Content)/2)
		for i := 0; i+1 < len(node.Content); i += 2 {
			key, p := node.Content[i], path+"."+node.Content[i].Value
			l.lines[p] = key.Line
			e := reflect.New(v.Type().Elem()).Elem()
			l.decode(node.Content[i+1], e, p)
			out.SetMapIndex(reflect.ValueOf(key.Value).Convert(v.Type().Key()), e)
		}
		v.Set(out)
	case reflect.Pointer:
		e := reflect.New(v.Type().Elem())
		l.decode(node, e.Elem(), path)
		v.Set(e)
	default:
		l.scalar(node, v, path, "")
	}
}

func (l *loader) object(node *yaml.Node, v reflect.Value, path string) {
	given := map[string]*yaml.Node{}
	fields := Fields(v.Type())
	if node != nil && node.Tag != "!!null" {
		if node.Kind != yaml.MappingNode {
			l.fail(node.Line, path, "must be a mapping")
			return
		}
		var names []string
		for _, f := range fields {
			names = append(names, f.Name)
		}
		for i := 0; i+1 < len(node.Content); i += 2 {
			k := node.Content[i]
			p := path + "." + k.Value
			switch {
			case !contains(names, k.Value):
				l.fail(k.Line, p, "unknown key%s", suggest(k.Value, names))
			case given[k.Value] != nil:
				l.fail(k.Line, p, "given twice")
			}
			given[k.Value] = node.Content[i+1]
			l.lines[p] = k.Line
		}
	}
	for _, f := range fields {
		l.decode(given[f.Name], v.FieldByIndex(f.Index), path+"."+f.Name)
	}
}

func (l *loader) scalar(node *yaml.Node, v reflect.Value, path, from string) {
	if node.Kind != yaml.ScalarNode && node.Kind != yaml.SequenceNode {
		l.fail(node.Line, path, "%smust be a single value", from)
		return
	}
	n := *node
	expanded := n.Value
	if l.lookup != nil {
		var err error
		if expanded, err = expand(n.Value, l.lookup); err != nil {
			l.fail(node.Line, path, "%s%v", from, err)
			return
		}
	}
	if expanded != n.Value {
		n.Value = expanded
		n.Tag = "" // the kind is decided by what came in, as if it had stood there
		if v.Kind() == reflect.String {
			n.Tag = "!!str"
		}
	}
	if err := n.Decode(v.Addr().Interface()); err != nil {
		l.fail(node.Line, path, "%s%q is not %s", from, n.Value, kindName(v.Type()))
	}
}

var reference = regexp.MustCompile(`\$?\$\{([A-Za-z_][A-Za-z0-9_]*)\}`)

func expand(s string, lookup func(name string) (string, bool)) (string, error) {
	var err error
	out := reference.ReplaceAllStringFunc(s, func(m string) string {
		if strings.HasPrefix(m, "$$") {
			return m[1:]
		}
		name := m[2 : len(m)-1]
		v, ok := lookup(name)
		if !ok {
			err = fmt.Errorf("environment variable %s is not set", name)
		}
		return v
	})
	return out, err
}

func contains(list []string, s string) bool {
	for _, x := range list {
		if x == s {
			return true
		}
	}
	return false
}

// suggest names the known key nearest to the unknown one, or all when none is near.
func suggest(got string, known []string) string {
	best, at := 1<<30, ""
	for _, k := range known {
		if d := distance(got, k); d < best {
			best, at = d, k
		}
	}
	if at != "" && best <= 1+len(got)/3 {
		return fmt.Sprintf("; did you mean %q?", at)
	}
	k := append([]string(nil), known...)
	sort.Strings(k)
	return "; known are " + strings.Join(k, ", ")
}

// distance is Levenshtein's.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		prev := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := prev
			if a[i] != b[j] {
				cost++
			}
			prev = row[j+1]
			row[j+1] = min(cost, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}
