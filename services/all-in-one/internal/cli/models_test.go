package cli_test

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
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

// The commands against a real model-trainer: train twice, list, score, change roles.
func TestModels(t *testing.T) {
	dir := t.TempDir()
	cfg := fleettest.Config(dir)
	f := fleettest.Start(t, cfg, dir, "model-trainer")
	var b strings.Builder
	b.WriteString("a,b\n")
	for i := range 300 {
		fmt.Fprintf(&b, "%d,%d\n", i%17, i%13)
	}
	if err := os.WriteFile(filepath.Join(cfg.Trainer.DataDir, "rows.csv"), []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	models := func(want string, args ...string) string {
		t.Helper()
		code, out, stderr := tocsin(append([]string{"models", "--trainer", "http://" + f.Addrs["model-trainer"]}, args...)...)
		if code != launch.ExitOK || !strings.Contains(out, want) {
			t.Fatalf("%q: exit %d\n%s%s", args, code, out, stderr)
		}
		return out
	}
	version := func(trained string) string {
		v, _, _ := strings.Cut(strings.TrimPrefix(trained, "grid@"), ":")
		return v
	}
	first := version(models("rows; it is the champion", "train", "grid", "--file", "rows.csv"))
	second := version(models("rows; it is the shadow", "train", "grid", "--file", "rows.csv", "--algorithm", "lof", "--parameters", `{"neighbours":5}`))
	models("grid  "+first+"  "+second, "list")
	models(second+"  shadow", "show", "grid")
	models(`"algorithm": "lof"`, "show", "grid@"+second)
	models(`"agreement"`, "score", "grid", "--row", "[3,4]")
	models("champion "+second+", shadow "+first, "promote", "grid@"+second)
	models("no stream-processor answers", "promote", "grid", second, "--processor", "http://127.0.0.1:1")
	models("shadow none", "shadow", "grid", "none")
	for deadline := time.Now().Add(2 * fleettest.Patience); ; { // the log is read first
		if code, _, _ := tocsin("models", "compare", "--trainer", "http://"+f.Addrs["model-trainer"]); code == launch.ExitOK || time.Now().After(deadline) {
			break
		}
	}
	models("no shadow judged", "compare", "grid")
	models(`"pairs": []`, "compare", "--json")

	for want, args := range map[string][]string{
		`"nowhere.csv" is not in the data folder`: {"train", "x", "--file", "nowhere.csv"},
		"from: both from and to are needed":       {"train", "x", "--from", "2026-01-01T00:00:00Z", "--to", "2026-01-01T00:00:00Z", "--sensors", "a"},
		"no such model":                           {"show", "nobody"},
		"is the champion":                         {"shadow", "grid", second},
		"want NAME@VERSION":                       {"promote", "grid"},
		"no time of RFC 3339":                     {"compare", "--from", "yesterday"},
		"give --row":                              {"score", "grid"},
	} {
		code, _, stderr := tocsin(append([]string{"models", "--trainer", "http://" + f.Addrs["model-trainer"]}, args...)...)
		if code == launch.ExitOK || !strings.Contains(stderr, want) {
			t.Errorf("%q: exit %d, %s", args, code, stderr)
		}
	}
	if code, _, stderr := tocsin("models", "list", "--trainer", "http://127.0.0.1:1"); code == launch.ExitOK || !strings.Contains(stderr, "--trainer") {
		t.Error(code, stderr)
	}
}

// From a file of rows to what the stream says: a model that is trained is promoted, the running stream-processor judges by it, and the evidence of an anomaly names it.
func TestAPromotedModelJudgesTheStream(t *testing.T) {
	dir := t.TempDir()
	cfg := fleettest.Config(dir)
	cfg.Process.Kafka.Partitions = 1
	cfg.Processor.ModelsEvery, cfg.Processor.Revision = 50*time.Millisecond, 1
	d := &cfg.Processor.Detection.Detect
	d.Detectors = []string{"champion", "shadow"}
	d.Models.Champions, d.Models.Shadows = []streamprocessor.Model{{Name: "press"}}, []streamprocessor.Model{{Name: "press"}}
	cfg.Processor.Detection.Calibrate.Budget = 100_000 // one detector alone seldom pages
	f := fleettest.Start(t, cfg, dir, "model-trainer", "stream-processor")
	wave := rand.New(rand.NewPCG(1, 2))
	var b strings.Builder
	b.WriteString("force,stroke\n")
	for range 500 {
		fmt.Fprintf(&b, "%.3f,%.3f\n", 50+wave.NormFloat64(), 20+wave.NormFloat64())
	}
	if err := os.WriteFile(filepath.Join(cfg.Trainer.DataDir, "rows.csv"), []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	models := func(args ...string) string {
		t.Helper()
		code, out, stderr := tocsin(append([]string{"models", "--trainer", "http://" + f.Addrs["model-trainer"]}, args...)...)
		if code != launch.ExitOK {
			t.Fatalf("%q: exit %d\n%s%s", args, code, out, stderr)
		}
		return out
	}
	train := func(seed string) string {
		out := models("train", "press", "--file", "rows.csv", "--parameters", `{"trees":30,"subsample":64,"seed":`+seed+`}`)
		ref, _, _ := strings.Cut(out, ":")
		return ref
	}
	train("1")
	second := train("2")
	wait := []string{"--processor", "http://" + f.Addrs["stream-processor"], "--wait", (2 * fleettest.Patience).String()}
	if out := models(append([]string{"promote", second}, wait...)...); !strings.Contains(out, "judges 1 partitions by it") {
		t.Fatal(out)
	}
	cl := kafkatest.Client(t, f.Kafka)
	var rs []*kgo.Record
	for i := range 1500 {
		stroke := 20 + wave.NormFloat64()
		if i >= 1400 {
			stroke += 60
		}
		fr := frame.New("press-1", "gw", uint64(i+1), time.Date(2026, 3, 1, 6, 0, i, 0, time.UTC), []string{"force", "stroke"}, []float32{float32(50 + wave.NormFloat64()), float32(stroke)})
		rs = append(rs, &kgo.Record{Topic: topic.Frames, Key: []byte("press-1"), Value: fr.AppendTo(nil), Headers: []kgo.RecordHeader{
			{Key: topic.HeaderType, Value: []byte(topic.TypeFrame)}, {Key: topic.HeaderID, Value: fr.AppendID(nil)},
		}})
	}
	if err := cl.ProduceSync(t.Context(), rs...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	kafkatest.ConsumeUntil(t, f.Kafka, topic.Anomalies, 2*fleettest.Patience, func(rs []*kgo.Record) bool {
		return slices.ContainsFunc(rs, func(r *kgo.Record) bool {
			var a eventv1.Anomaly
			return topic.Is(r, topic.TypeAnomaly) && proto.Unmarshal(r.Value, &a) == nil && len(a.Contributions) > 0 && a.Contributions[0].Detector == "champion "+second && a.Contributions[0].Sensor == "stroke"
		})
	})
}
