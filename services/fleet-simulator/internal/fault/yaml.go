package fault

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"go.yaml.in/yaml/v3"
)

// maxFile bounds a faults file.
const maxFile = 8 << 20

// ParseYAML reads a faults file:
//
//	faults:
//	  - kind: leak             # bearing_wear, leak, sensor_stuck, spike, drift, silence, clock_wrong, gateway_down
//	    machines: [pump-0001]  # or gateways: [gw-001], for silence, clock_wrong and gateway_down
//	    start: 60s             # after the simulation began
//	    duration: 5m           # without: to the end (a spike: one sample)
//	    ramp: 10s              # bearing_wear, leak, drift: how long it grows
//	    magnitude: 0.8         # bearing_wear, leak: in (0, 1]; spike, drift: x rated value; clock_wrong: seconds
//	    sensors: [flow]        # sensor_stuck, spike, drift
//	    id: my-leak            # without: f-0001, ...
//
// It is strict: unknown keys, wrong types and impossible combinations are errors, all of them named "<name>:<line>: ...".
func ParseYAML(name string, r io.Reader) (Plan, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxFile+1))
	if err != nil {
		return Plan{}, fmt.Errorf("read %s: %w", name, err)
	}
	if len(data) > maxFile {
		return Plan{}, fmt.Errorf("%s: longer than %d bytes", name, maxFile)
	}
	var doc yaml.Node
	dec := yaml.NewDecoder(bytes.NewReader(data))
	if err := dec.Decode(&doc); err != nil && !errors.Is(err, io.EOF) {
		return Plan{}, fmt.Errorf("%s: %w", name, err)
	}
	p := parser{name: name, ids: map[string]int{}}
	if err := dec.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		p.fail(1, "more than one document")
	}
	if doc.Kind == 0 {
		p.fail(1, "empty; write `faults: []` for none")
	} else {
		p.document(doc.Content[0])
	}
	return Plan{Faults: p.faults}, errors.Join(p.errs...)
}

type parser struct {
	name   string
	faults []Fault
	ids    map[string]int // line of first use
	errs   []error
}

func (p *parser) fail(line int, format string, args ...any) {
	p.errs = append(p.errs, fmt.Errorf("%s:%d: %s", p.name, line, fmt.Sprintf(format, args...)))
}

// mapping calls f for each key, once.
func (p *parser) mapping(n *yaml.Node, what string, f func(key, value *yaml.Node)) {
	if n.Kind != yaml.MappingNode {
		p.fail(n.Line, "%s must be a mapping", what)
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		k := n.Content[i]
		if seen[k.Value] {
			p.fail(k.Line, "key %q is there twice", k.Value)
			continue
		}
		seen[k.Value] = true
		f(k, n.Content[i+1])
	}
}

func (p *parser) document(n *yaml.Node) {
	found := false
	p.mapping(n, "the file", func(k, v *yaml.Node) {
		if k.Value != "faults" {
			p.fail(k.Line, "unknown key %q, only \"faults\" is known", k.Value)
			return
		}
		found = true
		if v.Kind != yaml.SequenceNode {
			p.fail(v.Line, "faults must be a list")
			return
		}
		for i, item := range v.Content {
			p.fault(i, item)
		}
	})
	if !found && n.Kind == yaml.MappingNode {
		p.fail(n.Line, "no key \"faults\"")
	}
}

func (p *parser) fault(i int, n *yaml.Node) {
	before := len(p.errs)
	// The kind first: its defaults come before what the file says.
	f := New(fmt.Sprintf("f-%04d", i+1), "")
	for j := 0; n.Kind == yaml.MappingNode && j+1 < len(n.Content); j += 2 {
		if n.Content[j].Value == "kind" {
			f = New(f.ID, Kind(n.Content[j+1].Value))
			if _, ok := traitsOf(f.Kind); !ok {
				p.fail(n.Content[j+1].Line, "unknown kind %q, must be one of %s", f.Kind, kindList())
			}
		}
	}
	hasRamp, hasDuration := false, false
	p.mapping(n, "a fault", func(k, v *yaml.Node) {
		switch k.Value {
		case "kind":
		case "id":
			f.ID = p.text(v, k.Value)
		case "machines":
			f.Machines = p.list(v, k.Value)
		case "gateways":
			f.Gateways = p.list(v, k.Value)
		case "sensors":
			f.Sensors = p.list(v, k.Value)
		case "start":
			f.Start = p.duration(v, k.Value)
		case "duration":
			f.Duration, hasDuration = p.duration(v, k.Value), true
		case "ramp":
			f.Ramp, hasRamp = p.duration(v, k.Value), true
		case "magnitude":
			f.Magnitude = p.number(v, k.Value)
		default:
			p.fail(k.Line, "unknown key %q, known are id, kind, machines, gateways, sensors, start, duration, ramp, magnitude", k.Value)
		}
	})
	if len(p.errs) > before {
		return
	}
	if f.Kind == "" {
		p.fail(n.Line, "no kind")
		return
	}
	if f.Kind == Drift && hasDuration && !hasRamp {
		f.Ramp = f.Duration // it drifts as long as it lasts
	}
	if line, ok := p.ids[f.ID]; ok {
		p.fail(n.Line, "id %q was used in line %d", f.ID, line)
		return
	}
	p.ids[f.ID] = n.Line
	f.where = fmt.Sprintf("%s:%d", p.name, n.Line)
	if err := f.validate(); err != nil {
		p.errs = append(p.errs, err)
		return
	}
	p.faults = append(p.faults, f)
}

func (p *parser) text(n *yaml.Node, key string) string {
	if n.Kind != yaml.ScalarNode || n.Tag != "!!str" || n.Value == "" {
		p.fail(n.Line, "%s must be a text", key)
		return ""
	}
	return n.Value
}

func (p *parser) list(n *yaml.Node, key string) []string {
	if n.Kind != yaml.SequenceNode {
		p.fail(n.Line, "%s must be a list of names, as in %s: [name]", key, key)
		return nil
	}
	var out []string
	for _, e := range n.Content {
		out = append(out, p.text(e, "each of "+key))
	}
	return out
}

func (p *parser) duration(n *yaml.Node, key string) time.Duration {
	d, err := time.ParseDuration(n.Value)
	if n.Kind != yaml.ScalarNode || err != nil {
		p.fail(n.Line, "%s must be a duration like 90s or 5m, is %q", key, n.Value)
	}
	return d
}

func (p *parser) number(n *yaml.Node, key string) float64 {
	v, err := strconv.ParseFloat(n.Value, 64)
	if n.Kind != yaml.ScalarNode || err != nil {
		p.fail(n.Line, "%s must be a number, is %q", key, n.Value)
	}
	return v
}
