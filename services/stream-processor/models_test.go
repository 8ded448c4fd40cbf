package streamprocessor_test

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tocsin-io/tocsin/pkg/kafka/kafkatest"
	"github.com/tocsin-io/tocsin/pkg/modelfile"
	"github.com/tocsin-io/tocsin/pkg/objstore"
	"github.com/tocsin-io/tocsin/pkg/service"
	"github.com/tocsin-io/tocsin/pkg/topic"
	streamprocessor "github.com/tocsin-io/tocsin/services/stream-processor"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/detect"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/detect/detecttest"
)

// stored makes models of the sensors that produce sends, and a store that holds their files: bare as a file names them, full with their weights.
func stored(t *testing.T, dir string) (bare, full []detect.Model) {
	t.Helper()
	b, err := objstore.OpenDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	usual := func(r *rand.Rand, feature int) float64 { return []float64{5 + r.Float64(), 40 + r.Float64()}[feature] }
	for seed := range uint64(2) {
		m, file := detecttest.Model(t, "pump", seed+1, usual, "pressure", "temperature")
		if err := b.PutIfAbsent(context.Background(), modelfile.Key(m.Name, m.Version), file, nil); err != nil {
			t.Fatal(err)
		}
		full = append(full, m)
		m.Weights = ""
		bare = append(bare, m)
	}
	return bare, full
}

// with is the second revision, judged with a champion, and with a shadow beside it.
func with(instance, store string, models []detect.Model) streamprocessor.Config {
	c := revised(instance, 2)
	c.Models.URL = "file://" + store
	c.Detection.Detect.Detectors = []string{"limits", "spread", "ewma", "champion", "shadow"}
	c.Detection.Detect.Limits = nil // an open episode would keep all from learning
	c.Detection.Detect.Models.Champions, c.Detection.Detect.Models.Shadows = models[:1], models[1:]
	return c
}

// Models come into force at an offset, are the same after a restart and on another instance, and nobody asks the store for them again: it is emptied.
func TestModelsComeWithTheConfiguration(t *testing.T) {
	const machines = 5
	k := kafkatest.Start(t, 2)
	store := t.TempDir()
	bare, full := stored(t, store)
	old, changed := revised("a", 1), with("a", store, bare)
	deps := service.Nop()
	n := 0
	more := func() {
		produce(t, k, machines, n, n+150)
		n += 150
		readings(t, k, machines*n)
	}
	stop := start(t, k, old)
	more()
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	deps.Kafka = k
	stop = startWith(t, changed, deps)
	switches(t, k, with("a", store, full))
	more()
	more()
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(store, "models")); err != nil {
		t.Fatal(err)
	}
	stop = start(t, k, changed) // cannot load them, and judges by what is published
	more()
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	if published := kafkatest.ReadAll(t, k, topic.Config); len(published) != 2 {
		t.Errorf("%d configurations were published, want the two", len(published))
	}
	judgedAsOne(t, k, old)
	var metrics strings.Builder
	deps.Metrics.WritePrometheus(&metrics)
	if !strings.Contains(metrics.String(), `tocsin_processor_model_windows_total{unusual="neither"}`) {
		t.Error("champion and shadow were not compared")
	}
}

// What cannot be loaded is refused by a reload, and does not keep a start from judging.
func TestModelsThatCannotBeLoaded(t *testing.T) {
	k := kafkatest.Start(t, 1)
	bare, full := stored(t, t.TempDir())
	empty := with("a", t.TempDir(), bare)
	deps := service.Nop()
	deps.Kafka = k
	s, err := streamprocessor.New(revised("a", 1), deps)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Reconfigure(empty); err == nil || !strings.Contains(err.Error(), "pump@"+bare[0].Version) {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	stop := start(t, k, empty)
	produce(t, k, 2, 0, 20)
	readings(t, k, 40)
	if err := stop(); err != nil {
		t.Fatal(err)
	}
	wrong := with("a", t.TempDir(), slices.Clone(full))
	wrong.Revision = 0
	if err := wrong.Validate(); err == nil || !strings.Contains(err.Error(), "detection_revision") {
		t.Error(err)
	}
}

// The shadow has no part in what is said of any machine.
func TestTheShadowChangesNothing(t *testing.T) {
	_, full := stored(t, t.TempDir())
	var outputs [2][][]byte
	for i := range outputs {
		c := with("a", t.TempDir(), full)
		if i == 0 {
			c.Detection.Detect.Detectors = slices.DeleteFunc(c.Detection.Detect.Detectors, func(s string) bool { return s == "shadow" })
			c.Detection.Detect.Models.Shadows = nil
		}
		judge := streamprocessor.NewReplayer(c, 0, nil)
		for frame := range 450 {
			r := frameRecord(0, frame)
			r.Topic, r.Offset, r.Timestamp = topic.Frames, int64(frame), base.Add(time.Duration(frame)*time.Second)
			out, err := judge.Apply(context.Background(), r)
			if err != nil {
				t.Fatal(err)
			}
			outputs[i] = append(outputs[i], values(out)...)
		}
	}
	if len(outputs[0]) < 450 || !slices.EqualFunc(outputs[0], outputs[1], slices.Equal) {
		t.Errorf("%d and %d records", len(outputs[0]), len(outputs[1]))
	}
}

func values(rs []*kgo.Record) (out [][]byte) {
	for _, r := range rs {
		out = append(out, slices.Clone(r.Value))
	}
	return out
}
