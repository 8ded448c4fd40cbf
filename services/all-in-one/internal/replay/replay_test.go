package replay_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"go.uber.org/goleak"

	"github.com/tocsin-io/tocsin/pkg/frame"
	"github.com/tocsin-io/tocsin/pkg/ingestclient"
	"github.com/tocsin-io/tocsin/pkg/kafka/kafkatest"
	"github.com/tocsin-io/tocsin/pkg/topic"
	"github.com/tocsin-io/tocsin/services/all-in-one/internal/csvfile"
	"github.com/tocsin-io/tocsin/services/all-in-one/internal/fleet/fleettest"
	"github.com/tocsin-io/tocsin/services/all-in-one/internal/replay"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var base = time.Date(2020, 3, 1, 6, 0, 0, 0, time.UTC)

// gateway runs an ingest-gateway over a broker of its own.
func gateway(t *testing.T) (*fleettest.Running, replay.Options) {
	t.Helper()
	dir := t.TempDir()
	f := fleettest.Start(t, fleettest.Config(dir), dir, "ingest-gateway")
	return f, replay.Options{Client: ingestclient.Config{URL: "http://" + f.Addrs["ingest-gateway"], MaxInFlightPerMachine: 1000}}
}

func file(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func recording(rows int) string {
	var b strings.Builder
	b.WriteString("time;pressure;flow\n")
	for i := range rows {
		fmt.Fprintf(&b, "%s;%d;%d\n", base.Add(time.Duration(i)*time.Second).Format(time.RFC3339), i, -i)
	}
	return b.String()
}

func send(t *testing.T, opt replay.Options) replay.Summary {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), fleettest.Patience)
	defer cancel()
	sum, err := replay.Run(ctx, opt)
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

// frames are the frames in the topic, by machine in the order of the log.
func frames(t *testing.T, f *fleettest.Running, n int) map[string][]*frame.Frame {
	t.Helper()
	out := map[string][]*frame.Frame{}
	for _, r := range kafkatest.Consume(t, f.Kafka, topic.Frames, n, fleettest.Patience) {
		one := new(frame.Frame)
		if err := one.Unmarshal(r.Value); err != nil {
			t.Fatal(err)
		}
		out[string(r.Key)] = append(out[string(r.Key)], one)
	}
	return out
}

func TestRowsArriveInOrderAndASecondTimeAreTheSame(t *testing.T) {
	f, opt := gateway(t)
	const rows = 2500
	opt.Inputs = []string{file(t, "Pump 7.csv", recording(rows))}
	var last, total int64
	opt.Progress = func(_ string, done, all int64) { last, total = done, all }
	sum := send(t, opt)
	if sum.Inputs != 1 || sum.Rows != rows || sum.Values != 2*rows || sum.Acknowledged != rows || sum.Rejected != 0 {
		t.Errorf("summary %+v", sum)
	}
	if !sum.First.Equal(base) || !sum.Last.Equal(base.Add((rows-1)*time.Second)) {
		t.Errorf("from %s to %s", sum.First, sum.Last)
	}
	if last != total || total != int64(len(recording(rows))) {
		t.Errorf("progress ended at %d of %d", last, total)
	}
	got := frames(t, f, rows)["Pump_7"] // named after the file
	if len(got) != rows {
		t.Fatalf("%d frames of the machine", len(got))
	}
	for i, one := range got {
		if one.Sequence != uint64(i+1) || one.TimeUS(0) != base.Add(time.Duration(i)*time.Second).UnixMicro() || one.Values[0] != float32(i) || one.Values[1] != float32(-i) {
			t.Fatalf("frame %d: sequence %d, time %d, values %v", i, one.Sequence, one.TimeUS(0), one.Values)
		}
		if !bytes.HasPrefix(one.GatewayID, []byte("replay-")) || string(bytes.Join(one.Sensors, []byte(","))) != "pressure,flow" {
			t.Fatalf("frame %d: gateway %q, sensors %q", i, one.GatewayID, one.Sensors)
		}
	}

	// The same content elsewhere is the same frames.
	opt.Inputs, opt.Equipment = []string{file(t, "copy.csv", recording(rows))}, "Pump_7"
	send(t, opt)
	twice := frames(t, f, 2*rows)["Pump_7"]
	for i, one := range twice[rows:] {
		if !bytes.Equal(one.AppendTo(nil), twice[i].AppendTo(nil)) {
			t.Fatalf("frame %d differs the second time", i)
		}
	}
	// Another content is another gateway's.
	opt.Inputs = []string{file(t, "copy.csv", recording(1))}
	send(t, opt)
	if all := frames(t, f, 2*rows+1)["Pump_7"]; bytes.Equal(all[2*rows].GatewayID, all[0].GatewayID) {
		t.Error("another file's frames have the same gateway id")
	}
}

func TestShiftToNow(t *testing.T) {
	f, opt := gateway(t)
	opt.Inputs, opt.ShiftToNow, opt.Gateway = []string{file(t, "a.csv", recording(30))}, true, "gw-9"
	began := time.Now()
	sum := send(t, opt)
	got := frames(t, f, 30)["a"]
	first := time.UnixMicro(got[0].TimeUS(0))
	if d := first.Sub(began); d > time.Second || d < -2*time.Second {
		t.Errorf("the first row is of %s, sent at %s", first, began)
	}
	for i, one := range got {
		if at := time.UnixMicro(one.TimeUS(0)); at.Sub(first) != time.Duration(i)*time.Second {
			t.Errorf("row %d is %s after the first", i, at.Sub(first))
		}
		if string(one.GatewayID) != "gw-9" {
			t.Errorf("gateway %q", one.GatewayID)
		}
	}
	if !sum.First.Equal(first) {
		t.Errorf("summary says %s, the frames %s", sum.First, first)
	}
}

