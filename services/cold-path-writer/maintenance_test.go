package coldpathwriter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"google.golang.org/protobuf/proto"

	"github.com/tocsin-io/tocsin/pkg/kafka/kafkatest"
	"github.com/tocsin-io/tocsin/pkg/lake"
	"github.com/tocsin-io/tocsin/pkg/objstore"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	"github.com/tocsin-io/tocsin/services/cold-path-writer/internal/table"
)

// shelf is a lake whose raw files a test puts there.
type shelf struct {
	testing.TB
	objstore.Bucket
	tables map[string]table.Merger
	now    time.Time
	next   map[int32]int64
}

func newShelf(t testing.TB, b objstore.Bucket) *shelf {
	s := &shelf{TB: t, Bucket: b, tables: map[string]table.Merger{}, now: time.Date(2026, 3, 1, 12, 30, 0, 0, time.UTC), next: map[int32]int64{}}
	for _, tab := range table.Kept() {
		s.tables[tab.Name()] = tab
	}
	return s
}

// raw puts a file of records of a partition into an hour's folder of readings and of anomalies.
func (s *shelf) raw(partition int32, hour time.Time, records int) {
	s.Helper()
	first := s.next[partition]
	var readings, anomalies []table.Record
	for i := range int64(records) {
		o, ms := first+i, hour.UnixMilli()+i
		frame, err := proto.Marshal(&eventv1.SensorFrame{
			EquipmentId: fmt.Sprintf("press-%d-%d", partition, o%3), GatewayId: "gw", Sequence: uint64(o + 1), BaseTimeUs: 1_700_000_000_000_000 - o*7,
			TimeOffsetsUs: []uint64{0, 500}, Sensors: testSensors[:2], Values: []float32{float32(o), 1, 2, float32(o) / 3},
		})
		if err != nil {
			s.Fatal(err)
		}
		d := eventv1.Disposition_DISPOSITION_ON_TIME
		if o%4 == 0 {
			d = eventv1.Disposition_DISPOSITION_LATE
		}
		r, err1 := proto.Marshal(&eventv1.Reading{Frame: frame, Partition: partition, Offset: o, LogAppendTimeMs: ms, Dispositions: []eventv1.Disposition{d}})
		a, err2 := proto.Marshal(&eventv1.Anomaly{
			EquipmentId: fmt.Sprintf("press-%d-%d", partition, o%3), ObservedUs: o, AnomalyId: fmt.Sprint(o), Score: 0.5,
			Contributions: []*eventv1.Contribution{{Sensor: "flow", Share: 0.5}, {Sensor: "speed", Share: float64(o)}}[:o%3%2+1],
		})
		if err := errors.Join(err1, err2); err != nil {
			s.Fatal(err)
		}
		readings = append(readings, table.Record{Offset: o, TimeMS: ms, Value: r})
		anomalies = append(anomalies, table.Record{Offset: o, TimeMS: ms, Value: a})
	}
	s.next[partition] = first + int64(records)
	for name, recs := range map[string][]table.Record{"readings": readings, "anomalies": anomalies} {
		o := lake.Object{
			Source: lake.Source{Table: name, Topic: "test." + name, TopicID: [16]byte{9}, Partition: partition},
			First:  first, End: first + int64(records), SinceMS: hour.UnixMilli(), Config: "test",
		}
		f, err := s.tables[name].(table.Table).Encode(s.Context(), recs, func(rows int64, hash uint64) map[string]string {
			o.Rows, o.Hash = rows, hash
			return o.Metadata()
		})
		if err != nil {
			s.Fatal(err)
		}
		if err := s.PutIfAbsent(s.Context(), o.Key(), f.Data, o.Metadata()); err != nil {
			s.Fatal(err)
		}
	}
}

func (s *shelf) options() MaintainOptions {
	m := DefaultMaintenance()
	m.TargetRows = 1000
	return MaintainOptions{Maintenance: m, Now: func() time.Time { return s.now }}
}

