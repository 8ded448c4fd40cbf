package topology

import (
	"cmp"
	"maps"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/tocsin-io/tocsin/pkg/modelfile"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine"
)

// fed is a model and the format of the reference that it is counted by: another build may read another.
type fed struct {
	model  string
	format uint32
}

func (a fed) compare(b fed) int {
	return cmp.Or(cmp.Compare(a.model, b.model), cmp.Compare(a.format, b.format))
}

// inputs is what models were given since it was written last, each window once, as comparing is. Memory: some 200 bytes for each watched feature of a model, of which there are 64 at most, and eight models in a configuration.
type inputs map[fed]*eventv1.ModelInputs

// take counts one window.
func (c *inputs) take(in *machine.Input) {
	k := fed{model: in.Model}
	if in.Reference != nil {
		k.format = uint32(in.Reference.Format)
	}
	m := (*c)[k]
	if m == nil || in.Reference != nil && (len(m.Bins) != in.Reference.Bins() || len(m.Moved) != in.Reference.Variables() || len(m.Squares) != len(m.Moved)) {
		m = &eventv1.ModelInputs{Model: k.model, Format: k.format}
		if in.Reference != nil {
			t := in.Reference.NewTally()
			m.Bins, m.Moved, m.Squares = t.Bins, t.Moved, t.Squares
		}
		if *c == nil {
			*c = inputs{}
		}
		(*c)[k] = m
	}
	m.Windows++
	if in.Reference != nil {
		in.Counter.Count(&modelfile.Tally{Bins: m.Bins, Moved: m.Moved, Squares: m.Squares}, in.Score, in.Row)
	}
}

// saved is what the meta record holds of c.
func (c inputs) saved() []*eventv1.ModelInputs {
	var out []*eventv1.ModelInputs
	for _, k := range slices.SortedFunc(maps.Keys(c), fed.compare) {
		out = append(out, c[k])
	}
	return out
}

// load is the inverse of saved.
func (c *inputs) load(saved []*eventv1.ModelInputs) {
	*c = nil
	for _, m := range saved {
		if *c == nil {
			*c = inputs{}
		}
		(*c)[fed{m.Model, m.Format}] = proto.CloneOf(m)
	}
}