func TestEquipmentColumn(t *testing.T) {
	f, opt := gateway(t)
	var b strings.Builder
	b.WriteString("ts,asset,t1\n")
	for i := range 60 {
		fmt.Fprintf(&b, "%d,press %d,%d\n", base.Unix()+int64(i/3), i%3, i)
	}
	opt.CSV = csvfile.Options{EquipmentColumn: "asset"}
	opt.Inputs = []string{file(t, "plant.csv", b.String())}
	send(t, opt)
	got := frames(t, f, 60)
	for m := range 3 {
		list := got[fmt.Sprintf("press_%d", m)]
		if len(list) != 20 {
			t.Fatalf("%d frames of machine %d", len(list), m)
		}
		for i, one := range list {
			if one.Sequence != uint64(i+1) || one.Values[0] != float32(3*i+m) || one.SensorCount() != 1 {
				t.Errorf("machine %d, frame %d: %+v", m, i, one)
			}
		}
	}
}

// The source holds what the topics of another Tocsin do: frames, ticks, what is no frame, and at its end the mark of a transaction.
func TestFramesOfAnotherCluster(t *testing.T) {
	source := kafkatest.Start(t, 2)
	ctx, cancel := context.WithTimeout(t.Context(), fleettest.Patience)
	defer cancel()
	cl := kafkatest.Client(t, source, kgo.TransactionalID("tx"))
	if err := cl.BeginTransaction(); err != nil {
		t.Fatal(err)
	}
	var rs []*kgo.Record
	const machines, rows = 5, 40
	for i := range rows {
		for m := range machines {
			one := frame.New(fmt.Sprintf("m%d", m), "edge", uint64(i+100), base.Add(time.Duration(i)*time.Second), []string{"s"}, []float32{float32(i)})
			rs = append(rs, &kgo.Record{Topic: topic.Frames, Key: one.EquipmentID, Value: one.AppendTo(nil)})
		}
		rs = append(rs, &kgo.Record{Topic: topic.Frames, Value: []byte{8, 1}, Headers: []kgo.RecordHeader{{Key: topic.HeaderType, Value: []byte(topic.TypeTick)}}},
			&kgo.Record{Topic: topic.Frames, Value: []byte("no frame")})
	}
	if err := cl.ProduceSync(ctx, rs...).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if err := cl.EndTransaction(ctx, kgo.TryCommit); err != nil {
		t.Fatal(err)
	}

	f, opt := gateway(t)
	opt.Inputs = []string{"kafka://" + strings.Join(source.Brokers, ",") + "/" + topic.Frames}
	sum := send(t, opt)
	if sum.Rows != machines*rows || sum.Acknowledged != machines*rows || !sum.First.Equal(base) || !sum.Last.Equal(base.Add((rows-1)*time.Second)) {
		t.Errorf("summary %+v", sum)
	}
	for id, list := range frames(t, f, machines*rows) {
		if len(list) != rows {
			t.Errorf("%s: %d frames", id, len(list))
		}
		for i, one := range list {
			if one.Sequence != uint64(i+100) || string(one.GatewayID) != "edge" || one.Values[0] != float32(i) {
				t.Errorf("%s, frame %d: %+v", id, i, one)
			}
		}
	}
}

func TestWhatCannotBeReplayed(t *testing.T) {
	f, opt := gateway(t)
	long := "time,v\n" + strings.Repeat("2020-01-01 00:00:00,1\n", 300) + "whenever,2\n"
	for name, c := range map[string]struct{ input, says string }{
		"no such file":  {filepath.Join(t.TempDir(), "none.csv"), "no such file"},
		"an empty file": {file(t, "empty.csv", ""), "empty"},
		"a bad line":    {file(t, "bad.csv", long), "line 302"},
		"no topic":      {"kafka://127.0.0.1:1", "want kafka://"},
		"unknown topic": {"kafka://" + f.Kafka.Brokers[0] + "/nothing.v1", "UNKNOWN_TOPIC"},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), fleettest.Patience)
			defer cancel()
			opt := opt
			opt.Inputs = []string{c.input}
			_, err := replay.Run(ctx, opt)
			if err == nil || ctx.Err() != nil || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), c.input) {
				t.Errorf("error %v, want it to name the input and say %q", err, c.says)
			}
		})
	}
	// What the gateway refuses is an error with the first reason.
	opt.Inputs, opt.Gateway = []string{file(t, "a.csv", recording(3))}, "not an id"
	ctx, cancel := context.WithTimeout(t.Context(), fleettest.Patience)
	defer cancel()
	sum, err := replay.Run(ctx, opt)
	if err == nil || !strings.Contains(err.Error(), "gateway_id") || sum.Rejected != 3 {
		t.Errorf("%d rejected, error %v", sum.Rejected, err)
	}
}

func TestSpeedHoldsRowsBackUntilCancelled(t *testing.T) {
	_, opt := gateway(t)
	opt.Inputs, opt.Speed = []string{file(t, "a.csv", recording(100))}, 0.001
	ctx, cancel := context.WithCancel(t.Context())
	opt.Client.OnAck = func(ingestclient.Ref) { cancel() } // the first row leaves at once, the second in a quarter of an hour
	sum, err := replay.Run(ctx, opt)
	if err == nil || ctx.Err() == nil || sum.Rows != 1 {
		t.Errorf("%d rows sent, error %v", sum.Rows, err)
	}
}
