package machine

import (
	"errors"
	"fmt"
	"math"
	"path"
	"time"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/breaker"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/calibrate"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/regime"
)

// Correction is a human's word on what a machine may learn. It comes with a release of the configuration, or alone through Machine.Correct.
type Correction struct {
	Machine string `mapstructure:"machine" doc:"equipment id; * and ? match any text and any character"`
	Kind    string `mapstructure:"kind" doc:"new_normal: what holds since from is how it is meant to be; an episode of behaviour ends, and the machine is learned anew. unlearn: nothing between from and to may be part of what is usual; what was learned from it already is forgotten by learning anew"`
	From    string `mapstructure:"from" doc:"event time, RFC 3339"`
	To      string `mapstructure:"to" doc:"event time, RFC 3339; for unlearn only"`
	Why     string `mapstructure:"why" doc:"for those who read it later"`
}

// Kinds of corrections.
const (
	NewNormal = "new_normal"
	Unlearn   = "unlearn"
)

const maxCorrections = 10_000

// Validate names the field that is wrong.
func (c *Correction) Validate() error {
	if _, err := path.Match(c.Machine, ""); err != nil || c.Machine == "" {
		return fmt.Errorf("machine: %q is no pattern", c.Machine)
	}
	from, err := time.Parse(time.RFC3339Nano, c.From)
	if err != nil {
		return fmt.Errorf("from: %w", err)
	}
	switch c.Kind {
	case NewNormal:
		if c.To != "" {
			return errors.New("to: a new normal has no end")
		}
	case Unlearn:
		to, err := time.Parse(time.RFC3339Nano, c.To)
		if err != nil {
			return fmt.Errorf("to: %w", err)
		}
		if !to.After(from) {
			return fmt.Errorf("to: %s is not after from", c.To)
		}
	default:
		return fmt.Errorf("kind: %q is neither %s nor %s", c.Kind, NewNormal, Unlearn)
	}
	return nil
}

// correction is a Correction in microseconds. Learning begins anew at the first window from anewUS on; windows in [fromUS, toUS) teach nothing.
type correction struct {
	fromUS, toUS, anewUS int64
	always               bool // anew, whatever was learned from
}

func (c *Correction) parse() (correction, bool) {
	from, err := time.Parse(time.RFC3339Nano, c.From)
	if err != nil {
		return correction{}, false // Validate refuses it
	}
	out := correction{fromUS: from.UnixMicro(), toUS: from.UnixMicro(), anewUS: from.UnixMicro(), always: true}
	if c.Kind == Unlearn {
		to, err := time.Parse(time.RFC3339Nano, c.To)
		if err != nil {
			return correction{}, false
		}
		out.toUS, out.anewUS, out.always = to.UnixMicro(), to.UnixMicro(), false
	}
	return out, true
}

// corrections are those of the configuration that are about the machine; mostly none.
func (c *Config) corrections(equipmentID string) []correction {
	var out []correction
	for i := range c.Corrections {
		if ok, err := path.Match(c.Corrections[i].Machine, equipmentID); err != nil || !ok {
			continue
		}
		if k, ok := c.Corrections[i].parse(); ok {
			out = append(out, k)
		}
	}
	return out
}

// Correct takes a human's word in, as if it stood in the configuration. It holds until the machine is restored: who calls it writes it where a
// restart reads it. c must be valid; that it names another machine is ignored.
func (m *Machine) Correct(c *Correction) {
	if ok, err := path.Match(c.Machine, m.id); err != nil || !ok {
		return
	}
	if k, ok := c.parse(); ok {
		m.corrections = append(m.corrections, k)
	}
}

// heed does what corrections ask for before a window is judged.
func (m *Machine) heed(startUS int64, out *Output) {
	if len(m.corrections) == 0 {
		return
	}
	newest, anew := int64(math.MinInt64), false
	for _, c := range m.corrections {
		if startUS < c.anewUS || m.heeded && c.anewUS <= m.heededUS {
			continue
		}
		newest = max(newest, c.anewUS)
		anew = anew || c.always || m.learned > 0 && m.learnedUS >= c.fromUS
	}
	if newest == math.MinInt64 {
		return
	}
	m.heededUS, m.heeded = newest, true
	if anew {
		m.startAnew(startUS, out)
	}
}

// mayTeach tells whether no correction speaks against learning from a window.
func (m *Machine) mayTeach(startUS int64) bool {
	for _, c := range m.corrections {
		if startUS+m.cfg.WindowLength.Microseconds() > c.fromUS && startUS < c.toUS {
			return false
		}
	}
	return true
}

// startAnew forgets what is usual, and keeps what the machine is: its sensors, their habits of standing still, who sends.
func (m *Machine) startAnew(startUS int64, out *Output) {
	if e := &m.episodes[behaviour]; e.open {
		m.report(behaviour, eventv1.Phase_PHASE_ENDED, startUS, startUS, 0, nil, out)
		e.open = false
	}
	if m.regimes != nil && m.regimes.Declare() {
		m.excuse()
		return
	}
	m.regimes = regime.New(&m.cfg.Regimes, m.id, m.cfg.WindowLength)
	m.relearn(startUS, out)
}

// relearn forgets what the machine usually does.
func (m *Machine) relearn(startUS int64, out *Output) {
	m.breakers = nil
	for i := range m.detectors {
		d := &m.detectors[i]
		*d = detector{Detector: nobody{}, spec: d.spec}
		if why, detail := m.tryNew(i); why != breaker.None {
			m.trip(i, why, detail, startUS, &out.scratch)
		}
	}
	m.grow()
	for i := range m.sensors {
		m.sensors[i].course = course{}
	}
	m.bar()
	m.scan.Reset()
	m.peaks, m.debt, m.habits, m.odd = calibrate.Peaks{}, calibrate.Debt{}, nil, excursion{}
	m.learned, m.held, m.behind, m.sisters = 0, 0, 0, 0
}
