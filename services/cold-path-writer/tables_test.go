package coldpathwriter

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"github.com/tocsin-io/tocsin/pkg/dlq"
	"github.com/tocsin-io/tocsin/pkg/kafka/kafkatest"
	"github.com/tocsin-io/tocsin/pkg/schema"
	"github.com/tocsin-io/tocsin/pkg/topic"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	"github.com/tocsin-io/tocsin/services/cold-path-writer/internal/table"
)

func readTable[T any](t testing.TB, dir, name string) []T {
	t.Helper()
	var all []T
	for _, f := range files(t, dir, name) {
		rows, err := parquet.ReadFile[T](f)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, rows...)
	}
	return all
}

// Every kind of bad record goes to the dead letters with its reason; the good ones beside it arrive.
func TestPoisonPills(t *testing.T) {
	k := kafkatest.Start(t, 1)
	src, dir := newSource(t, k), t.TempDir()
	frame := func(change func(*eventv1.SensorFrame)) []byte {
		f := &eventv1.SensorFrame{EquipmentId: "m", GatewayId: "g", Sequence: 1, Sensors: []string{"a", "b"}, Values: []float32{1, 2}}
		change(f)
		b, err := proto.Marshal(f)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	bad := func(r *eventv1.Reading) *kgo.Record {
		return record(t, topic.Readings, 0, topic.TypeReading, "m", r)
	}
	garbage := src.ghost(0)
	garbage.Value = []byte("\xff\xff\xff not protobuf")
	truncated := src.ghost(0)
	truncated.Value = truncated.Value[:len(truncated.Value)/2]
	wrongType := src.ghost(0)
	wrongType.Headers[0].Value = []byte(topic.TypeWindow)
	pills := []*kgo.Record{
		garbage, truncated, wrongType,
		{Topic: topic.Readings, Key: []byte("m")}, // empty
		bad(&eventv1.Reading{Frame: []byte("garbage")}),
		bad(&eventv1.Reading{Frame: frame(func(f *eventv1.SensorFrame) { f.Values = f.Values[:1] })}),
		bad(&eventv1.Reading{Frame: frame(func(f *eventv1.SensorFrame) { f.Qualities = []eventv1.Quality{1} })}),
		bad(&eventv1.Reading{Frame: frame(func(f *eventv1.SensorFrame) { f.EquipmentId = "" })}),
		bad(&eventv1.Reading{Frame: frame(func(f *eventv1.SensorFrame) { f.Sensors, f.SchemaId = nil, "sha256-00112233445566778899aabbccddeeff" })}),
		bad(&eventv1.Reading{Frame: frame(func(*eventv1.SensorFrame) {}), Validities: []eventv1.Validity{1}}),
		bad(&eventv1.Reading{Frame: frame(func(*eventv1.SensorFrame) {}), Dispositions: []eventv1.Disposition{1, 1, 1}}),
	}
	for _, p := range pills {
		src.transaction(kgo.TryCommit, src.reading(0), p)
	}
	src.readings(0, 1) // 12 readings: 3 files
	w := start(t, testConfig(dir), k, nil)
	awaitExact(t, dir, 12)
	letters := kafkatest.Consume(t, k, topic.DLQ(topic.Readings), len(pills), patience)
	for i, l := range letters {
		if string(l.Value) != string(pills[i].Value) || topic.Header(l, dlq.HeaderReason) == "" || topic.Header(l, dlq.HeaderTopic) != topic.Readings || topic.Header(l, dlq.HeaderConsumer) != dlq.Writer {
			t.Errorf("letter %d: %+v", i, l)
		}
		t.Log(topic.Header(l, dlq.HeaderOffset), topic.Header(l, dlq.HeaderReason))
	}
	if n := counter(w, `tocsin_lake_dead_letters_total{table="readings"}`); n != len(pills) {
		t.Errorf("%d dead letters counted, want %d", n, len(pills))
	}
	clean(t, dir)
}

// Only poison: no file, but the position moves on, and what follows is one whole.
func TestChunkOfPoisonOnly(t *testing.T) {
	k := kafkatest.Start(t, 1)
	src, dir := newSource(t, k), t.TempDir()
	cfg := testConfig(dir)
	cfg.Chunk.MaxBytes = 1000
	for range 10 {
		g := src.ghost(0)
		g.Value = []byte(strings.Repeat("x", 400))
		src.transaction(kgo.TryCommit, g)
	}
	w := start(t, cfg, k, nil)
	kafkatest.Consume(t, k, topic.DLQ(topic.Readings), 9, patience)
	w.stop(t)
	src.readings(0, 8)
	start(t, cfg, k, nil)
	eventually(t, "rows", func() bool { return len(sequences(t, dir)) >= 4 })
	clean(t, dir)
}

// A partition whose machines are silent is flushed when ticks move its time; ticks alone make no files.
func TestTicksFlushIdlePartitions(t *testing.T) {
	k := kafkatest.Start(t, 2)
	src, dir := newSource(t, k), t.TempDir()
	cfg := testConfig(dir)
	cfg.Chunk.Interval = time.Second
	w := start(t, cfg, k, nil)
	src.transaction(kgo.TryCommit, src.reading(0))
	eventually(t, "the reading's file", func() bool {
		src.transaction(kgo.TryCommit, tick(t, topic.Readings, 0), tick(t, topic.Readings, 1))
		return exact(sequences(t, dir), 1) == nil
	})
	// Ticks alone are committed now and then, without a file; the next file goes on where the last one ends.
	adm := kadm.NewClient(kafkatest.Client(t, k))
	committed := func() int64 {
		offsets, err := adm.FetchOffsetsForTopics(t.Context(), cfg.Group, topic.Readings)
		if err != nil {
			t.Fatal(err)
		}
		o, _ := offsets.Lookup(topic.Readings, 0)
		return o.At
	}
	eventually(t, "the file's commit", func() bool { return committed() > 0 })
	end := committed()
	eventually(t, "an idle commit", func() bool {
		src.transaction(kgo.TryCommit, tick(t, topic.Readings, 0), tick(t, topic.Readings, 1))
		return committed() > end
	})
	w.stop(t)
	w = start(t, cfg, k, nil)
	src.transaction(kgo.TryCommit, src.reading(0))
	eventually(t, "the second file", func() bool {
		src.transaction(kgo.TryCommit, tick(t, topic.Readings, 0), tick(t, topic.Readings, 1))
		return exact(sequences(t, dir), 2) == nil
	})
	w.stop(t)
	if n := len(files(t, dir, "readings")); n != 2 {
		t.Errorf("%d files, want 2", n)
	}
	clean(t, dir)
}

// Ticks say that it is time to commit while a row waits for its file to fill: the offsets stay in front of it.
func TestTicksCommitNothingPastOpenRows(t *testing.T) {
	k := kafkatest.Start(t, 1)
	src, dir := newSource(t, k), t.TempDir()
	cfg := testConfig(dir) // files end with the hour
	w := start(t, cfg, k, nil)
	at := func(r *kgo.Record, d time.Duration) *kgo.Record {
		r.Timestamp = time.Date(2026, 3, 1, 6, 0, 0, 0, time.UTC).Add(d)
		return r
	}
	src.transaction(kgo.TryCommit, at(tick(t, topic.Readings, 0), -time.Minute)) // from here on it is an hour
	row := at(src.reading(0), time.Minute)
	src.transaction(kgo.TryCommit, row)
	src.transaction(kgo.TryCommit, at(tick(t, topic.Readings, 0), 59*time.Minute+30*time.Second))
	eventually(t, "the last tick", func() bool { return w.group.Lag("readings") > 58*time.Minute })
	w.stop(t)
	offsets, err := kadm.NewClient(kafkatest.Client(t, k)).FetchOffsetsForTopics(t.Context(), cfg.Group, topic.Readings)
	if err != nil {
		t.Fatal(err)
	}
	if o, ok := offsets.Lookup(topic.Readings, 0); ok && o.At > row.Offset {
		t.Errorf("committed %d while the row at %d is in no file", o.At, row.Offset)
	}
	start(t, cfg, k, nil)
	for range 3 {
		src.transaction(kgo.TryCommit, at(src.reading(0), 59*time.Minute+40*time.Second))
	}
	awaitExact(t, dir, 4)
	clean(t, dir)
}

func TestWideFramesWithSchema(t *testing.T) {
	k := kafkatest.Start(t, 1)
	src, dir := newSource(t, k), t.TempDir()
	reg, err := schema.New(k, schema.DefaultConfig(), zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	defer reg.Close()
	names := make([]string, 2500)
	values := make([]float32, len(names))
	for i := range names {
		names[i], values[i] = fmt.Sprintf("f%04d", i), float32(i)
	}
	start(t, testConfig(dir), k, nil)
	id, err := reg.Register(t.Context(), names)
	if err != nil {
		t.Fatal(err)
	}
	b, err := proto.Marshal(&eventv1.SensorFrame{EquipmentId: "wide", GatewayId: "g", Sequence: 1, SchemaId: id, Values: values})
	if err != nil {
		t.Fatal(err)
	}
	src.transaction(kgo.TryCommit, record(t, topic.Readings, 0, topic.TypeReading, "wide", &eventv1.Reading{Frame: b}))
	eventually(t, "the rows", func() bool { return sequences(t, dir)[1] == len(names) })
	for i, r := range readTable[row](t, dir, "readings") {
		if r.Sensor != names[i] || *r.Value != values[i] {
			t.Fatalf("row %d: %+v", i, r)
		}
	}
}

// What the judge and the source said about each value stands beside it.
func TestReadingColumns(t *testing.T) {
	k := kafkatest.Start(t, 1)
	src, dir := newSource(t, k), t.TempDir()
	nan := float32(math.NaN())
	b, err := proto.Marshal(&eventv1.SensorFrame{
		EquipmentId: "m", GatewayId: "g", Sequence: 7, BaseTimeUs: -5, TimeOffsetsUs: []uint64{0, 10}, Sensors: []string{"b", "a"},
		Values:    []float32{1, nan, 3, nan},
		Qualities: []eventv1.Quality{1, 4, 3, 0},
	})
	if err != nil {
		t.Fatal(err)
	}
	cfg := testConfig(dir)
	cfg.Chunk.MaxRows = 1
	start(t, cfg, k, nil)
	src.transaction(kgo.TryCommit, record(t, topic.Readings, 0, topic.TypeReading, "m", &eventv1.Reading{
		Frame: b, Partition: 3, Offset: 99, LogAppendTimeMs: 1234,
		Dispositions: []eventv1.Disposition{eventv1.Disposition_DISPOSITION_LATE, eventv1.Disposition_DISPOSITION_QUARANTINED},
		Validities:   []eventv1.Validity{5, 0, 3, 99},
	}))
	eventually(t, "the file", func() bool { return len(files(t, dir, "readings")) == 1 })
	var got []string
	for _, r := range readTable[table.Reading](t, dir, "readings") {
		v := "null"
		if r.Value != nil {
			v = fmt.Sprint(*r.Value)
		}
		got = append(got, fmt.Sprintln(r.TS, r.Sensor, v, r.Quality, r.Validity, r.Disposition, r.Late, r.Sequence, r.Sample, r.LogAppendTime, r.Partition, r.Offset))
	}
	want := []string{
		"-5 a 3 bad bad late true 7 0 1234000 3 99\n",
		"-5 b 1 good out_of_range late true 7 0 1234000 3 99\n",
		"5 a null missing unknown quarantined false 7 1 1234000 3 99\n",
		"5 b null missing good quarantined false 7 1 1234000 3 99\n",
	}
	if strings.Join(got, "") != strings.Join(want, "") {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, ""), strings.Join(want, ""))
	}
}

