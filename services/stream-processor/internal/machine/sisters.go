package machine

import (
	"slices"
	"strconv"
	"strings"

	"github.com/tocsin-io/tocsin/services/stream-processor/internal/breaker"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/cohort"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/detect"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/window"
)

// RoundUS is the length of the rounds in which machines judged by cfg are held against their sisters, in microseconds.
func (c *Config) RoundUS() int64 {
	return int64(cohort.RoundWindows(c.KeptWindows)) * c.WindowLength.Microseconds()
}

// RoundDue is the start of the newest round that can be gathered at a log time: its windows have closed in machines that are on time, and are kept still.
func (c *Config) RoundDue(logMS int64) int64 {
	return window.Start(logMS*1000-c.Lateness.Microseconds()-2*c.WindowLength.Microseconds(), c.RoundUS()) - c.RoundUS()
}

// Member is a machine and its class: see Machine.Class, which takes some time to tell.
type Member struct {
	*Machine
	Class uint64
}

// Gather finds where cohorts are in the round that starts there, from what their machines hold now. It changes none. Whoever gathers writes the result into the log, and it counts where it stands
// there: so it need not be a function of the log itself. Machines that have an open alert, or nothing to say of the round, do not count. Cost: about a microsecond per sensor.
func Gather(cfg *Config, list []Member, startUS int64) *cohort.Round {
	r := &cohort.Round{StartUS: startUS, LengthUS: cfg.RoundUS()}
	byClass := map[uint64][]*Machine{}
	for _, m := range list {
		if m.gathers() {
			byClass[m.Class] = append(byClass[m.Class], m.Machine)
		}
	}
	classes := make([]uint64, 0, len(byClass))
	for k := range byClass { // in any order: sorted below
		classes = append(classes, k)
	}
	slices.Sort(classes)
	var g gatherer
	for _, k := range classes {
		if c, ok := g.gather(cfg, k, byClass[k], startUS, startUS+r.LengthUS); ok {
			r.Classes = append(r.Classes, c)
		}
	}
	return r
}

// gatherer is scratch memory.
type gatherer struct {
	columns [][]float64
	w       detect.Window
	order   []int32
}

func (g *gatherer) gather(cfg *Config, class uint64, list []*Machine, fromUS, toUS int64) (cohort.Middles, bool) {
	least, known := cfg.Cohort.Sisters+1, 0
	for _, m := range list {
		if m.acquainted() {
			known++
		}
	}
	c := cohort.Middles{Class: class, Anew: known < least}
	if len(list) < least {
		return c, false
	}
	n := len(list[0].sensors)
	for len(g.columns) < n {
		g.columns = append(g.columns, nil)
	}
	for i := range n {
		g.columns[i] = g.columns[i][:0]
	}
	for _, m := range list {
		if !c.Anew && !m.acquainted() || len(m.sensors) != n || !m.between(fromUS, toUS, &g.w) {
			continue
		}
		g.order = m.byNames(g.order)
		d, counts := m.peered(), false
		for i, slot := range g.order {
			v := &g.w.Values[slot]
			if v.Count == 0 {
				continue
			}
			x := v.Mean
			if !c.Anew {
				usual, ok := d.Distance(int(slot))
				if !ok {
					continue
				}
				x -= usual
			}
			g.columns[i] = append(g.columns[i], x)
			counts = true
		}
		if counts {
			c.Members++
		}
	}
	if c.Members < least {
		return c, false
	}
	c.Sensors = make([]detect.Middle, n)
	for i := range c.Sensors {
		c.Sensors[i] = cohort.MiddleOf(g.columns[i])
	}
	return c, true
}

// peered is the detector that holds the machine against its sisters; nil if there is none that works.
func (m *Machine) peered() detect.Peered {
	for d := range m.detectors {
		if p, ok := m.detectors[d].Detector.(detect.Peered); ok {
			return p
		}
	}
	return nil
}

// gathers tells whether others may be held against the machine.
func (m *Machine) gathers() bool {
	return m.wide == nil && len(m.sensors) > 0 && !m.frozen() && m.peered() != nil
}

