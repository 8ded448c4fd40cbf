package auth

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/tocsin-io/tocsin/pkg/frame"
)

// CheckEquipment tells whether patterns are such as Equipment takes; the error begins with the index of the first that is not. No pattern at
// all is an error: whoever is bound to nothing could do nothing.
func CheckEquipment(patterns []string) error {
	if len(patterns) == 0 {
		return errors.New(": empty, so that no machine is meant")
	}
	for i, p := range patterns {
		if id := strings.TrimSuffix(p, "*"); p != "*" && frame.CheckID("", []byte(id)) != nil {
			return fmt.Errorf("[%d]: %q is not an equipment id, a prefix followed by *, or *", i, p)
		}
	}
	return nil
}

// Equipment is a set of machines, given by equipment ids, prefixes followed by *, or * for every machine. The zero value has none.
// It is not changed once made, so it is safe for concurrent use.
type Equipment struct {
	patterns []string
	exact    map[string]struct{}
	prefixes []string
}

// Every is every machine.
func Every() Equipment { return NewEquipment([]string{"*"}) }

// NewEquipment compiles patterns that CheckEquipment takes.
func NewEquipment(patterns []string) Equipment {
	e := Equipment{patterns: slices.Clone(patterns), exact: map[string]struct{}{}}
	for _, p := range patterns {
		if prefix, ok := strings.CutSuffix(p, "*"); ok {
			e.prefixes = append(e.prefixes, prefix)
		} else {
			e.exact[p] = struct{}{}
		}
	}
	slices.Sort(e.prefixes)
	return e
}

// All tells whether it is every machine, also those that nobody has heard of.
func (e Equipment) All() bool { return len(e.prefixes) > 0 && e.prefixes[0] == "" }

// Patterns are what it was made from, for a condition in a query. Not to be changed.
func (e Equipment) Patterns() []string { return e.patterns }

// Has tells whether a machine is one of them. It does not allocate.
func (e Equipment) Has(equipmentID string) bool {
	if _, ok := e.exact[equipmentID]; ok {
		return true
	}
	return slices.ContainsFunc(e.prefixes, func(p string) bool { return strings.HasPrefix(equipmentID, p) })
}

// HasBytes is Has.
func (e Equipment) HasBytes(equipmentID []byte) bool {
	if _, ok := e.exact[string(equipmentID)]; ok {
		return true
	}
	for _, p := range e.prefixes {
		if len(equipmentID) >= len(p) && string(equipmentID[:len(p)]) == p {
			return true
		}
	}
	return false
}