func TestWindowsAnomaliesAlertsFindings(t *testing.T) {
	k := kafkatest.Start(t, 1)
	src, dir := newSource(t, k), t.TempDir()
	cfg := testConfig(dir)
	cfg.Chunk.MaxRows = 1
	contributions := []*eventv1.Contribution{{Sensor: "vibration", Share: 0.75, Observed: 9, ExpectedLow: 1, ExpectedHigh: 2, Detector: "ewma"}, {Sensor: "current", Share: 0.25}}
	src.transaction(kgo.TryCommit,
		record(t, topic.Windows, 0, topic.TypeWindow, "m", &eventv1.Window{
			WindowId: "m/5000000/1", EquipmentId: "m", StartUs: 5_000_000, EndUs: 10_000_000, Revision: 1, Score: 0.5, Learning: true, ClosedAtMs: 11,
			Sensors: []*eventv1.SensorWindow{{Sensor: "b", Count: 3, Mean: 2}, {Sensor: "a", Count: 4, Mean: math.NaN(), Unusable: 4, ExpectedLow: math.NaN()}},
		}),
		record(t, topic.Windows, 0, topic.TypeWindow, "m", &eventv1.Window{WindowId: "m/0/0", EquipmentId: "m"}),
		record(t, topic.Anomalies, 0, topic.TypeAnomaly, "m", &eventv1.Anomaly{
			AnomalyId: "m/limit/1/1/PHASE_STARTED", EpisodeId: "m/limit/1", EquipmentId: "m", Cause: "limit", Phase: eventv1.Phase_PHASE_STARTED,
			Severity: eventv1.Severity_SEVERITY_CRITICAL, Score: 0.99, ObservedUs: 42, Contributions: contributions, Summary: "too hot; =cmd()|'x",
		}),
		record(t, topic.Anomalies, 0, topic.TypeAnomaly, "m", &eventv1.Anomaly{EquipmentId: "m"}),
		record(t, topic.Alerts, 0, topic.TypeAlert, "m", &eventv1.AlertEvent{
			EventId: "e", AlertId: "a", EquipmentId: "m", Transition: eventv1.AlertTransition_ALERT_TRANSITION_CLOSED, EndedUs: 77,
			Labels: map[string]string{"z": "1", "a": "2"}, Contributions: contributions,
		}),
		record(t, topic.Alerts, 0, topic.TypeAlert, "m", &eventv1.AlertEvent{EventId: "e2", EquipmentId: "m", Transition: eventv1.AlertTransition_ALERT_TRANSITION_OPENED}),
		record(t, topic.Findings, 0, topic.TypeFinding, "m", &eventv1.Finding{
			FindingId: "m/check:orders:volume:orders/1", Revision: 2, EquipmentId: "m", Kind: eventv1.FindingKind_FINDING_KIND_ROOT_CAUSE, Severity: eventv1.Severity_SEVERITY_WARNING,
			Confidence: 0.8, BeganUs: 1, EndedUs: 5, Over: true, Metrics: []string{"orders", "calls"}, Contributions: contributions,
			Evidence: &eventv1.FindingEvidence{AlertIds: []string{"a"}, Query: "SELECT 1"}, Producer: "p", ConcludedAtMs: 3,
		}),
		record(t, topic.Findings, 0, topic.TypeFinding, "m", &eventv1.Finding{FindingId: "m/x/2", EquipmentId: "m", BeganUs: 2}),
	)
	start(t, cfg, k, nil)
	eventually(t, "eight files", func() bool {
		return len(files(t, dir, "windows"))+len(files(t, dir, "anomalies"))+len(files(t, dir, "alerts"))+len(files(t, dir, "findings")) == 8
	})
	w := readTable[table.Window](t, dir, "windows")
	if len(w) != 3 || w[0].Sensor != "a" || w[0].Count != 4 || w[0].Mean != nil || *w[1].Mean != 2 || w[1].Sensor != "b" || w[1].MachineScore != 0.5 || !w[1].Learning || w[2].WindowID != "m/0/0" || w[2].Sensor != "" {
		t.Errorf("windows: %+v", w)
	}
	a := readTable[table.Anomaly](t, dir, "anomalies")
	if len(a) != 2 || len(a[0].Contributions) != 2 || a[0].Contributions[0].Share != 0.75 || a[0].Severity != "critical" || a[0].Phase != "started" || len(a[1].Contributions) != 0 {
		t.Errorf("anomalies: %+v", a)
	}
	l := readTable[table.Alert](t, dir, "alerts")
	if len(l) != 2 || l[0].Labels != `{"a":"2","z":"1"}` || l[0].EndedAt == nil || *l[0].EndedAt != 77 || l[1].EndedAt != nil || l[1].Transition != "opened" || l[1].Labels != "{}" {
		t.Errorf("alerts: %+v", l)
	}
	f := readTable[table.Finding](t, dir, "findings")
	if len(f) != 2 || f[0].Revision != 2 || f[0].Kind != "root_cause" || f[0].Severity != "warning" || *f[0].Confidence != 0.8 || !f[0].IsOver || f[0].EndedAt != 5 || f[0].ConcludedAt != 3000 ||
		strings.Join(f[0].Metrics, " ") != "orders calls" || len(f[0].AlertIDs) != 1 || len(f[0].WindowIDs) != 0 || len(f[0].Contributions) != 2 || f[0].Query != "SELECT 1" ||
		f[1].FindingID != "m/x/2" || f[1].Confidence != nil || len(f[1].Metrics) != 0 {
		t.Errorf("findings: %+v", f)
	}
	clean(t, dir)
}