// acquainted tells whether its usual distance from its sisters is known.
func (m *Machine) acquainted() bool {
	p := m.peered()
	for i := range m.sensors {
		if _, ok := p.Distance(i); ok {
			return true
		}
	}
	return false
}

// byNames are the slots in the order of the sensors' names.
func (m *Machine) byNames(order []int32) []int32 {
	order = order[:0]
	for i := range m.sensors {
		order = append(order, int32(i))
	}
	slices.SortFunc(order, func(a, b int32) int { return strings.Compare(m.sensors[a].name.Value(), m.sensors[b].name.Value()) })
	return order
}

// between fills w with the means of the sensors over the closed windows of a stretch of time. It is false when there is none.
func (m *Machine) between(fromUS, toUS int64, w *detect.Window) bool {
	w.StartUS, w.EndUS = fromUS, toUS
	w.Values = resize(w.Values, len(m.sensors))
	clear(w.Values)
	some := false
	for _, p := range m.panes.All() {
		if p.StartUS < fromUS || p.StartUS >= toUS || p.State != window.Closed {
			continue
		}
		stats := p.Statistics()
		for i := range w.Values {
			if m.shelf.holds(i, p.StartUS) {
				continue
			}
			if st := stats.Of(i); st.Count > 0 {
				v := &w.Values[i]
				v.Count += st.Count
				v.Mean += float64(st.Count) * (st.Mean - v.Mean) / float64(v.Count)
				some = true
			}
		}
	}
	for i := range w.Values {
		if v := &w.Values[i]; v.Count == 0 {
			absent(v)
		} else {
			v.Resolution = m.sensors[i].quality.Resolution()
		}
	}
	return some
}

// Compare holds the machine against its sisters of the round. It is true when that changed anything. Nothing is judged here: the next windows are.
func (m *Machine) Compare(r *cohort.Round, class uint64, out *Output) bool {
	if m.wide != nil || len(m.sensors) == 0 {
		return false
	}
	c := r.Find(class)
	if c == nil || len(c.Sensors) != len(m.sensors) {
		return false
	}
	for d := range m.detectors {
		det, ok := m.detectors[d].Detector.(detect.Peered)
		if !ok {
			continue
		}
		sc := &out.scratch
		if !m.between(r.StartUS, r.StartUS+r.LengthUS, &sc.window) {
			return false
		}
		sc.middles, sc.order = resize(sc.middles, len(m.sensors)), m.byNames(sc.order)
		for i, slot := range sc.order {
			sc.middles[slot] = c.Sensors[i]
		}
		least := m.cfg.Cohort.Sisters + 1
		peers := detect.Peers{Middles: sc.middles, Sisters: max(0, c.Members-1), Least: least, Anew: c.Anew}
		learn := !m.frozen() && !m.odd.open && m.held == 0 && m.mayTeach(r.StartUS)
		if why, detail := m.tryCompare(det, &sc.window, &peers, learn); why != breaker.None {
			m.trip(d, why, detail, r.StartUS, sc)
		}
		return true
	}
	return false
}

// besideSisters says how far a sensor is from where its sisters would have it, if that is why it is named.
func (m *Machine) besideSisters(e *evidence) (string, bool) {
	if e.detector == noDetector || m.detectors[e.detector].spec.Name != detect.CohortName || e.low != e.low || e.high != e.high {
		return "", false
	}
	text := "unlike its sister machines: "
	if p := m.peered(); p != nil && p.Sisters() > 0 {
		text = "unlike its " + strconv.Itoa(p.Sisters()) + " sister machines: "
	}
	low, high := float64(e.low), float64(e.high)
	off := e.observed - (low + (high-low)/2)
	sign := "+"
	if off < 0 {
		sign = ""
	}
	return text + m.sensors[e.slot].name.Value() + " " + number(e.observed) + ", " + sign + strconv.FormatFloat(off, 'g', 2, 64) + " beside them, who would have it at " + band(low, high), true
}
