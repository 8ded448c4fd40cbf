package cli_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/zap"
	"google.golang.org/protobuf/proto"

	"github.com/tocsin-io/tocsin/pkg/dlq"
	"github.com/tocsin-io/tocsin/pkg/kafka"
	"github.com/tocsin-io/tocsin/pkg/kafka/kafkatest"
	"github.com/tocsin-io/tocsin/pkg/launch"
	"github.com/tocsin-io/tocsin/pkg/schema"
	"github.com/tocsin-io/tocsin/pkg/topic"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
)

const patience = time.Minute

// binary builds the real tocsin.
func binary(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "tocsin")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", path, "../../cmd/tocsin").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return path
}

// services runs the ones that refuse records, as a process of their own, until stop is called.
func services(t *testing.T, tocsin, dir string, k kafka.Config) (stop func()) {
	t.Helper()
	var yaml strings.Builder
	fmt.Fprintf(&yaml, "kafka: {partitions: %d}\nlog: {level: error}\n", k.Partitions)
	for _, s := range []string{"stream_processor", "alert_router", "cold_path_writer"} {
		fmt.Fprintf(&yaml, "%s:\n  http: {listen: 127.0.0.1:0}\n", s)
	}
	yaml.WriteString("  chunk: {interval: 1s}\n") // of the writer: its letters come with its files
	var log bytes.Buffer
	// Not the test's context: that ends before the clean-up, in which stop looks whether they still ran.
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), tocsin, "run", "--config", write(t, dir, "tocsin.yaml", yaml.String()), "--data-dir", dir,
		"--brokers", strings.Join(k.Brokers, ","), "--target", "stream-processor,alert-router,cold-path-writer")
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait()
	}()
	stop = sync.OnceFunc(func() {
		select {
		case <-ended:
			t.Errorf("the services stopped:\n%s", log.String())
		default:
			_ = cmd.Process.Signal(os.Interrupt)
			defer time.AfterFunc(patience, func() { _ = cmd.Process.Kill() }).Stop()
			<-ended
		}
	})
	t.Cleanup(stop)
	return stop
}

type listed struct {
	Total, Waiting int
	Groups         []struct {
		Letters                 int
		Topic, Consumer, Reason string
	}
	Letters []struct {
		ID, Consumer, Reason, Origin string
		Attempt                      int
		RetriedAt                    *time.Time `json:"retried_at"`
	}
}

// world is a broker, services and the command.
type world struct {
	t      *testing.T
	binary string
	k      kafka.Config
	cl     *kgo.Client
}

func (w *world) tocsin(args ...string) string {
	w.t.Helper()
	cmd := exec.CommandContext(w.t.Context(), w.binary, append(args, "--brokers", strings.Join(w.k.Brokers, ","))...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		w.t.Fatalf("tocsin %s: %v\n%s%s", strings.Join(args, " "), err, &stdout, &stderr)
	}
	return stdout.String()
}

func (w *world) list(args ...string) (l listed) {
	w.t.Helper()
	if err := json.Unmarshal([]byte(w.tocsin(append([]string{"dlq", "list", "--output", "json", "--limit", "0"}, args...)...)), &l); err != nil {
		w.t.Fatal(err)
	}
	return l
}

