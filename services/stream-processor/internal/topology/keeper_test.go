package topology

import (
	"strings"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"github.com/tocsin-io/tocsin/pkg/kafka/kafkatest"
	"github.com/tocsin-io/tocsin/pkg/topic"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/detection"
)

// A case holds the state that stood at its offset, all parts of it; of a machine that was new it holds none; and of one whose state is gone it says so. What
// came before a replay may begin is the newest that is whole.
func TestCasesHoldWhatStoodThere(t *testing.T) {
	k := kafkatest.Start(t, 1)
	base, err := k.Options(zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	part := func(key, state string, more uint32) *kgo.Record {
		v, err := proto.Marshal(&eventv1.MachineSnapshot{Format: stateFormat, State: []byte(state), MoreParts: more})
		if err != nil {
			t.Fatal(err)
		}
		return &kgo.Record{Topic: topic.State, Key: []byte(key), Value: v}
	}
	stand := []*kgo.Record{part("m/a", "alpha", 0), part("m/wide", "one", 2), part("p/1/wide", "two", 0), part("p/2/wide", "three", 0), part("m/b", "beta", 0), part("meta", "", 0)}
	if err := kafkatest.Client(t, k).ProduceSync(t.Context(), stand...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	m := newInstruments(metrics.NewSet())
	keeper := newKeeper(base, "this build", m, zap.NewNop())
	in := detection.New(judgeConfig(), 7)
	opened := func(machine string, at int64, parts int) opening {
		return opening{episode: machine + "/behaviour/1", machine: machine, offset: 90, ms: 5, from: 80, in: in, stateAt: at, parts: parts}
	}
	keeper.offer([]opening{opened("a", 0, 1), opened("wide", 1, 3), opened("a", 0, 1), opened("new", -1, 0), opened("b", 3, 1), opened("half", 4, 2)})
	keeper.keep(t.Context(), keeper.take())

	got := map[string][]*eventv1.Case{}
	for _, r := range kafkatest.Consume(t, k, topic.Cases, 8, time.Minute) {
		c := new(eventv1.Case)
		if err := proto.Unmarshal(r.Value, c); err != nil {
			t.Fatal(err)
		}
		if string(r.Key) != c.GetEquipmentId() || topic.Header(r, topic.HeaderID) != c.GetEpisodeId() || c.GetBuild() != "this build" || c.GetConfig().GetRevision() != 7 {
			t.Errorf("%q %v: %v", r.Key, r.Headers, c)
		}
		got[c.GetEquipmentId()] = append(got[c.GetEquipmentId()], c)
	}
	for machine, want := range map[string]string{"a": "alpha", "wide": "onetwothree", "new": ""} {
		b, err := beginningOf(got[machine])
		if err != nil || string(b.state) != want || b.from != 80 || b.in.Fingerprint != in.Fingerprint {
			t.Errorf("%s: %+v, %v", machine, b, err)
		}
	}
	for _, machine := range []string{"b", "half"} {
		if _, err := beginningOf(got[machine]); err == nil || !strings.Contains(err.Error(), "compacted") {
			t.Errorf("%s: %v", machine, err)
		}
	}
	if _, err := beginningOf(got["wide"][1:]); err == nil {
		t.Error("a case without its first part is a beginning")
	}
	if kept, missing := m.casesKept.Get(), m.casesMissing.Get(); kept != 4 || missing != 2 {
		t.Errorf("%d kept, %d missing", kept, missing)
	}
	keeper.offer(make([]opening, keeperQueue+3))
	if n, dropped := len(keeper.take()), m.casesDropped.Get(); n != keeperQueue || dropped != 3 {
		t.Errorf("%d wait, %d dropped", n, dropped)
	}
}
