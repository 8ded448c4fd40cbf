package cli_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"

	"github.com/tocsin-io/tocsin/pkg/frame"
	"github.com/tocsin-io/tocsin/pkg/kafka/kafkatest"
	"github.com/tocsin-io/tocsin/pkg/launch"
	"github.com/tocsin-io/tocsin/pkg/topic"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	"github.com/tocsin-io/tocsin/services/all-in-one/internal/fleet/fleettest"
	streamprocessor "github.com/tocsin-io/tocsin/services/stream-processor"
)

// From a file of rows to what is said: a model is trained, a day of three machines is judged by it, with one partition and with two, and its drift is asked for. Machines as in training: nothing has moved. The same machines with
// one sensor moved: that sensor is named, by how much, and no other.
func TestDriftedSensorsAreNamed(t *testing.T) {
	dir := t.TempDir()
	cfg := fleettest.Config(dir)
	f := fleettest.Start(t, cfg, dir, "model-trainer")
	wave := rand.New(rand.NewPCG(1, 2))
	var b strings.Builder
	b.WriteString("force,stroke\n")
	for range 2000 {
		fmt.Fprintf(&b, "%.3f,%.3f\n", 50+wave.NormFloat64(), 20+2*wave.NormFloat64())
	}
	if err := os.WriteFile(filepath.Join(cfg.Trainer.DataDir, "rows.csv"), []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	models := func(args ...string) (string, bool) {
		t.Helper()
		code, out, stderr := tocsin(append([]string{"models", "--trainer", "http://" + f.Addrs["model-trainer"]}, args...)...)
		return out + stderr, code == launch.ExitOK
	}
	cl := kafkatest.Client(t, f.Kafka)
	type trial struct {
		name       string
		moved      float64 // standard deviations of stroke
		partitions int32
		want       []string
		not        string
	}
	trials := []trial{
		{"steady", 0, 1, []string{": stable\n  as in training; "}, "has moved"},
		{"alone", 1.3, 1, []string{": drifted\n  stroke has moved up by 1.", "tocsin models train alone --algorithm isolation_forest", "force   stable"}, "force has moved"},
		{"shared", 1.3, 2, []string{": drifted\n  stroke has moved up by 1."}, "force has moved"},
	}
	outs := map[string]string{}
	start := time.Now().Truncate(time.Hour).Add(-24 * time.Hour)
	for _, c := range trials {
		out, ok := models("train", c.name, "--file", "rows.csv", "--parameters", `{"trees":20,"subsample":64}`)
		ref, _, _ := strings.Cut(out, ":")
		name, version, _ := strings.Cut(ref, "@")
		if !ok || name != c.name {
			t.Fatal(out)
		}
		judge := streamprocessor.DefaultConfig()
		judge.Models, judge.Revision = cfg.Trainer.Models, 1
		judge.Detection.Detect.Detectors = []string{"ewma", "champion"}
		judge.Detection.Detect.Models.Champions = []streamprocessor.Model{{Name: name, Version: version}}
		judge, err := streamprocessor.WithModels(t.Context(), judge)
		if err != nil {
			t.Fatal(err)
		}
		given := day(t, judge, start, c.partitions, c.moved)
		if err := cl.ProduceSync(t.Context(), given...).FirstErr(); err != nil {
			t.Fatal(err)
		}
		// All of them: what is said of a part is another text.
		counted := thousands(t, given) + " windows in "
		for deadline := time.Now().Add(2 * fleettest.Patience); ; {
			out, ok = models("drift", ref, "--from", start.UTC().Format(time.RFC3339))
			done := ok && !strings.Contains(out, c.not) && strings.Contains(out, counted)
			for _, want := range c.want {
				done = done && strings.Contains(out, want)
			}
			if done {
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: %s", c.name, out)
			}
			<-time.After(20 * time.Millisecond)
		}
		outs[c.name] = strings.ReplaceAll(out, c.name, "press")
	}
	if outs["alone"] != outs["shared"] {
		t.Errorf("one partition:\n%s\ntwo:\n%s", outs["alone"], outs["shared"])
	}
	if out, ok := models("drift", "steady", "--json"); !ok || !strings.Contains(out, `"says": "as in training`) {
		t.Error(out)
	}
	if out, ok := models("drift", "--from", "2020-01-01T00:00:00Z", "--to", "2020-01-02T00:00:00Z"); !ok || !strings.Contains(out, "no stream-processor asked a model") {
		t.Error(out)
	}
	if out, ok := models("drift", "no such thing"); ok || !strings.Contains(out, "does not match") {
		t.Error(out)
	}
}

// thousands is how many windows the records count, as people write it.
func thousands(t *testing.T, records []*kgo.Record) string {
	t.Helper()
	var n uint64
	for _, r := range records {
		var m eventv1.ModelInputs
		if err := proto.Unmarshal(r.Value, &m); err != nil {
			t.Fatal(err)
		}
		n += m.GetWindows()
	}
	return fmt.Sprintf("%d,%03d", n/1000, n%1000)
}

// day has 24 hours of three machines judged, a frame a minute each, and returns what stream-processors write of their models.
func day(t *testing.T, judge streamprocessor.Config, start time.Time, partitions int32, moved float64) (out []*kgo.Record) {
	t.Helper()
	for p := range partitions {
		replay, offset := streamprocessor.NewReplayer(judge, p, nil), int64(0)
		apply := func(r *kgo.Record, at time.Time) {
			r.Topic, r.Partition, r.Offset, r.Timestamp = topic.Frames, p, offset, at
			offset++
			rs, err := replay.Apply(t.Context(), r)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range rs {
				if topic.Is(r, topic.TypeInputs) {
					out = append(out, &kgo.Record{Topic: r.Topic, Value: append([]byte(nil), r.Value...), Headers: r.Headers})
				}
			}
		}
		var machines [3]*rand.Rand
		for m := range machines {
			machines[m] = rand.New(rand.NewPCG(7, uint64(m)))
		}
		for minute := range 24 * 60 {
			at := start.Add(time.Duration(minute) * time.Minute)
			apply(&kgo.Record{Headers: []kgo.RecordHeader{{Key: topic.HeaderType, Value: []byte(topic.TypeTick)}}}, at.Add(30*time.Second))
			for m, r := range machines {
				force, stroke := 50+r.NormFloat64(), 20+2*(moved+r.NormFloat64())
				if int32(m)%partitions != p {
					continue
				}
				id := fmt.Sprintf("press-%d", m)
				fr := frame.New(id, "gw", uint64(minute+1), at.Add(40*time.Second), []string{"force", "stroke"}, []float32{float32(force), float32(stroke)})
				apply(&kgo.Record{Key: []byte(id), Value: fr.AppendTo(nil), Headers: []kgo.RecordHeader{
					{Key: topic.HeaderType, Value: []byte(topic.TypeFrame)}, {Key: topic.HeaderID, Value: fr.AppendID(nil)},
				}}, at.Add(40*time.Second))
			}
		}
	}
	return out
}
