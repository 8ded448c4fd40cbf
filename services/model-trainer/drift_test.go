package modeltrainer

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"

	"github.com/tocsin-io/tocsin/pkg/kafka/kafkatest"
	"github.com/tocsin-io/tocsin/pkg/modelfile"
	"github.com/tocsin-io/tocsin/pkg/topic"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
)

// A model that is trained keeps how its rows were spread; what stream-processors count into that is judged, the feature that has moved is named, and a restart changes nothing.
func TestDrift(t *testing.T) {
	k := kafkatest.Start(t, 2)
	dir := t.TempDir()
	r := rand.New(rand.NewPCG(1, 2))
	var csv strings.Builder
	csv.WriteString("pressure,temperature\n")
	for range 2000 {
		fmt.Fprintf(&csv, "%v,%v\n", 5+r.NormFloat64(), 40+2*r.NormFloat64())
	}
	if err := os.MkdirAll(filepath.Join(dir, "data"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "data", "press.csv"), []byte(csv.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	f := startOn(t, dir, k, nil)
	train := func(seed int) string {
		t.Helper()
		status, answer := f.do("POST", "/v1/models", fmt.Sprintf(`{"name":"press","algorithm":"isolation_forest","file":"press.csv","parameters":{"trees":20,"subsample":64,"seed":%d}}`, seed))
		model, _ := answer["model"].(string)
		if status != http.StatusCreated || model == "" {
			t.Fatal(status, answer)
		}
		return model
	}
	champion, shadow := train(1), train(2)
	reference := func(model string) *modelfile.Reference {
		t.Helper()
		_, answer := f.do("GET", "/v1/models/"+model, "")
		var h struct{ Reference *modelfile.Reference }
		b, err := json.Marshal(answer)
		if err != nil || json.Unmarshal(b, &h) != nil || h.Reference == nil || h.Reference.Validate(2) != nil {
			t.Fatalf("no reference: %v %v", err, answer)
		}
		return h.Reference
	}
	cl := kafkatest.Client(t, k, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	now := time.Now()
	ref := reference(champion)
	for i := range 23 * 6 {
		tally := ref.NewTally()
		for range 30 {
			ref.Counter().Count(&tally, float32(0.4+0.05*r.NormFloat64()), []float32{float32(5 + r.NormFloat64()), float32(40 + 2*(1.3+r.NormFloat64()))})
		}
		b, err := proto.Marshal(&eventv1.ModelInputs{Model: champion, Partition: int32(i % 2), UntilMs: now.Add(time.Duration(i-23*6) * 10 * time.Minute).UnixMilli(), Windows: 30, Format: 1, Bins: tally.Bins, Moved: tally.Moved, Squares: tally.Squares})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		err = cl.ProduceSync(ctx, &kgo.Record{Topic: topic.Comparisons, Partition: int32(i % 2), Value: b, Headers: []kgo.RecordHeader{{Key: topic.HeaderType, Value: []byte(topic.TypeInputs)}}}).FirstErr()
		cancel()
		if err != nil {
			t.Fatal(err)
		}
	}
	drifted := func() []any {
		t.Helper()
		for deadline := time.Now().Add(2 * time.Minute); ; {
			status, answer := f.do("GET", "/v1/drift?model=press", "")
			if models, _ := answer["models"].([]any); status == http.StatusOK && len(models) == 2 {
				if m, _ := models[0].(map[string]any); m["windows"] == 23*6*30.0 {
					return models
				}
			}
			if time.Now().After(deadline) {
				t.Fatal(status, answer)
			}
			<-time.After(10 * time.Millisecond)
		}
	}
	for range 2 {
		models := drifted()
		first, second := models[0].(map[string]any), models[1].(map[string]any)
		says, _ := first["says"].(string)
		retrain, _ := first["retrain"].(string)
		if first["model"] != champion || first["state"] != "drifted" || !strings.HasPrefix(says, "temperature has moved up by 1.") || !strings.Contains(says, "4,140 windows") || !strings.Contains(retrain, "tocsin models train press") || !strings.Contains(retrain, "--sensors pressure,temperature") {
			t.Fatal(first)
		}
		if second["model"] != shadow || second["state"] != "no_windows" || second["windows"] != 0.0 || second["score"] != nil {
			t.Fatal(second)
		}
		f.stop()
		f = startOn(t, dir, k, nil)
	}
	drifted()
	want := `tocsin_model_drifted{model="press",version="` + strings.TrimPrefix(champion, "press@") + `"} 1`
	for deadline := time.Now().Add(2 * time.Minute); !strings.Contains(f.metrics(), want); {
		if time.Now().After(deadline) {
			t.Fatal(f.metrics())
		}
		<-time.After(50 * time.Millisecond)
	}
	if m := f.metrics(); !strings.Contains(m, "tocsin_model_drift_psi{") || !strings.Contains(m, "tocsin_model_drift_features{") || !strings.Contains(m, "tocsin_model_drift_windows{") {
		t.Error(m)
	}
	for query, field := range map[string]string{"model=../x": "model", "model=press@x": "model", "from=yesterday": "from", "from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z": "from"} {
		if status, answer := f.do("GET", "/v1/drift?"+query, ""); status != http.StatusBadRequest || answer["field"] != field {
			t.Error(query, status, answer)
		}
	}
}

func TestDriftWithoutKafka(t *testing.T) {
	f := start(t, t.TempDir(), nil)
	if status, answer := f.do("GET", "/v1/drift", ""); status != http.StatusServiceUnavailable || !strings.Contains(answer["detail"].(string), "Kafka") {
		t.Error(status, answer)
	}
}

// metrics is what a scrape finds.
func (f *fixture) metrics() string {
	f.t.Helper()
	answer, err := f.http.Get(f.base + "/metrics")
	if err != nil {
		f.t.Fatal(err)
	}
	defer answer.Body.Close()
	b, err := io.ReadAll(answer.Body)
	if err != nil {
		f.t.Fatal(err)
	}
	return string(b)
}
