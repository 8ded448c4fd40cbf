package lakeproof

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

//go:embed read.py
var readPy []byte

// ask is what read.py is given.
type ask struct {
	Base      int64               `json:"base"`
	Tables    map[string][]string `json:"tables"` // files that count, as tocsin lake files names them
	Catalog   string              `json:"catalog"`
	Warehouse string              `json:"warehouse"`
	Jars      []string            `json:"jars"`
	// Extra columns by table, of which the values are counted.
	Extra map[string][]string `json:"extra,omitempty"`
}

// found is what one engine made of the tables.
type found struct {
	Seconds float64                   `json:"seconds"`
	Tables  map[string]map[string]any `json:"tables"`
}

// engines are asked one after the other, each in a process of its own.
var engines = []string{"DuckDB", "pyarrow", "ClickHouse", "pyiceberg", "Spark"} //nolint:gochecknoglobals // a constant list

// read asks every engine.
func (p *proof) read(ctx context.Context, a ask) (map[string]found, error) {
	script, question := filepath.Join(p.dir, "read.py"), filepath.Join(p.dir, "ask.json")
	b, err := json.Marshal(a)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(question, b, 0o600); err != nil {
		return nil, err
	}
	if err := os.WriteFile(script, readPy, 0o600); err != nil {
		return nil, err
	}
	out := map[string]found{}
	for _, e := range engines {
		text, err := p.python(ctx, script, e, question)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", e, err)
		}
		var got map[string]found
		dec := json.NewDecoder(strings.NewReader(lastLine(text)))
		dec.UseNumber()
		if err := dec.Decode(&got); err != nil {
			return nil, fmt.Errorf("%s: %w: %.200s", e, err, text)
		}
		for name, f := range got {
			out[name] = f
			p.say("  %-16s %6.1f s", name, f.Seconds)
		}
	}
	return out, nil
}

// python runs a script and returns what it prints.
func (p *proof) python(ctx context.Context, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, p.cfg.Python, args...) //nolint:gosec // the operator's interpreter
	cmd.Dir = p.dir
	cmd.Env = append(os.Environ(), "SPARK_LOCAL_IP=127.0.0.1") // everything stays on loopback
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, tail(stderr.String(), 2000))
	}
	return string(out), nil
}

func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return lines[len(lines)-1]
}

func tail(text string, n int) string {
	text = strings.TrimSpace(text)
	return text[max(0, len(text)-n):]
}
