package icebergtable

import (
	"bytes"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest"

	"github.com/tocsin-io/tocsin/pkg/icebergconfig"
	"github.com/tocsin-io/tocsin/pkg/lake"
	"github.com/tocsin-io/tocsin/pkg/objstore"
	"github.com/tocsin-io/tocsin/pkg/objstore/objstoretest"
)

// part is an element of a list column, as contributions are.
type part struct {
	Sensor string   `parquet:"sensor,dict"`
	Share  float64  `parquet:"share"`
	Low    *float64 `parquet:"expected_low,optional"`
}

// record is a row with a column of each type that the lake's tables have.
type record struct {
	EquipmentID string   `parquet:"equipment_id,dict"`
	TS          int64    `parquet:"ts,timestamp(microsecond),delta"`
	Value       *float32 `parquet:"value,optional,split"`
	Late        bool     `parquet:"late"`
	Partition   int32    `parquet:"partition,dict"`
	Offset      int64    `parquet:"offset,delta"`
	Score       float64  `parquet:"score,split"`
	Parts       []part   `parquet:"contributions,list"`
	Metrics     []string `parquet:"metrics,list"`
}

// newer has a column more.
type newer struct {
	record
	Note *string `parquet:"note,optional"`
}

// world is a lake with a catalog.
type world struct {
	*testing.T
	store  objstore.Config
	cfg    icebergconfig.Iceberg
	bucket objstore.Bucket
	hour   time.Time
}

func newWorld(t *testing.T, store objstore.Config, catalog string) *world {
	t.Helper()
	b, err := objstore.Open(t.Context(), store)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	cfg := icebergconfig.DefaultIceberg()
	cfg.Catalog = catalog
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	return &world{t, store, cfg, b, time.Now().UTC().Truncate(time.Hour)}
}

func inDirectory(t *testing.T) *world {
	return newWorld(t, objstore.DefaultConfig(t.TempDir()), "")
}

// committer of the table readings over bucket; nil: the world's own.
func (w *world) committer(bucket objstore.Bucket) *Committer {
	w.Helper()
	return w.committerOf(bucket, "readings")
}

func (w *world) committerOf(bucket objstore.Bucket, tables ...string) *Committer {
	w.Helper()
	if bucket == nil {
		bucket = w.bucket
	}
	log := zap.NewNop()
	if testing.Verbose() {
		log = zaptest.NewLogger(w.T)
	}
	c, err := New(w.cfg, w.store, bucket, tables, log, silent{})
	if err != nil {
		w.Fatal(err)
	}
	w.Cleanup(func() { _ = c.Close() })
	return c
}

func (w *world) sync(c *Committer) {
	w.Helper()
	if err := c.Sync(w.Context()); err != nil {
		w.Fatal(err)
	}
}

type silent struct{}

func (silent) IcebergTable(string)               {}
func (silent) IcebergCommitted(string, int, int) {}
func (silent) IcebergFailed(string)              {}
func (silent) IcebergRaced(string)               {}

func source(partition int32) lake.Source {
	return lake.Source{Table: "readings", Topic: "telemetry.readings.v1", TopicID: [16]byte{1}, Partition: partition}
}

func rows(partition int32, first, n int64) []record {
	out := make([]record, n)
	for i := range out {
		o := first + int64(i)
		v, low := float32(o)/2, float64(o)
		out[i] = record{
			EquipmentID: fmt.Sprintf("press-%d", partition), TS: 1_700_000_000_000_000 + o, Partition: partition, Offset: o, Score: float64(o) / 8,
			Parts: []part{{"speed", 0.5, &low}, {"flow", 0.25, nil}}, Metrics: []string{"speed", "flow"}[:o%3],
		}
		if o%5 > 0 {
			out[i].Value = &v
		}
	}
	return out
}

// raw puts the file of the offsets [first, first+n), a row each, into the folder of an hour.
func (w *world) raw(hour time.Time, partition int32, first, n int64) string {
	w.Helper()
	return put(w, hour, partition, first, rows(partition, first, n))
}