// state is what a reader of the files that count finds: their number, and a fingerprint of their rows.
func (s *shelf) state(tableName string) (files int, rows int64, hash uint64) {
	s.Helper()
	v, err := lake.Open(s.Context(), s.Bucket, tableName)
	if err != nil {
		s.Fatal(err)
	}
	for e, err := range v.Files(s.Context(), time.Time{}, time.Time{}) {
		if err != nil {
			s.Fatal(err)
		}
		data, _, err := s.Get(s.Context(), e.Key, 0)
		if err != nil {
			s.Fatal(err)
		}
		n, h, err := s.tables[tableName].Inspect(data)
		if err != nil {
			s.Fatal(err)
		}
		files, rows, hash = files+1, rows+n, hash+h
	}
	return files, rows, hash
}

func (s *shelf) clean() {
	s.Helper()
	r, err := Audit(s.Context(), s.Bucket, AuditOptions{})
	if err != nil {
		s.Fatal(err)
	}
	if !r.OK() {
		s.Fatalf("audit: %+v", r.Findings)
	}
}

// keys are all objects of the lake.
func (s *shelf) keys() []string {
	s.Helper()
	var out []string
	for info, err := range s.List(s.Context(), "") {
		if err != nil {
			s.Fatal(err)
		}
		out = append(out, info.Key)
	}
	return out
}

// morning fills three hours, the last of which is not over.
func (s *shelf) morning() {
	for h := range 3 {
		for i := range 2 {
			for p := range int32(2) {
				s.raw(p, s.now.Truncate(time.Hour).Add(time.Duration(h-4)*time.Hour+time.Duration(i)*5*time.Minute), 10)
			}
		}
	}
	for p := range int32(2) {
		s.raw(p, s.now, 10)
		s.raw(p, s.now, 10)
	}
}

func eachStore(t *testing.T, test func(*shelf)) {
	t.Run("directory", func(t *testing.T) { test(newShelf(t, newFaulty(t, t.TempDir()).Bucket)) })
	t.Run("S3", func(t *testing.T) {
		b, err := objstore.Open(t.Context(), realS3(t))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = b.Close() })
		test(newShelf(t, b))
	})
}

func TestCompactMergesWhatIsPast(t *testing.T) {
	eachStore(t, func(s *shelf) {
		s.morning()
		_, rows, hash := s.state("readings")
		o := s.options()
		o.DryRun = true
		before := s.keys()
		var planned, done []string
		say := func(to *[]string) func(MaintenanceStep) {
			return func(st MaintenanceStep) {
				if st.Table == "readings" && st.Kind == "compact" {
					*to = append(*to, fmt.Sprint(st.HourMS, st.Files, st.Rows))
				}
			}
		}
		o.Report = say(&planned)
		if err := Compact(t.Context(), s.Bucket, o); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(before, s.keys()) {
			t.Error("a dry run changes the lake")
		}
		o.DryRun, o.Report = false, say(&done)
		if err := Compact(t.Context(), s.Bucket, o); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(planned, done) || len(done) != 2 {
			t.Errorf("planned %q, done %q", planned, done)
		}
		check := func(files int) {
			t.Helper()
			n, r, h := s.state("readings")
			if n != files || r != rows || h != hash {
				t.Errorf("%d files, %d rows, hash %x; want %d, %d, %x", n, r, h, files, rows, hash)
			}
			s.clean()
		}
		check(2 + 4 + 4)
		s.raw(0, s.now.Add(-4*time.Hour), 10) // late: its hour is merged already
		s.now = s.now.Add(2 * time.Hour)
		_, rows, hash = s.state("readings")
		if err := Compact(t.Context(), s.Bucket, o); err != nil {
			t.Fatal(err)
		}
		check(3 + 4)
		s.rolled("readings_1m", time.Minute)
		s.rolled("readings_1h", time.Hour)
		s.now = time.Now().Add(48 * time.Hour) // the grace, by the store's clock too
		o.Maintenance.Days = false
		if err := Compact(t.Context(), s.Bucket, o); err != nil {
			t.Fatal(err)
		}
		check(4)
		left := slices.DeleteFunc(s.keys(), func(key string) bool { return !strings.HasPrefix(key, lake.Prefix("readings")) })
		if len(left) != 4+4 { // what was merged just now stands for the grace
			t.Errorf("%q", left)
		}
		log, err := MaintenanceLog(t.Context(), s.Bucket, "readings")
		if err != nil || len(log) < 5 || log[len(log)-1].Action.Kind != "clean" {
			t.Errorf("%+v %v", log, err)
		}
	})
}

