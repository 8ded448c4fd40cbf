package routing

import (
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	amconfig "github.com/prometheus/alertmanager/config"
	"gopkg.in/yaml.v3"
)

//go:embed builtin.yml
var builtin string

// maxFile bounds a routing file: it is read whole.
const maxFile = 4 << 20

// ConfigError is a routing file that cannot be used, and where.
type ConfigError struct {
	File string
	// 1-based; the best known place when the rule that is broken spans the file.
	Line int
	Err  error
}

func (e *ConfigError) Error() string {
	return fmt.Sprintf("%s: line %d: %v", e.File, e.Line, e.Err)
}

func (e *ConfigError) Unwrap() error { return e.Err }

// source is a routing configuration as text, for finding lines in it.
type source struct {
	file string
	text string
}

// load reads and checks the routing file, or the built-in one when path is empty.
func load(path string) (*amconfig.Config, source, error) {
	library()
	if path == "" {
		src := source{file: "built-in routing", text: builtin}
		conf, err := amconfig.Load(builtin)
		if err != nil {
			return nil, src, src.wrap(err)
		}
		return conf, src, nil
	}
	src := source{file: path}
	info, err := os.Stat(path)
	if err != nil {
		return nil, src, fmt.Errorf("routing file: %w", err)
	}
	if info.Size() > maxFile {
		return nil, src, fmt.Errorf("routing file %s: %d bytes, more than %d", path, info.Size(), maxFile)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, src, fmt.Errorf("routing file: %w", err)
	}
	src.text = string(text)
	conf, err := amconfig.Load(src.text)
	if err != nil {
		return nil, src, src.wrap(err)
	}
	absoluteTemplates(conf, filepath.Dir(path))
	// Certificates, keys and *_file secrets are relative to the file too; LoadFile resolves them all but keeps no text.
	resolved, err := amconfig.LoadFile(path)
	if err != nil {
		return nil, src, src.wrap(err)
	}
	return resolved, src, nil
}

func absoluteTemplates(conf *amconfig.Config, dir string) {
	for i, t := range conf.Templates {
		if !filepath.IsAbs(t) {
			conf.Templates[i] = filepath.Join(dir, t)
		}
	}
}

var (
	lineInError = regexp.MustCompile(`line (\d+)`)
	quoted      = regexp.MustCompile(`"((?:[^"\\]|\\.)+)"`)
)

// wrap tells the line of an error. The YAML decoder names it in its own errors; the engine's rules (an undefined
// receiver, a missing smarthost) do not, so the value or section that the message names is looked up.
func (s source) wrap(err error) error {
	msg := err.Error()
	if m := lineInError.FindStringSubmatch(msg); m != nil {
		if n, convErr := strconv.Atoi(m[1]); convErr == nil {
			return &ConfigError{File: s.file, Line: n, Err: err}
		}
	}
	return &ConfigError{File: s.file, Line: s.locate(msg), Err: err}
}

func (s source) locate(msg string) int {
	var doc yaml.Node
	if yaml.Unmarshal([]byte(s.text), &doc) != nil {
		return 1
	}
	for _, m := range quoted.FindAllStringSubmatch(msg, -1) {
		want := m[1]
		if v, err := strconv.Unquote(`"` + want + `"`); err == nil {
			want = v
		}
		// The last one: the second of two that must differ, or the use of a name.
		if line := lastLine(&doc, func(n *yaml.Node) bool { return n.Value == want }); line > 0 {
			return line
		}
	}
	// Some messages name a value without quotes: "unknown time zone Mars/Phobos".
	words := strings.FieldsFunc(msg, func(r rune) bool { return r == ' ' || r == ',' || r == ';' })
	slices.SortStableFunc(words, func(a, b string) int { return len(b) - len(a) })
	for _, w := range words {
		if line := lastLine(&doc, func(n *yaml.Node) bool { return n.Value == w && strings.Contains(w, "/") }); line > 0 {
			return line
		}
	}
	low := strings.NewReplacer("smtp", "email", " ", "", "_", "").Replace(strings.ToLower(msg))
	// "missing webhook config" names webhook_configs; "group_interval cannot be zero" names its key; the longest key wins.
	best, line := 0, 1
	walk(&doc, func(n *yaml.Node) {
		name := strings.ReplaceAll(strings.TrimSuffix(n.Value, "_configs"), "_", "")
		if len(name) > max(best, 3) && strings.Contains(low, name) {
			best, line = len(name), n.Line
		}
	})
	return line
}

func lastLine(n *yaml.Node, match func(*yaml.Node) bool) int {
	line := 0
	walk(n, func(n *yaml.Node) {
		if match(n) {
			line = n.Line
		}
	})
	return line
}

func walk(n *yaml.Node, visit func(*yaml.Node)) {
	if n.Kind == yaml.ScalarNode {
		visit(n)
	}
	for _, c := range n.Content {
		walk(c, visit)
	}
}