// until lists again until n letters are picked.
func (w *world) until(n int, args ...string) listed {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	for {
		l := w.list(args...)
		if l.Total >= n {
			return l
		}
		select {
		case <-ctx.Done():
			w.t.Fatalf("%d letters, want %d: %+v", l.Total, n, l)
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (w *world) produce(name, typ, key string, value []byte) *kgo.Record {
	w.t.Helper()
	rec := &kgo.Record{Topic: name, Key: []byte(key), Value: value, Headers: []kgo.RecordHeader{{Key: topic.HeaderType, Value: []byte(typ)}, {Key: topic.HeaderID, Value: []byte("id")}}}
	if err := w.cl.ProduceSync(w.t.Context(), rec).FirstErr(); err != nil {
		w.t.Fatal(err)
	}
	return rec
}

func (w *world) frame(sequence uint64, schemaID string) *kgo.Record {
	w.t.Helper()
	b, err := proto.Marshal(&eventv1.SensorFrame{GatewayId: "gw", EquipmentId: "press-1", Sequence: sequence, BaseTimeUs: 1_700_000_000_000_000, SchemaId: schemaID, Values: []float32{1, 2}})
	if err != nil {
		w.t.Fatal(err)
	}
	return w.produce(topic.Frames, topic.TypeFrame, "press-1", b)
}

func id(r *kgo.Record) string { return fmt.Sprintf("%s/%d/%d", r.Topic, r.Partition, r.Offset) }

// Poison of every kind goes in; the command finds it, shows it, gives it back once it is mended, and only once.
func TestDeadLettersFromEndToEnd(t *testing.T) {
	k := kafkatest.Start(t, 2)
	w := &world{t: t, binary: binary(t), k: k, cl: kafkatest.Client(t, k)}
	if got := w.tocsin("dlq", "list"); got != "no dead letters\n" {
		t.Errorf("%q", got)
	}
	dir := t.TempDir()
	stop := services(t, w.binary, dir, k)
	sensors := []string{"temp", "flow"}
	unknown := w.frame(1, schema.ID(sensors))
	garbage := w.produce(topic.Frames, topic.TypeFrame, "press-1", []byte{0xff, 0xff, 0xff})
	w.produce(topic.Anomalies, topic.TypeAnomaly, "press-1", []byte{0xff})
	w.produce(topic.Anomalies, "somebody.elses.Type", "press-1", []byte("x"))
	w.produce(topic.Readings, topic.TypeReading, "press-1", []byte{0xff})
	w.produce(topic.Windows, topic.TypeWindow, "press-1", []byte{0xff})
	w.produce(topic.Alerts, topic.TypeAlert, "press-1", []byte{0xff})

	// Frames 2; anomalies 2, each refused by the router and the writer; readings, windows, alerts 1 each.
	all := w.until(9)
	by := map[string]int{}
	for _, g := range all.Groups {
		by[g.Topic+" "+g.Consumer] += g.Letters
	}
	for what, want := range map[string]int{
		topic.Frames + " " + dlq.Processor: 2, topic.Anomalies + " " + dlq.Router: 2, topic.Anomalies + " " + dlq.Writer: 2,
		topic.Readings + " " + dlq.Writer: 1, topic.Windows + " " + dlq.Writer: 1, topic.Alerts + " " + dlq.Writer: 1,
	} {
		if by[what] != want {
			t.Errorf("%s: %d letters, want %d", what, by[what], want)
		}
	}
	if l := w.list("--topic", topic.Frames, "--reason", "not registered", "--since", "1h"); l.Total != 1 || l.Letters[0].ID != id(unknown) || l.Letters[0].Attempt != 1 {
		t.Errorf("%+v", l)
	}
	if table := w.tocsin("dlq", "list"); !strings.Contains(table, id(unknown)) || !strings.Contains(table, "LETTERS") {
		t.Errorf("%s", table)
	}
	for letter, want := range map[string]string{id(unknown): `"equipment_id": "press-1"`, id(garbage): "00000000  ff ff ff"} {
		if shown := w.tocsin("dlq", "show", letter); !strings.Contains(shown, want) || !strings.Contains(shown, dlq.Processor) {
			t.Errorf("show %s:\n%s", letter, shown)
		}
	}
	if raw := w.tocsin("dlq", "show", "--raw", id(garbage)); raw != "\xff\xff\xff" {
		t.Errorf("%q", raw)
	}
	if doctor, _ := exec.CommandContext(t.Context(), w.binary, "doctor", "--config", write(t, t.TempDir(), "d.yaml", "kafka: {brokers: ["+k.Brokers[0]+"], partitions: 2}\n")).Output(); !strings.Contains(string(doctor), "9 wait") {
		t.Errorf("doctor does not count them:\n%s", doctor)
	}

	// Mend the one that can be mended.
	reg, err := schema.New(k, schema.DefaultConfig(), zap.NewNop())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := reg.Register(t.Context(), sensors); err != nil {
		t.Fatal(err)
	}
	reg.Close()
	if got := w.tocsin("dlq", "retry", "--all", "--topic", topic.Frames, "--dry-run"); !strings.Contains(got, "2 would be given back") {
		t.Errorf("%s", got)
	}
	if got := w.tocsin("dlq", "retry", id(unknown)); !strings.Contains(got, "1 given back") {
		t.Errorf("%s", got)
	}
	judged := func() int { // readings that the processor has made; the poisonous one of above is not decodable
		n := 0
		for _, r := range kafkatest.ReadAll(t, k, topic.Readings) {
			var m eventv1.Reading
			if topic.Type(r) == topic.TypeReading && proto.Unmarshal(r.Value, &m) == nil {
				n++
			}
		}
		return n
	}
	kafkatest.ConsumeUntil(t, k, topic.Readings, patience, func([]*kgo.Record) bool { return judged() == 1 })

	// All the rest is garbage, and comes back as new letters that know of the first attempt.
	if got := w.tocsin("dlq", "retry", "--all"); !strings.Contains(got, "8 given back, 1 were given back before") {
		t.Errorf("%s", got)
	}
	again := w.until(17)
	second := 0
	for _, l := range again.Letters {
		if l.Attempt == 2 {
			second++
			if l.Origin == "" || l.RetriedAt != nil {
				t.Errorf("%+v", l)
			}
		} else if l.RetriedAt == nil {
			t.Errorf("still waiting: %+v", l)
		}
	}
	if again.Total != 17 || second != 8 || again.Waiting != 8 {
		t.Errorf("%d letters, %d of a second attempt, %d waiting", again.Total, second, again.Waiting)
	}
	if got := w.tocsin("dlq", "retry", "--all", "--max-attempts", "2"); !strings.Contains(got, " 0 given back, 9 were given back before, 8 skipped") {
		t.Errorf("%s", got)
	}
	if n := judged(); n != 1 {
		t.Errorf("%d readings of one frame", n)
	}
	// The transactions that gave frames back must not stand in the way of those who restore from that topic.
	stop()
	services(t, w.binary, dir, k)
	w.frame(2, schema.ID(sensors))
	kafkatest.ConsumeUntil(t, k, topic.Readings, patience, func([]*kgo.Record) bool { return judged() == 2 })

	cmd := exec.CommandContext(t.Context(), w.binary, "dlq", "show", topic.Frames+"/0/99999", "--brokers", k.Brokers[0])
	var exit *exec.ExitError
	if out, err := cmd.CombinedOutput(); !errors.As(err, &exit) || exit.ExitCode() != launch.ExitFailed || !strings.Contains(string(out), "no such dead letter") {
		t.Errorf("%v %s", err, out)
	}
}

// The process is killed again and again, wherever it is; in the end each letter was given back once.
func TestRetryIsKilled(t *testing.T) {
	const n = 6000
	k := kafkatest.Start(t, 2)
	w := &world{binary: binary(t), cl: kafkatest.Client(t, k)}
	for i := range n {
		name, who := topic.Frames, dlq.Processor
		if i%2 == 0 {
			name, who = topic.Anomalies, dlq.Router
		}
		rec := &kgo.Record{Topic: name, Partition: int32(i % 2), Offset: int64(i), Value: fmt.Appendf(nil, "%s %d", name, i), Timestamp: time.Now()}
		w.cl.Produce(t.Context(), dlq.Refuse(rec, who, errors.New("poison")), nil)
	}
	if err := w.cl.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	killed := 0
	for wait := 20 * time.Millisecond; ; wait += 15 * time.Millisecond {
		ctx, cancel := context.WithTimeout(t.Context(), wait) // its end is SIGKILL
		err := exec.CommandContext(ctx, w.binary, "dlq", "retry", "--all", "--brokers", k.Brokers[0]).Run()
		cancel()
		if err == nil {
			break
		}
		killed++
		if wait > patience {
			t.Fatal("it never comes to its end")
		}
	}
	seen := map[string]int{}
	for _, name := range []string{topic.Frames, topic.Anomalies} {
		for _, r := range kafkatest.ReadAll(t, k, name) {
			seen[string(r.Value)]++
		}
	}
	for what, times := range seen {
		if times != 1 {
			t.Errorf("%q came back %d times", what, times)
		}
	}
	if len(seen) != n {
		t.Errorf("%d of %d came back", len(seen), n)
	}
	if killed == 0 {
		t.Error("it was never killed: this shows nothing")
	}
	t.Logf("killed %d times", killed)
}