func TestCloseWithoutRun(t *testing.T) {
	k := kafkatest.Start(t, 1)
	w := start(t, testConfig(t.TempDir()), k, nil)
	w.stop(t)
	for range 2 {
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	}
	deps := w.deps
	s, err := New(testConfig(t.TempDir()), deps)
	if err != nil {
		t.Fatal(err)
	}
	if s.Ready() == nil {
		t.Error("ready before Run")
	}
	for range 2 {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestConfigValidate(t *testing.T) {
	if err := DefaultConfig().Validate(); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*Config){
		"http.listen":     func(c *Config) { c.HTTP.Listen = "x" },
		"lake.url":        func(c *Config) { c.Lake.URL = "ftp://x" },
		"chunk.max_rows":  func(c *Config) { c.Chunk.MaxRows = 0 },
		"chunk.max_bytes": func(c *Config) { c.Chunk.MaxBytes = -1 },
		"chunk.interval":  func(c *Config) { c.Chunk.Interval = 0 },
		"retry.max":       func(c *Config) { c.Retry.Max = 0 },
		"memory_limit":    func(c *Config) { c.MemoryLimit = 1 },
		"encoders":        func(c *Config) { c.Encoders = 0 },
		"group":           func(c *Config) { c.Group = "" },
		"session_timeout": func(c *Config) { c.SessionTimeout = 0 },
		"stall_timeout":   func(c *Config) { c.StallTimeout = 0 },
		"drain_timeout":   func(c *Config) { c.DrainTimeout = 0 },
	} {
		c := DefaultConfig()
		change(&c)
		if err := c.Validate(); err == nil || !strings.HasPrefix(err.Error(), want+":") {
			t.Errorf("%s: %v", want, err)
		}
	}
}
