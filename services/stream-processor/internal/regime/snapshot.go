package regime

import (
	"fmt"
	"hash/fnv"
	"math"

	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine/codec"
)

// AppendState appends all that later results depend on beside the configuration and the sensors' names.
func (t *Tracker) AppendState(dst []byte) []byte {
	dst = codec.AppendU32(dst, uint32(t.n))
	dst = codec.AppendU64(dst, t.fingerprint())
	dst = codec.AppendU32(dst, uint32(len(t.modes)))
	for i := range t.modes {
		m := &t.modes[i]
		dst = codec.AppendU32(dst, uint32(m.rule))
		dst = codec.AppendBool(dst, m.accepted)
		dst = codec.AppendU32(dst, uint32(m.visits)<<16|uint32(m.away))
		dst = codec.AppendU32(dst, m.stay)
		dst = appendFloats(dst, m.level)
	}
	dst = codec.AppendU32(dst, uint32(len(t.segs)))
	for i := range t.segs {
		g := &t.segs[i]
		dst = append(dst, byte(g.from), byte(g.to), g.turn)
		dst = codec.AppendU32(dst, uint32(g.visits))
		for _, w := range g.weight {
			dst = codec.AppendF32(dst, w)
		}
		dst = appendFloats(dst, g.data)
	}
	w := &t.at
	dst = append(dst, byte(w.Regime), byte(w.Seg), byte(w.next))
	dst = codec.AppendBool(dst, w.held)
	dst = codec.AppendU32(dst, uint32(w.rule))
	dst = codec.AppendU32(dst, uint32(w.streak)<<16|uint32(w.moving))
	dst = codec.AppendU32(dst, w.age)
	dst = appendFloats(dst, t.level)
	dst = appendFloats(dst, t.noise)
	dst = appendFloats(dst, t.spread)
	dst = codec.AppendU32(dst, uint32(len(t.driver)))
	for _, d := range t.driver {
		dst = codec.AppendBool(dst, d)
	}
	dst = codec.AppendBool(dst, t.young)
	dst = codec.AppendU32(dst, uint32(t.strayed))
	dst = codec.AppendBool(dst, t.visit != nil)
	if s := t.visit; s != nil {
		dst = codec.AppendU32(dst, uint32(s.n))
		dst = appendFloats(dst, s.first)
		dst = appendFloats(dst, s.second)
	}
	return dst
}

// RestoreState is the inverse, into a new tracker that was told all sensors. What another configuration left behind is passed over: regimes are then learned anew.
func (t *Tracker) RestoreState(r *codec.Reader) {
	fresh := *t
	sensors, rules := int(r.U32()), r.U64()
	t.modes = make([]mode, r.Len(16, 17))
	for i := range t.modes {
		m := &t.modes[i]
		m.rule, m.accepted = int32(r.U32()), r.Bool()
		n := r.U32()
		m.visits, m.away, m.stay = uint16(n>>16), uint16(n), r.U32()
		m.level = readFloats(r, false)
		if len(m.level) != 0 && len(m.level) != sensors {
			r.Fail("levels of a regime")
		}
	}
	t.segs = make([]segment, r.Len(maxSegments, 3+4+4*knots+4))
	for i := range t.segs {
		g := &t.segs[i]
		g.from, g.to, g.turn, g.visits = int8(r.U8()), int8(r.U8()), r.U8(), uint16(r.U32())
		for k := range g.weight {
			if g.weight[k] = r.F32(); !(g.weight[k] >= 0 && g.weight[k] <= mostWeight) {
				r.Fail("weight out of range")
			}
		}
		g.data = readFloats(r, true)
		free := g.from < 0 && len(g.data) == 0
		if !free && (g.from < 0 || int(g.from) >= len(t.modes) || g.to < 0 || int(g.to) >= len(t.modes) || len(g.data) != sensors*perSensor) {
			r.Fail("way of a regime out of range")
		}
	}
	w := Where{Regime: int8(r.U8()), Seg: int8(r.U8()), next: int8(r.U8()), held: r.Bool(), rule: int32(r.U32())}
	n := r.U32()
	w.streak, w.moving, w.age = uint16(n>>16), uint16(n), r.U32()
	t.at = w
	if w.Regime < 0 || int(w.Regime) >= max(1, len(t.modes)) || w.Seg < noSegment || int(w.Seg) >= len(t.segs) {
		r.Fail("regime out of range")
	}
	t.level, t.noise, t.spread = readFloats(r, true), readFloats(r, true), readFloats(r, true)
	t.driver = make([]bool, r.Len(MaxSensors, 1))
	for i := range t.driver {
		t.driver[i] = r.Bool()
	}
	if len(t.driver) == 0 {
		t.driver = nil
	}
	t.young, t.strayed = r.Bool(), uint16(r.U32())
	t.visit = nil
	if r.Bool() {
		t.visit = &visit{n: uint16(r.U32()), first: readFloats(r, false), second: readFloats(r, false)}
		if len(t.visit.first) != sensors || len(t.visit.second) != sensors || t.visit.n >= secondTo {
			r.Fail("visit out of range")
		}
	}
	told := 0
	if t.level != nil {
		told = sensors
	}
	if len(t.level) != told || len(t.noise) != told || len(t.spread) != told || len(t.driver) != 0 && len(t.driver) != told || sensors > t.n || told == 0 && len(t.modes) > 1 {
		r.Fail("regimes out of range")
	}
	for i := range t.modes {
		if i > 0 && t.modes[i].rule == foundBy && (len(t.modes[i].level) != sensors || len(t.driver) != sensors) {
			r.Fail("a found regime without levels")
		}
	}
	if r.Err() != nil || rules != t.fingerprint() {
		*t = fresh
		return
	}
	if t.level != nil {
		t.allocate() // the machine may have been told of sensors since
	}
}

// fingerprint tells rules apart: those of another configuration say nothing about regimes learned under this one.
func (t *Tracker) fingerprint() uint64 {
	if len(t.rules) == 0 {
		return 0
	}
	h := fnv.New64a()
	for i := range t.rules {
		g := &t.cfg.Given[t.rules[i].index]
		fmt.Fprintf(h, "%q %q %d %v %v;", g.Name, g.Sensor, t.rules[i].index, t.rules[i].low, t.rules[i].high)
	}
	return h.Sum64()
}

func appendFloats(dst []byte, list []float32) []byte {
	dst = codec.AppendU32(dst, uint32(len(list)))
	for _, x := range list {
		dst = codec.AppendF32(dst, x)
	}
	return dst
}

// readFloats reads what appendFloats wrote; nil for none.
func readFloats(r *codec.Reader, finite bool) []float32 {
	n := r.Len(MaxSensors*perSensor, 4)
	if n == 0 {
		return nil
	}
	list := make([]float32, n)
	for i := range list {
		if list[i] = r.F32(); finite && math.IsNaN(float64(list[i])-float64(list[i])) {
			r.Fail("number out of range")
		}
	}
	return list
}
