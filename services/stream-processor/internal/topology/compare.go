package topology

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"

	"github.com/tocsin-io/tocsin/pkg/topic"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/detect"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/detection"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine"
)

const (
	// comparisonMS is how often, in log time, what was counted of models is written.
	comparisonMS = 60_000
	// maxModelPages bounds the machines that one record names.
	maxModelPages = 250
)

// pair is a champion and the shadow beside it.
type pair struct{ champion, shadow string }

func (a pair) compare(b pair) int {
	return cmp.Or(cmp.Compare(a.champion, b.champion), cmp.Compare(a.shadow, b.shadow))
}

// comparing is what was counted of models since it was written last. A transaction saves it with the offsets, so it counts each window once, whatever happens to the process.
type comparing struct {
	pairs  map[pair]*counted
	inputs inputs
	took   map[string]*took // by detector
}

type counted struct {
	*eventv1.ModelComparison
	pages map[string]*eventv1.ModelPage // by machine
}

type took struct {
	sum time.Duration
	n   int
}

// take counts one window of a machine.
func (c *comparing) take(id string, w *machine.Compared) {
	k := pair{w.Champion, w.Shadow}
	n := c.pairs[k]
	if n == nil {
		n = &counted{&eventv1.ModelComparison{Champion: k.champion, Shadow: k.shadow}, map[string]*eventv1.ModelPage{}}
		if c.pairs == nil {
			c.pairs = map[pair]*counted{}
		}
		c.pairs[k] = n
	}
	n.MachineUs += w.SpanUS
	switch shadow := w.UnusualToShadow(); {
	case w.Unusual && shadow:
		n.Both++
	case w.Unusual:
		n.ChampionOnly++
	case shadow:
		n.ShadowOnly++
	default:
		n.Neither++
	}
	byChampion, byShadow := w.Said >= w.Page, w.ShadowSaid >= w.Page
	if !byChampion && !byShadow {
		return
	}
	p := n.pages[id]
	if p == nil {
		if len(n.pages) >= maxModelPages {
			n.PagesOmitted++
			return
		}
		p = &eventv1.ModelPage{EquipmentId: id}
		n.pages[id] = p
		n.Pages = append(n.Pages, p)
	}
	if byChampion {
		widen(&p.ChampionFirstUs, &p.ChampionLastUs, w.StartUS)
	}
	if byShadow {
		widen(&p.ShadowFirstUs, &p.ShadowLastUs, w.StartUS)
	}
	p.ChampionSurprise, p.ShadowSurprise = max(p.ChampionSurprise, w.Said), max(p.ShadowSurprise, w.ShadowSaid)
}

func widen(first, last *int64, at int64) {
	if *first == 0 || at < *first {
		*first = at
	}
	*last = max(*last, at)
}

// noteModels counts a window, for the metrics of this transaction and for the next record.
func (p *partition) noteModels(id string, w *machine.Compared) {
	p.comparing.take(id, w)
	says := "neither"
	switch shadow := w.UnusualToShadow(); {
	case w.Unusual && shadow:
		says = "both"
	case w.Unusual:
		says = "incumbent"
	case shadow:
		says = "shadow"
	}
	if p.models == nil {
		p.models = map[string]int{}
	}
	p.models[says]++
}

// time notes how long a model took.
func (c *comparing) time(k machine.Took) {
	if k.Detector != detect.Champion && k.Detector != detect.Shadow {
		return
	}
	if c.took == nil {
		c.took = map[string]*took{}
	}
	if c.took[k.Detector] == nil {
		c.took[k.Detector] = &took{}
	}
	c.took[k.Detector].sum += k.For
	c.took[k.Detector].n++
}

// saved is what the meta record holds of c.
func (c *comparing) saved() []*eventv1.ModelComparison {
	var out []*eventv1.ModelComparison
	for _, k := range slices.SortedFunc(maps.Keys(c.pairs), pair.compare) {
		out = append(out, c.pairs[k].ModelComparison)
	}
	return out
}

// load is the inverse of saved.
func (c *comparing) load(saved []*eventv1.ModelComparison, given []*eventv1.ModelInputs) {
	*c = comparing{}
	c.inputs.load(given)
	for _, m := range saved {
		m = proto.CloneOf(m)
		n := &counted{m, map[string]*eventv1.ModelPage{}}
		for _, p := range m.Pages {
			n.pages[p.EquipmentId] = p
		}
		if c.pairs == nil {
			c.pairs = map[pair]*counted{}
		}
		c.pairs[pair{m.Champion, m.Shadow}] = n
	}
}

// exposeModels gives each released model of a configuration that came into force a gauge of the partitions that are judged by it.
func (t *Topology) exposeModels(in *detection.Config) {
	for role, models := range map[string][]detect.Model{detect.Champion: in.Judge.Detect.Models.Champions, detect.Shadow: in.Judge.Detect.Models.Shadows} {
		for _, m := range models {
			t.metrics.set.GetOrCreateGauge(fmt.Sprintf(`tocsin_processor_model_partitions{role=%q,model="%s@%s"}`, role, m.Name, m.Version), func() float64 {
				return float64(t.judgedBy(role, m))
			})
		}
	}
}

// judgedBy is the number of partitions that are judged by a model in that role.
func (t *Topology) judgedBy(role string, m detect.Model) (n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, s := range t.slots {
		if s.inForce == nil {
			continue
		}
		list := s.inForce.Judge.Detect.Models.Champions
		if role == detect.Shadow {
			list = s.inForce.Judge.Detect.Models.Shadows
		}
		if slices.ContainsFunc(list, func(o detect.Model) bool { return o.Name == m.Name && o.Version == m.Version }) {
			n++
		}
	}
	return n
}

// emitComparisons writes what was counted up to the tick at ms and begins anew.
func (p *partition) emitComparisons(ms int64, emit emitter) {
	var header string
	for _, d := range []string{detect.Champion, detect.Shadow} {
		if t := p.comparing.took[d]; t != nil {
			header += fmt.Sprintf("%s=%s ", d, t.sum/time.Duration(t.n))
		}
	}
	for _, m := range p.comparing.saved() {
		m.Partition, m.UntilMs = p.id, ms
		p.scratch, _ = proto.MarshalOptions{Deterministic: true}.MarshalAppend(p.scratch[:0], m)
		r := p.record(topic.Comparisons, topic.TypeComparison, nil, p.scratch, fmt.Sprintf("comparison/%d/%d/%s/%s", p.id, ms, m.Champion, m.Shadow), nil)
		if header != "" {
			r.Headers = append(r.Headers, kgo.RecordHeader{Key: topic.HeaderScoreTook, Value: []byte(header)})
		}
		emit(r)
	}
	for _, m := range p.comparing.inputs.saved() {
		m.Partition, m.UntilMs = p.id, ms
		p.scratch, _ = proto.MarshalOptions{Deterministic: true}.MarshalAppend(p.scratch[:0], m)
		emit(p.record(topic.Comparisons, topic.TypeInputs, nil, p.scratch, fmt.Sprintf("inputs/%d/%d/%s/%d", p.id, ms, m.Model, m.Format), nil))
	}
	p.comparing = comparing{}
}
