package historicalapi

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"
	"go.uber.org/goleak"

	"github.com/tocsin-io/tocsin/pkg/kafka"
	"github.com/tocsin-io/tocsin/pkg/lake"
	"github.com/tocsin-io/tocsin/pkg/objstore"
	"github.com/tocsin-io/tocsin/pkg/objstore/objstoretest"
	"github.com/tocsin-io/tocsin/pkg/service"
	"github.com/tocsin-io/tocsin/services/historical-api/internal/usage"
)

// sqlWorker is the program that queries run in, built without the race detector: that one needs more memory than a query may take.
var sqlWorker string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "sql-worker-")
		if err != nil {
			panic(err)
		}
		defer os.RemoveAll(dir)
		if cc, err := exec.Command("go", "env", "CC").Output(); err == nil {
			if _, err := exec.LookPath(string(bytes.TrimSpace(cc))); err == nil {
				out := filepath.Join(dir, "sql-worker")
				cmd := exec.Command("go", "build", "-o", out, "./cmd/sql-worker")
				cmd.Env = append(os.Environ(), "CGO_ENABLED=1")
				if text, err := cmd.CombinedOutput(); err != nil {
					fmt.Fprintf(os.Stderr, "%s: %v\n", text, err)
					return 1
				}
				sqlWorker = out
			}
		}
		code := m.Run()
		http.DefaultClient.CloseIdleConnections()
		if code == 0 {
			if err := goleak.Find(); err != nil {
				fmt.Fprintln(os.Stderr, err)
				return 1
			}
		}
		return code
	}())
}

func engine(t testing.TB) string {
	t.Helper()
	if sqlWorker == "" {
		if os.Getenv("TOCSIN_REQUIRE_REAL") == "1" {
			t.Fatal("no C compiler: the SQL engine cannot be built")
		}
		t.Skip("NOTHING IS ASKED IN SQL HERE: no C compiler, so the engine cannot be built")
	}
	return sqlWorker
}

// reading has the columns of the lake's table.
type reading struct {
	EquipmentID   string   `parquet:"equipment_id,dict"`
	TS            int64    `parquet:"ts,timestamp(microsecond),delta"`
	Sensor        string   `parquet:"sensor,dict"`
	Value         *float32 `parquet:"value,optional,split"`
	Quality       string   `parquet:"quality,dict"`
	Validity      string   `parquet:"validity,dict"`
	Disposition   string   `parquet:"disposition,dict"`
	Late          bool     `parquet:"late"`
	GatewayID     string   `parquet:"gateway_id,dict"`
	Sequence      int64    `parquet:"sequence,delta"`
	Sample        int32    `parquet:"sample,delta"`
	LogAppendTime int64    `parquet:"log_append_time,timestamp(microsecond),delta"`
	Partition     int32    `parquet:"partition,dict"`
	Offset        int64    `parquet:"offset,delta"`
}

// begin is when the tests' fleet began to run.
var begin = time.Date(2026, 11, 2, 0, 0, 0, 0, time.UTC)

// secret is what only those may see who see machine vault-1.
const secret = "koh-i-noor"

type fixture struct {
	t      testing.TB
	dir    string // of a lake in a directory
	lake   objstore.Config
	bucket objstore.Bucket
	offset int64
}

func newLake(t testing.TB) *fixture {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "lake")
	return openLake(t, objstore.DefaultConfig(dir), dir)
}

func openLake(t testing.TB, cfg objstore.Config, dir string) *fixture {
	t.Helper()
	f := &fixture{t: t, dir: dir, lake: cfg}
	var err error
	if f.bucket, err = objstore.Open(context.Background(), cfg); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.bucket.Close() })
	return f
}

// onStores runs a test over a lake in a directory and over one on a real S3 server.
func onStores(t *testing.T, test func(t *testing.T, f *fixture)) {
	t.Run("directory", func(t *testing.T) { test(t, newLake(t)) })
	t.Run("S3", func(t *testing.T) {
		s := objstoretest.Start(t)
		test(t, openLake(t, objstore.Config{
			URL: "s3://" + s.Bucket + "/plant", Endpoint: s.Endpoint, Region: s.Region, AccessKey: s.AccessKey, SecretKey: s.SecretKey, PathStyle: true, Timeout: time.Minute,
		}, ""))
	})
}