func TestRetainRemovesWhatIsOld(t *testing.T) {
	eachStore(t, func(s *shelf) {
		s.morning()
		o := s.options()
		if err := Compact(t.Context(), s.Bucket, o); err != nil {
			t.Fatal(err)
		}
		o.Maintenance.Keep = append(o.Maintenance.Keep, Keep{Table: "readings", For: 2 * time.Hour})
		_, all, _ := s.state("readings")
		o.DryRun = true
		var would int64
		o.Report = func(st MaintenanceStep) { would += st.Rows }
		before := s.keys()
		if err := Retain(t.Context(), s.Bucket, o); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(before, s.keys()) {
			t.Error("a dry run changes the lake")
		}
		o.DryRun, o.Report = false, nil
		if err := Retain(t.Context(), s.Bucket, o); err != nil {
			t.Fatal(err)
		}
		s.clean()
		if _, rows, _ := s.state("readings"); rows != all-would || would != 2*160 {
			t.Errorf("%d rows of %d, %d would go", rows, all, would)
		}
		if _, rows, _ := s.state("anomalies"); rows != 160 {
			t.Errorf("%d anomalies: a table that is not named loses rows", rows)
		}
		log, err := MaintenanceLog(t.Context(), s.Bucket, "readings")
		if err != nil || log[len(log)-1].Action.Kind != "retain" || log[len(log)-1].Action.Rows != would {
			t.Errorf("%+v %v", log, err)
		}
	})
}

var errCrash = errors.New("crash")

// crashing ends a process at its n-th request to the store: before it has an effect, or after.
type crashing struct {
	objstore.Bucket
	left  int
	after bool
}

func (c *crashing) step(do func() error) error {
	if c.left--; c.left < 0 {
		return errCrash
	}
	if c.left == 0 && !c.after {
		c.left = -1
		return errCrash
	}
	err := do()
	if c.left == 0 {
		c.left = -1
		return errCrash
	}
	return err
}

func (c *crashing) PutIfAbsent(ctx context.Context, key string, data []byte, m map[string]string) error {
	return c.step(func() error { return c.Bucket.PutIfAbsent(ctx, key, data, m) })
}

func (c *crashing) Delete(ctx context.Context, key string) error {
	return c.step(func() error { return c.Bucket.Delete(ctx, key) })
}

// What only reads has no effect that a crash could cut in two; it counts as a step all the same in List, where loops turn.
func (c *crashing) List(ctx context.Context, prefix string) iter.Seq2[objstore.Info, error] {
	return func(yield func(objstore.Info, error) bool) {
		if err := c.step(func() error { return nil }); err != nil {
			yield(objstore.Info{}, err)
			return
		}
		c.Bucket.List(ctx, prefix)(yield)
	}
}

// A crash at each request to the store, before and after it has its effect: readers always find the same rows, and the next run ends what was begun.
func TestACrashAtAnyStep(t *testing.T) {
	for _, after := range []bool{false, true} {
		t.Run(fmt.Sprintf("after=%v", after), func(t *testing.T) {
			s := newShelf(t, newFaulty(t, t.TempDir()).Bucket)
			s.morning()
			s.now = s.now.Add(3 * time.Hour)
			_, rows, hash := s.state("readings")
			o := s.options()
			o.Tables = []string{"readings"}
			o.Maintenance.Grace = 0 // deleting is a step too
			o.Now = func() time.Time { return time.Now().Add(24 * time.Hour) }
			crashes := 0
			for n := 1; ; n += 3 {
				err := Compact(t.Context(), &crashing{s.Bucket, n, after}, o)
				if _, r, h := s.state("readings"); r != rows || h != hash {
					t.Fatalf("crash at step %d: %d rows with hash %x, want %d with %x", n, r, h, rows, hash)
				}
				s.rolled("readings_1m", time.Minute)
				if err == nil {
					break
				}
				crashes++
				if !errors.Is(err, errCrash) {
					t.Fatal(err)
				}
				if n%5 == 0 {
					s.clean()
				}
			}
			if err := Compact(t.Context(), s.Bucket, o); err != nil {
				t.Fatal(err)
			}
			s.clean()
			files, _, _ := s.state("readings")
			if files != 1 || crashes < 5 {
				t.Errorf("%d files after %d crashes", files, crashes)
			}
			left := 0
			for _, key := range s.keys() {
				if strings.HasPrefix(key, lake.Prefix("readings")) {
					left++
				}
			}
			if left != files {
				t.Errorf("%d files stand, %d count", left, files)
			}
		})
	}
}

