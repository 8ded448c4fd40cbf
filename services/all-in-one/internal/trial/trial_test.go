package trial_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"github.com/tocsin-io/tocsin/pkg/frame"
	"github.com/tocsin-io/tocsin/pkg/kafka/kafkatest"
	"github.com/tocsin-io/tocsin/pkg/topic"
	"github.com/tocsin-io/tocsin/services/all-in-one/internal/csvfile"
	"github.com/tocsin-io/tocsin/services/all-in-one/internal/trial"
	streamprocessor "github.com/tocsin-io/tocsin/services/stream-processor"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var base = time.Date(2026, 3, 1, 6, 0, 0, 0, time.UTC)

const (
	rows  = 1500
	fault = 900 // to fault+60 heat is off by a lot
	small = 1200
)

// measured is what machine m measures in row i: two faults, one of them small.
func measured(m, i int, r *rand.Rand) (flow, heat float64, label string) {
	flow, heat, label = 20+r.NormFloat64(), 60+r.NormFloat64(), "0"
	switch {
	case i >= fault && i < fault+60:
		return flow, heat + 30, "overheating"
	case i >= small && i < small+60 && m == 0:
		return flow, heat + 1.5, "drift"
	}
	return flow, heat, label
}

// plant is a file of two machines, row by row in turn.
func plant(t *testing.T) string {
	t.Helper()
	r := rand.New(rand.NewPCG(3, 1))
	var b strings.Builder
	b.WriteString("time,asset,flow,heat,label\n")
	for i := range rows {
		for m := range 2 {
			flow, heat, label := measured(m, i, r)
			fmt.Fprintf(&b, "%s,pump-%d,%.4f,%.4f,%s\n", base.Add(time.Duration(i)*time.Second).Format(time.RFC3339), m, flow, heat, label)
		}
	}
	return write(t, "plant.csv", b.String())
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// configs are the shipped one and one that hears nothing but fixed limits, of which there are none.
func configs() []trial.Config {
	deaf := streamprocessor.DefaultDetection()
	deaf.Detect.Detectors = []string{"limits"}
	deaf.Episodes.ClearWindows = 9
	return []trial.Config{{Name: "current", Detection: streamprocessor.DefaultDetection()}, {Name: "proposed", Detection: deaf}}
}

func run(t *testing.T, opt trial.Options) *trial.Result {
	t.Helper()
	if opt.Configs == nil {
		opt.Configs = configs()
	}
	res, err := trial.Run(t.Context(), opt)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func TestAChangeIsPriced(t *testing.T) {
	opt := trial.Options{Inputs: []string{plant(t)}, CSV: csvfile.Options{EquipmentColumn: "asset", LabelColumn: "label"}, Grace: time.Minute}
	var told [2]int64
	opt.Progress = func(_ string, done, total int64) { told = [2]int64{done, total} }
	res := run(t, opt)
	if res.Rows != 2*rows || len(res.Machines) != 2 || res.Observed != 2*(rows-1)*time.Second || !res.From.Equal(base) || told[1] == 0 {
		t.Errorf("%d rows, %d machines, %s observed from %s, progress %v", res.Rows, len(res.Machines), res.Observed, res.From, told)
	}
	if len(res.Faults) != 3 || res.Faults[0].Kind != "overheating" || !res.Faults[0].Start.Equal(base.Add(fault*time.Second)) || !res.Faults[0].End.Equal(base.Add((fault+60)*time.Second)) {
		t.Fatalf("faults %+v", res.Faults)
	}
	a, b := res.Trials[0], res.Trials[1]
	for _, f := range res.Faults[:2] {
		if d, ok := f.Delay(0); !ok || d < 0 || d > 20*time.Second {
			t.Errorf("%s on %s: found %v after %s", f.Kind, f.Machine, ok, d)
		}
		if _, ok := f.Delay(1); ok {
			t.Error("who hears nothing finds a fault")
		}
	}
	if len(a.Pages) < 2 || len(b.Pages) != 0 || a.Found < 2 || b.Found != 0 || a.False == nil || a.False.N > 1 {
		t.Errorf("%d and %d pages, %d and %d found", len(a.Pages), len(b.Pages), a.Found, b.Found)
	}
	for _, p := range a.Pages {
		if p.Same != nil {
			t.Error("a page is the same as none")
		}
		if p.Fault != nil && p.Fault.Kind == "overheating" && (len(p.Contributions) == 0 || p.Contributions[0].Sensor != "heat") {
			t.Errorf("it is about %+v", p.Contributions)
		}
	}
	var keys []string
	for _, c := range res.Changes {
		keys = append(keys, c.Key)
	}
	if got := strings.Join(keys, " "); got != "detect.detectors episodes.clear_windows" {
		t.Errorf("changes: %s", got)
	}
	months := res.Observed.Hours() / 24 / 30
	if want := float64(len(a.Pages)) / months; a.PerMonth.Rate < want*0.999 || a.PerMonth.Rate > want*1.001 || a.PerMonth.Low >= a.PerMonth.Rate || a.PerMonth.High <= a.PerMonth.Rate {
		t.Errorf("%+v, want %g", a.PerMonth, want)
	}
	// The same again is the same.
	if again := run(t, opt); !reflect.DeepEqual(again.Summary(), res.Summary()) {
		t.Error("the same history and configurations give another result")
	}
}

// A configuration compared with itself changes nothing, whatever it is.
func TestNoChangeChangesNothing(t *testing.T) {
	same := configs()[0]
	res := run(t, trial.Options{Inputs: []string{plant(t)}, CSV: csvfile.Options{EquipmentColumn: "asset", Ignore: []string{"label"}}, Configs: []trial.Config{same, same}})
	if len(res.Trials[0].Pages) == 0 || len(res.Changes) > 0 || res.Labelled {
		t.Errorf("%d pages, changes %v", len(res.Trials[0].Pages), res.Changes)
	}
	for _, tr := range res.Trials {
		for _, p := range tr.Pages {
			if p.Same == nil || !p.Same.Said.Equal(p.Said) {
				t.Errorf("%s has no like", p.Episode)
			}
		}
	}
	for _, m := range res.Machines {
		if !reflect.DeepEqual(m.Scores[0].Points, m.Scores[1].Points) || len(m.Scores[0].Points) > 720 {
			t.Error("scores differ")
		}
	}
}

// What is only learned from pages nobody, and its faults do not count.
func TestTrainingDoesNotCount(t *testing.T) {
	res := run(t, trial.Options{Inputs: []string{plant(t)}, CSV: csvfile.Options{EquipmentColumn: "asset", LabelColumn: "label"}, TrainRows: 1100})
	if res.Rows != 2*(rows-1100) || len(res.Faults) != 1 || res.Faults[0].Kind != "drift" {
		t.Errorf("%d rows, faults %+v", res.Rows, res.Faults)
	}
	for _, p := range res.Trials[0].Pages {
		if p.Said.Before(base.Add(1100 * time.Second)) {
			t.Errorf("page at %s", p.Said)
		}
	}
}

// Frames in Kafka, in broker time, with the faults of a simulation.
func TestKafkaHistory(t *testing.T) {
	k := kafkatest.Start(t, 2)
	r := rand.New(rand.NewPCG(5, 1))
	var rs []*kgo.Record
	for i := range rows {
		at := base.Add(time.Duration(i) * time.Second)
		for m := range 2 {
			id := fmt.Sprintf("pump-%d", m)
			flow, heat, _ := measured(m, i, r)
			f := frame.New(id, "gw", uint64(i+1), at, []string{"flow", "heat"}, []float32{float32(flow), float32(heat)})
			rs = append(rs, &kgo.Record{Topic: topic.Frames, Key: []byte(id), Value: f.AppendTo(nil), Timestamp: at, Headers: []kgo.RecordHeader{{Key: topic.HeaderType, Value: []byte(topic.TypeFrame)}}})
		}
		rs = append(rs, &kgo.Record{Topic: topic.Frames, Value: []byte{8, 1}, Timestamp: at, Headers: []kgo.RecordHeader{{Key: topic.HeaderType, Value: []byte(topic.TypeTick)}}})
	}
	rs = append(rs, &kgo.Record{Topic: topic.Frames, Key: []byte("pump-0"), Value: []byte("no frame"), Timestamp: base.Add(rows * time.Second)})
	if err := kafkatest.Client(t, k).ProduceSync(t.Context(), rs...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	// Both machines fall silent while time goes on; of one it is known to be a fault.
	rs = rs[:0]
	for i := range 120 {
		for p := range int32(2) {
			rs = append(rs, &kgo.Record{Topic: topic.Frames, Partition: p, Value: []byte{8, 1}, Timestamp: base.Add(time.Duration(rows+i) * time.Second), Headers: []kgo.RecordHeader{{Key: topic.HeaderType, Value: []byte(topic.TypeTick)}}})
		}
	}
	if err := kafkatest.Client(t, k, kgo.RecordPartitioner(kgo.ManualPartitioner())).ProduceSync(t.Context(), rs...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	us := func(row int) int64 { return base.Add(time.Duration(row) * time.Second).UnixMicro() }
	truth := write(t, "truth.jsonl", fmt.Sprintf(`{"event":"start","fault_id":"f1","kind":"overheating","equipment_id":"pump-1","event_time_us":%d}
{"event":"end","fault_id":"f1","kind":"overheating","equipment_id":"pump-1","event_time_us":%d}

{"event":"start","fault_id":"f2","kind":"spike","equipment_id":"elsewhere","event_time_us":%d}
{"event":"start","fault_id":"f3","kind":"silent","equipment_id":"pump-0","event_time_us":%d}
`, us(fault), us(fault+60), us(3), us(rows)))
	res := run(t, trial.Options{Inputs: []string{"kafka://" + strings.Join(k.Brokers, ",") + "/" + topic.Frames}, Kafka: k, Faults: truth, Configs: configs()[:1], Grace: time.Minute})
	if res.Rows != 2*rows || len(res.Faults) != 2 || res.Outside != 1 || res.Trials[0].Found != 2 {
		t.Errorf("%d rows, %d faults, %d outside, %d found", res.Rows, len(res.Faults), res.Outside, res.Trials[0].Found)
	}
	if d, _ := res.Faults[0].Delay(0); d < 0 || d > 20*time.Second {
		t.Errorf("found after %s", d)
	}
	if len(res.Machines[0].Sensors) != 2 || len(res.Machines[0].Scores[0].Points) == 0 {
		t.Error("nothing to draw")
	}
}

// Files of one name in two folders are two machines.
func TestFilesOfOneName(t *testing.T) {
	dir := t.TempDir()
	var inputs []string
	for i, hall := range []string{"north", "south"} {
		path := filepath.Join(dir, hall, "press.csv")
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, fmt.Appendf(nil, "time,v\n2026-01-01 00:00:0%d,1\n2026-01-01 00:00:09,2\n", i), 0o600); err != nil {
			t.Fatal(err)
		}
		inputs = append(inputs, path)
	}
	res := run(t, trial.Options{Inputs: inputs})
	if len(res.Machines) != 2 || res.Machines[0].ID != "north:press" || res.Machines[1].ID != "south:press" || res.Rows != 4 {
		t.Errorf("%d machines, %d rows", len(res.Machines), res.Rows)
	}
	if res := run(t, trial.Options{Inputs: inputs[:1]}); res.Machines[0].ID != "press" {
		t.Error(res.Machines[0].ID)
	}
}

func TestWhatCannotBeTried(t *testing.T) {
	good := plant(t)
	for _, c := range []struct {
		opt  trial.Options
		says string
	}{
		{trial.Options{Inputs: []string{good}, Configs: []trial.Config{}}, "0 configurations"},
		{trial.Options{Inputs: []string{filepath.Join(t.TempDir(), "none.csv")}}, "none.csv"},
		{trial.Options{Inputs: []string{good}, CSV: csvfile.Options{LabelColumn: "labels"}}, `label column "labels"`},
		{trial.Options{Inputs: []string{good}, CSV: csvfile.Options{LabelColumn: "label", EquipmentColumn: "asset"}, Faults: write(t, "f", "{}\n")}, "neither start nor end"},
		{trial.Options{Inputs: []string{good}, CSV: csvfile.Options{LabelColumn: "label", EquipmentColumn: "asset"}, Faults: write(t, "f", "start\n")}, "line 1"},
		{trial.Options{Inputs: []string{good}, Faults: write(t, "f", "")}, "no faults"},
		{trial.Options{Inputs: []string{"kafka://"}}, "want kafka://HOST:PORT/TOPIC"},
		{trial.Options{Inputs: []string{"kafka://127.0.0.1:1/x", good}}, "stands alone"},
	} {
		if c.opt.Configs == nil {
			c.opt.Configs = configs()
		}
		if _, err := trial.Run(t.Context(), c.opt); err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%v does not say %q", err, c.says)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := trial.Run(ctx, trial.Options{Inputs: []string{good}, Configs: configs()}); err == nil {
		t.Error("a cancelled trial ends well")
	}
}
