// Package places tells where machines stand: their site, line and group, by their equipment ids. It decides nothing else and does no I/O.
package places

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"unicode"
	"unicode/utf8"

	"github.com/tocsin-io/tocsin/pkg/auth"
)

// Place is where a machine stands; what is not known is empty.
type Place struct{ Site, Line, Group string }

// Rule says where some machines stand. What it leaves empty it says nothing of.
type Rule struct {
	Place
	// Equipment are ids, prefixes followed by *, or * for every machine.
	Equipment []string
}

const (
	maxName  = 128
	maxRules = 10_000
)

// Map knows where machines stand. It does not change; safe for concurrent use. The zero value knows nothing.
type Map struct {
	rules              []compiled
	id                 *regexp.Regexp
	site, line, groups int // indexes of the pattern's captures; 0: none
}

type compiled struct {
	Place
	equipment auth.Equipment
}

// New compiles rules, and a regular expression on ids whose captures are called site, line and group ("": none). Of each of the three the first rule that says anything holds; then the pattern.
func New(pattern string, rules []Rule) (*Map, error) {
	m := &Map{}
	if pattern != "" {
		re, err := regexp.Compile(pattern)
		if err != nil {
			return nil, fmt.Errorf("id_pattern: %w", err)
		}
		m.id = re
		for i, name := range re.SubexpNames() {
			switch name {
			case "":
			case "site":
				m.site = i
			case "line":
				m.line = i
			case "group":
				m.groups = i
			default:
				return nil, fmt.Errorf("id_pattern: a capture is called %q; there are site, line, group", name)
			}
		}
		if m.site+m.line+m.groups == 0 {
			return nil, errors.New("id_pattern: captures nothing: call a part (?P<site>...), (?P<line>...) or (?P<group>...)")
		}
	}
	if len(rules) > maxRules {
		return nil, fmt.Errorf("rules: %d, at most %d", len(rules), maxRules)
	}
	for i, r := range rules {
		if err := auth.CheckEquipment(r.Equipment); err != nil {
			return nil, fmt.Errorf("rules[%d].equipment%w", i, err)
		}
		if r.Place == (Place{}) {
			return nil, fmt.Errorf("rules[%d]: neither site nor line nor group, so the rule says nothing", i)
		}
		for name, v := range map[string]string{"site": r.Site, "line": r.Line, "group": r.Group} {
			if !good(v) {
				return nil, fmt.Errorf("rules[%d].%s: longer than %d bytes, or with control characters", i, name, maxName)
			}
		}
		m.rules = append(m.rules, compiled{r.Place, auth.NewEquipment(r.Equipment)})
	}
	return m, nil
}

func good(s string) bool {
	return len(s) <= maxName && utf8.ValidString(s) && !slices.ContainsFunc([]rune(s), unicode.IsControl)
}

// Of tells where a machine stands. Cost: a look at each rule, about a microsecond for the pattern.
func (m *Map) Of(equipmentID string) Place {
	var p Place
	if m == nil {
		return p
	}
	for i := range m.rules {
		if p.Site != "" && p.Line != "" && p.Group != "" {
			return p
		}
		r := &m.rules[i]
		if r.equipment.Has(equipmentID) {
			p.fill(r.Place)
		}
	}
	if m.id == nil {
		return p
	}
	if found := m.id.FindStringSubmatch(equipmentID); found != nil {
		capture := func(i int) string {
			if i == 0 || !good(found[i]) {
				return ""
			}
			return found[i]
		}
		p.fill(Place{capture(m.site), capture(m.line), capture(m.groups)})
	}
	return p
}

func (p *Place) fill(from Place) {
	if p.Site == "" {
		p.Site = from.Site
	}
	if p.Line == "" {
		p.Line = from.Line
	}
	if p.Group == "" {
		p.Group = from.Group
	}
}