func TestEqualLakesAreMergedToEqualBytes(t *testing.T) {
	var made []map[string][]byte
	for range 2 {
		s := newShelf(t, newFaulty(t, t.TempDir()).Bucket)
		s.morning()
		if err := Compact(t.Context(), s.Bucket, s.options()); err != nil {
			t.Fatal(err)
		}
		files := map[string][]byte{}
		for range 2 { // the hours; then the day
			for _, key := range s.keys() {
				if name := path.Base(key); strings.HasPrefix(name, "merged-") || strings.HasPrefix(name, "day-") {
					files[key], _, _ = s.Get(t.Context(), key, 0)
				}
			}
			s.now = s.now.Add(24 * time.Hour)
			if err := Compact(t.Context(), s.Bucket, s.options()); err != nil {
				t.Fatal(err)
			}
		}
		made = append(made, files)
	}
	if len(made[0]) != 16 || !maps.EqualFunc(made[0], made[1], bytes.Equal) {
		t.Errorf("%v\n%v", slices.Sorted(maps.Keys(made[0])), slices.Sorted(maps.Keys(made[1])))
	}
}

func TestManyKeepersAtOnce(t *testing.T) {
	s := newShelf(t, newFaulty(t, t.TempDir()).Bucket)
	s.morning()
	s.now = s.now.Add(3 * time.Hour)
	_, rows, hash := s.state("readings")
	o := s.options()
	o.Tables = []string{"readings"}
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			if err := Compact(t.Context(), s.Bucket, o); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	s.rolled("readings_1m", time.Minute)
	if files, r, h := s.state("readings"); files != 4 || r != rows || h != hash {
		t.Errorf("%d files, %d rows, hash %x", files, r, h)
	}
	s.clean()
}

// The files are merged and deleted; then the group forgets its offsets, or they are those of before a crash, and the rules have changed. Nothing is stored twice or left out.
func TestAWriterKnowsWhatWasMerged(t *testing.T) {
	k := kafkatest.Start(t, 1)
	src, dir := newSource(t, k), t.TempDir()
	cfg := testConfig(dir)
	src.readings(0, 40)
	w := start(t, cfg, k, nil)
	awaitExact(t, dir, 40)
	w.stop(t)
	b := newFaulty(t, dir).Bucket
	o := MaintainOptions{Maintenance: DefaultMaintenance(), Now: func() time.Time { return time.Now().Add(72 * time.Hour) }}
	o.Maintenance.Grace = 0
	if err := Compact(t.Context(), b, o); err != nil {
		t.Fatal(err)
	}
	if got := files(t, dir, "readings"); len(got) > 2 { // two, when the hour has turned meanwhile
		t.Fatalf("%q", got)
	}
	awaitExact(t, dir, 40)
	adm := kadm.NewClient(kafkatest.Client(t, k))
	committed, err := adm.FetchOffsets(t.Context(), cfg.Group)
	if err != nil {
		t.Fatal(err)
	}
	n := 40
	for i, forget := range []func(){
		func() { cfg.Group = "another" },
		func() {
			cfg.Group = "third"
			at, _ := committed.Lookup("telemetry.readings.v1", 0)
			id, _, _ := strings.Cut(strings.TrimPrefix(at.Metadata, "tocsin.lake.v1 topic="), " ")
			var back kadm.Offsets
			back.AddOffset("telemetry.readings.v1", 0, 3, -1)
			o := back["telemetry.readings.v1"][0]
			o.Metadata = fmt.Sprintf("tocsin.lake.v1 topic=%s first=%d", id, 3)
			back["telemetry.readings.v1"][0] = o
			if err := adm.CommitAllOffsets(t.Context(), cfg.Group, back); err != nil {
				t.Fatal(err)
			}
		},
	} {
		forget()
		cfg.Chunk.MaxRows = 70
		src.readings(0, 21)
		n += 21
		w := start(t, cfg, k, nil)
		awaitExact(t, dir, n)
		w.stop(t)
		clean(t, dir)
		if err := Compact(t.Context(), b, o); err != nil {
			t.Fatal(i, err)
		}
		awaitExact(t, dir, n)
	}
}
