package trial

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	fleetsimulator "github.com/tocsin-io/tocsin/services/fleet-simulator"
)

// labels makes faults of a column: rows in a row that are labelled alike are one.
type labels struct {
	faults []*Fault
	open   *Fault
}

// normal are labels that say that nothing is wrong.
var normal = []string{"", "0", "0.0", "false", "no", "none", "normal", "ok", "nan", "n", "f"}

func (l *labels) row(m *machine, label string, at time.Time) error {
	label = strings.TrimSpace(label)
	wrong := !slices.Contains(normal, strings.ToLower(label))
	if l.open != nil && (!wrong || l.open.Kind != kindOf(label)) {
		l.open.End = at
		l.open = nil
	}
	if wrong && l.open == nil {
		if len(l.faults) >= maxFaults {
			return fmt.Errorf("more than %d faults are labelled: is the label column a label?", maxFaults)
		}
		l.open = &Fault{Machine: m.ID, Kind: kindOf(label), Start: at}
		l.faults = append(l.faults, l.open)
	}
	return nil
}

// close ends what is labelled to the end.
func (l *labels) close(m *machine) {
	if l.open != nil {
		l.open.End = m.To
		l.open = nil
	}
}

// kindOf is the label where it is a word.
func kindOf(label string) string {
	switch strings.ToLower(label) {
	case "1", "1.0", "true", "yes", "y", "t":
		return "fault"
	}
	return label
}

// readTruth reads the file of faults that tocsin simulate writes.
func readTruth(path string) ([]*Fault, error) {
	in, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = in.Close() }()
	var out []*Fault
	open := map[[2]string]*Fault{}
	s := bufio.NewScanner(in)
	s.Buffer(nil, 1<<20)
	for line := 1; s.Scan(); line++ {
		if strings.TrimSpace(s.Text()) == "" {
			continue
		}
		var t fleetsimulator.Truth
		if err := json.Unmarshal(s.Bytes(), &t); err != nil {
			return nil, fmt.Errorf("line %d is no fault: %w", line, err)
		}
		key, at := [2]string{t.FaultID, t.EquipmentID}, time.UnixMicro(t.EventTimeUS).UTC()
		switch t.Event {
		case "start":
			if len(out) >= maxFaults {
				return nil, fmt.Errorf("more than %d faults", maxFaults)
			}
			f := &Fault{Machine: t.EquipmentID, Kind: t.Kind, Start: at}
			open[key], out = f, append(out, f)
		case "end":
			if f := open[key]; f != nil {
				f.End = at
				delete(open, key)
			}
		default:
			return nil, fmt.Errorf("line %d: event %q is neither start nor end", line, t.Event)
		}
	}
	if err := s.Err(); err != nil {
		return nil, err
	}
	if len(out) == 0 {
		return nil, errors.New("it holds no faults")
	}
	return out, nil
}