// store puts rows into the folder of an hour.
func store[T any](f *fixture, table string, at time.Time, rows []T) {
	f.t.Helper()
	var b bytes.Buffer
	w := parquet.NewGenericWriter[T](&b)
	if _, err := w.Write(rows); err != nil {
		f.t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		f.t.Fatal(err)
	}
	o := lake.Object{
		Source: lake.Source{Table: table, Topic: "telemetry." + table + ".v1", TopicID: [16]byte{1}}, First: f.offset, End: f.offset + int64(len(rows)),
		SinceMS: at.UnixMilli(), Rows: int64(len(rows)), Config: "test",
	}
	f.offset = o.End
	if err := f.bucket.PutIfAbsent(context.Background(), o.Key(), b.Bytes(), o.Metadata()); err != nil {
		f.t.Fatal(err)
	}
}

// day stores an hour of two machines of line a, and of vault-1, whose sensor has a secret name.
func (f *fixture) hour(at time.Time) {
	var rows []reading
	for _, m := range []struct{ id, sensor string }{{"line-a-1", "temperature"}, {"line-a-2", "temperature"}, {"vault-1", secret}} {
		for i := range 360 {
			v := float32(20 + i%10)
			us := at.Add(time.Duration(i) * 10 * time.Second).UnixMicro()
			rows = append(rows, reading{
				EquipmentID: m.id, TS: us, Sensor: m.sensor, Value: &v, Quality: "good", Validity: "good", Disposition: "on_time",
				GatewayID: "gw-1", Sequence: int64(i), LogAppendTime: us, Offset: int64(i),
			})
		}
	}
	store(f, "readings", at, rows)
}

const (
	adminToken = "0123456789-admin"
	lineToken  = "0123456789-line-a"
)

func people() []Person {
	return []Person{{"ada", adminToken, []string{"*"}}, {"bo", lineToken, []string{"line-a-*"}}}
}

type running struct {
	t    testing.TB
	svc  *Service
	url  string
	stop func()
}

func start(t testing.TB, f *fixture, change func(*Config)) *running {
	t.Helper()
	return startOn(t, f, kafka.DefaultConfig(), change)
}

// startOn is start with a Kafka, which only checks need.
func startOn(t testing.TB, f *fixture, broker kafka.Config, change func(*Config)) *running {
	t.Helper()
	cfg := DefaultConfig()
	cfg.HTTP.Listen = "127.0.0.1:0"
	cfg.HTTP.DrainTimeout = time.Second
	cfg.Lake = f.lake
	cfg.DataDir = t.TempDir()
	cfg.Refresh = 0
	cfg.Auth.People = people()
	cfg.Queries.Worker = engine(t)
	cfg.Queries.Wait = time.Minute
	if change != nil {
		change(&cfg)
	}
	deps := service.Nop()
	deps.Kafka = broker
	svc, err := New(cfg, deps)
	if err != nil {
		t.Fatalf("New: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- svc.Run(ctx) }()
	r := &running{t: t, svc: svc, url: "http://" + svc.Addr()}
	stopped := false
	r.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		select {
		case err := <-done:
			if err != nil {
				t.Errorf("Run: %v", err)
			}
		case <-time.After(2 * time.Minute):
			t.Error("Run does not end")
		}
	}
	t.Cleanup(r.stop)
	eventually(t, "ready", func() bool { return svc.Ready() == nil })
	return r
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(2 * time.Minute)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline:
			t.Fatalf("not %s", what)
		case <-tick.C:
		}
	}
}

// do sends a request and reads all of the answer.
func (r *running) do(ctx context.Context, token, method, path string, body any) (int, []byte, http.Header, error) {
	var in io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			r.t.Fatal(err)
		}
		in = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, r.url+path, in)
	if err != nil {
		r.t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, nil, err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.StatusCode, b, resp.Header, err
}

type answer struct {
	status int
	header http.Header
	text   string
	// Of an answer with rows.
	Columns   []struct{ Name, Type string }
	Rows      [][]any
	Truncated bool
	// Of a check on demand.
	Findings []usage.Finding
	Verdict  string
	// Of a problem.
	Detail, Field, Kind string
}

func (r *running) ask(token, method, path string, body any) answer {
	r.t.Helper()
	status, b, header, err := r.do(context.Background(), token, method, path, body)
	if err != nil {
		r.t.Fatal(err)
	}
	a := answer{status: status, header: header, text: string(b)}
	if header.Get("Content-Type") == "application/json" || header.Get("Content-Type") == "application/problem+json" {
		if err := json.Unmarshal(b, &a); err != nil {
			r.t.Fatalf("%s: %v", b, err)
		}
	}
	return a
}

func (r *running) sql(token, q string) answer {
	r.t.Helper()
	return r.ask(token, "POST", "/v1/sql", map[string]any{"sql": q})
}