func put[T any](w *world, hour time.Time, partition int32, first int64, rows []T) string {
	w.Helper()
	o := lake.Object{Source: source(partition), First: first, End: first + int64(len(rows)), SinceMS: hour.UnixMilli(), Rows: int64(len(rows)), Config: "test"}
	if err := w.bucket.PutIfAbsent(w.Context(), o.Key(), encode(w.T, rows), o.Metadata()); err != nil {
		w.Fatal(err)
	}
	return o.Key()
}

func encode[T any](t testing.TB, rows []T) []byte {
	t.Helper()
	var buf bytes.Buffer
	pw := parquet.NewGenericWriter[T](&buf, parquet.SortingWriterConfig(parquet.SortingColumns(parquet.Ascending("equipment_id"), parquet.Ascending("ts"))))
	if _, err := pw.Write(rows); err != nil {
		t.Fatal(err)
	}
	if err := pw.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// keys are the files of the table's current snapshot.
func (w *world) keys(c *Committer) []string {
	w.Helper()
	tbl, err := c.cat.LoadTable(w.Context(), c.ident("readings"))
	if err != nil {
		w.Fatal(err)
	}
	tasks, err := tbl.Scan().PlanFiles(w.Context())
	if err != nil {
		w.Fatal(err)
	}
	var out []string
	for _, t := range tasks {
		out = append(out, t.File.FilePath()[len(c.uri)+1:])
	}
	slices.Sort(out)
	return out
}

// whole checks that the table has exactly the files that count.
func (w *world) whole(c *Committer, n int) {
	w.Helper()
	v, err := lake.Open(w.Context(), w.bucket, "readings")
	if err != nil {
		w.Fatal(err)
	}
	var want []string
	for e, err := range v.Files(w.Context(), time.Time{}, time.Time{}) {
		if err != nil {
			w.Fatal(err)
		}
		want = append(want, e.Key)
	}
	slices.Sort(want)
	if got := w.keys(c); len(got) != n || !slices.Equal(got, want) {
		w.Fatalf("the table has %d files, want %d:\n%q\n%q", len(got), n, got, want)
	}
}

// missing skips a test whose real part is not there, or fails it where everything is required.
func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("TOCSIN_REQUIRE_REAL") != "" {
		t.Fatal("NOT TESTED: " + what)
	}
	t.Skip("NOT TESTED: " + what)
}

func freePort(t *testing.T) int {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = ln.Close() }()
	return ln.Addr().(*net.TCPAddr).Port
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(120 * time.Second); !ok(); {
		if time.Now().After(end) {
			t.Fatalf("waited 120s for %s", what)
		}
		<-time.After(20 * time.Millisecond)
	}
}

func realS3(t *testing.T) objstore.Config {
	t.Helper()
	s := objstoretest.Start(t)
	return objstore.Config{URL: "s3://" + s.Bucket + "/plant", Endpoint: s.Endpoint, Region: s.Region, AccessKey: s.AccessKey, SecretKey: s.SecretKey, PathStyle: true, Timeout: 30 * time.Second}
}

// realREST runs Iceberg's own REST catalog. TOCSIN_ICEBERG_REST names the folder of its jars: make iceberg-test fetches them.
func realREST(t *testing.T) string {
	t.Helper()
	jars := os.Getenv("TOCSIN_ICEBERG_REST")
	if jars == "" {
		missing(t, "a REST catalog: TOCSIN_ICEBERG_REST names no folder of its jars (make iceberg-test fetches them)")
	}
	address := fmt.Sprintf("http://127.0.0.1:%d", freePort(t))
	cmd := exec.Command("java", "-Xmx256m", "-cp", filepath.Join(jars, "*"), filepath.Join("testdata", "rest", "Catalog.java"), address[strings.LastIndexByte(address, ':')+1:], t.TempDir())
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // SIGQUIT would print stacks and go on
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	eventually(t, "the REST catalog", func() bool {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, address+"/v1/config", http.NoBody)
		if err != nil {
			return false
		}
		res, err := client.Do(req)
		if err != nil {
			return false
		}
		return res.Body.Close() == nil && res.StatusCode == http.StatusOK
	})
	return address
}
