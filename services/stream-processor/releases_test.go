package streamprocessor_test

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tocsin-io/tocsin/pkg/kafka/kafkatest"
	"github.com/tocsin-io/tocsin/pkg/modelfile"
	"github.com/tocsin-io/tocsin/pkg/objstore"
	"github.com/tocsin-io/tocsin/pkg/topic"
	streamprocessor "github.com/tocsin-io/tocsin/services/stream-processor"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/detect"
)

// promote gives roles in the store at dir, as the model-trainer does.
func promote(t *testing.T, dir string, number int, roles modelfile.Roles) {
	t.Helper()
	b, err := objstore.OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	raw, err := json.Marshal(roles)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.PutIfAbsent(context.Background(), modelfile.RolesKey("pump", number), raw, nil); err != nil {
		t.Fatal(err)
	}
}

// following takes pump as its roles have it.
func following(instance, store string) streamprocessor.Config {
	c := with(instance, store, []detect.Model{{Name: "pump"}, {Name: "pump"}})
	c.ModelsEvery = 20 * time.Millisecond
	return c
}

// Whoever has the role judges: before anybody has it nobody does, and each change comes into force at an offset of each partition, over restarts, as one judge who reads the log would have it.
func TestPromotionReachesTheStream(t *testing.T) {
	const machines = 5
	k := kafkatest.Start(t, 2)
	store := t.TempDir()
	_, full := stored(t, store)
	old, follows := revised("a", 1), following("a", store)
	n := 0
	more := func() {
		t.Helper()
		produce(t, k, machines, n, n+60)
		n += 60
		readings(t, k, machines*n)
	}
	stop := start(t, k, old)
	more()
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	stop = start(t, k, follows)
	nobody := with("a", store, full)
	nobody.Detection.Detect.Models.Champions, nobody.Detection.Detect.Models.Shadows = []detect.Model{}, []detect.Model{}
	switches(t, k, nobody)
	more()
	promote(t, store, 1, modelfile.Roles{Champion: full[0].Version})
	one := with("a", store, full)
	one.Detection.Detect.Models.Shadows = []detect.Model{}
	switches(t, k, one)
	more()
	promote(t, store, 2, modelfile.Roles{Champion: full[1].Version, Challenger: full[0].Version})
	both := with("a", store, []detect.Model{full[1], full[0]})
	switches(t, k, both)
	more()
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	stop = start(t, k, follows) // nothing new
	more()
	more()
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	// One that read the roles long ago has nothing to say, though its revision is the same.
	behind := with("a", store, full)
	stop = start(t, k, behind)
	more()
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if published := kafkatest.ReadAll(t, k, topic.Config); len(published) != 4 {
		t.Errorf("%d configurations were published, want four", len(published))
	}
	judgedAsOne(t, k, old)
}

// A store that is not there at the start is asked again, and what cannot judge streams is passed over.
func TestAReleaseIsWaitedFor(t *testing.T) {
	k := kafkatest.Start(t, 1)
	store := t.TempDir()
	c := following("a", store)
	c.Detection.Detect.Models.Champions = append(slices.Clip(c.Detection.Detect.Models.Champions), detect.Model{Name: "fan", Version: "4f1c22ab90de"})
	stop := start(t, k, c) // that version is not there
	produce(t, k, 2, 0, 20)
	readings(t, k, 40)
	_, full := stored(t, store)
	b, err := objstore.OpenDir(store)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	file := modelfile.Append(nil, []byte(`{"algorithm":"lof","features":["pressure"]}`))
	other := modelfile.Version(file)
	if err := b.PutIfAbsent(context.Background(), modelfile.Key("pump", other), file, nil); err != nil {
		t.Fatal(err)
	}
	promote(t, store, 1, modelfile.Roles{Champion: full[0].Version, Challenger: other})
	raw, _, err := b.Get(context.Background(), modelfile.Key("pump", full[1].Version), 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	fan := detect.Model{Name: "fan", Version: full[1].Version}
	if err := fan.Pack(raw); err != nil {
		t.Fatal(err)
	}
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	c.Detection.Detect.Models.Champions[1].Version = fan.Version
	stop = start(t, k, c)
	produce(t, k, 2, 20, 40)
	if err := b.PutIfAbsent(context.Background(), modelfile.Key("fan", fan.Version), raw, nil); err != nil {
		t.Fatal(err)
	}
	want := c
	want.Detection.Detect.Models.Champions, want.Detection.Detect.Models.Shadows = []detect.Model{full[0], fan}, []detect.Model{}
	switches(t, k, want)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	kafkatest.ConsumeUntil(t, k, topic.Config, patience, func(rs []*kgo.Record) bool {
		return slices.ContainsFunc(rs, func(r *kgo.Record) bool { return strings.Contains(string(r.Value), fan.Version) })
	})
}
