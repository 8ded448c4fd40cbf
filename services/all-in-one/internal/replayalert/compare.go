package replayalert

import (
	"bytes"
	"fmt"
	"math"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
)

// Difference is one field that is not the same.
type Difference struct {
	Field      string `json:"field"`
	Recorded   string `json:"recorded"`
	Recomputed string `json:"recomputed"`
}

// compare holds two anomalies against each other, bit by bit: equal bytes are equal, and where they are not, the fields are named that differ. passed names
// fields that are no function of the machine's own records.
func compare(recorded, recomputed []byte) (out []Difference, passed []string, err error) {
	if bytes.Equal(recorded, recomputed) {
		return nil, nil, nil
	}
	var a, b eventv1.Anomaly
	if err := proto.Unmarshal(recorded, &a); err != nil {
		return nil, nil, fmt.Errorf("recorded anomaly: %w", err)
	}
	if err := proto.Unmarshal(recomputed, &b); err != nil {
		return nil, nil, fmt.Errorf("recomputed anomaly: %w", err)
	}
	if a.Origin == eventv1.Origin_ORIGIN_GATEWAY && a.Cause == "silence" {
		// That the gateway is silent was said by its other machines, which are not judged again.
		b.Origin, b.Machines, b.Summary = a.Origin, a.Machines, a.Summary
		passed = []string{"origin", "machines", "summary"}
		if proto.Equal(&a, &b) {
			return nil, passed, nil
		}
	}
	out = messages("", a.ProtoReflect(), b.ProtoReflect(), nil)
	if len(out) == 0 {
		out = append(out, Difference{Field: "encoding", Recorded: fmt.Sprintf("%d bytes", len(recorded)), Recomputed: fmt.Sprintf("%d bytes", len(recomputed))})
	}
	return out, passed, nil
}

// messages appends the fields that differ, in the order of the contract.
func messages(path string, a, b protoreflect.Message, out []Difference) []Difference {
	fields := a.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		name := path + string(f.Name())
		switch {
		case f.IsList():
			x, y := a.Get(f).List(), b.Get(f).List()
			if x.Len() != y.Len() {
				out = append(out, Difference{name, fmt.Sprintf("%d of them", x.Len()), fmt.Sprintf("%d of them", y.Len())})
			}
			for j := range min(x.Len(), y.Len()) {
				at := fmt.Sprintf("%s[%d]", name, j)
				if f.Kind() == protoreflect.MessageKind {
					out = messages(at+".", x.Get(j).Message(), y.Get(j).Message(), out)
				} else {
					out = values(at, f, x.Get(j), y.Get(j), out)
				}
			}
		case f.Kind() == protoreflect.MessageKind:
			if a.Has(f) != b.Has(f) {
				out = append(out, Difference{name, presence(a.Has(f)), presence(b.Has(f))})
			} else if a.Has(f) {
				out = messages(name+".", a.Get(f).Message(), b.Get(f).Message(), out)
			}
		default:
			out = values(name, f, a.Get(f), b.Get(f), out)
		}
	}
	return out
}

func values(name string, f protoreflect.FieldDescriptor, a, b protoreflect.Value, out []Difference) []Difference {
	x, y := text(f, a), text(f, b)
	if f.Kind() == protoreflect.DoubleKind {
		if math.Float64bits(a.Float()) == math.Float64bits(b.Float()) {
			return out
		}
		if x == y { // two NaN
			x, y = fmt.Sprintf("%016x", math.Float64bits(a.Float())), fmt.Sprintf("%016x", math.Float64bits(b.Float()))
		}
		return append(out, Difference{name, x, y})
	}
	if x != y {
		out = append(out, Difference{name, x, y})
	}
	return out
}

func text(f protoreflect.FieldDescriptor, v protoreflect.Value) string {
	if f.Kind() == protoreflect.EnumKind {
		if e := f.Enum().Values().ByNumber(v.Enum()); e != nil {
			return string(e.Name())
		}
	}
	return v.String()
}

func presence(there bool) string {
	if there {
		return "there"
	}
	return "none"
}
