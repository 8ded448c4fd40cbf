package icebergtable

import (
	_ "embed"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/tocsin-io/tocsin/pkg/lake"
)

//go:embed testdata/read.py
var readPy string

// python is an interpreter with pyiceberg, pyarrow and duckdb: TOCSIN_PYICEBERG names it, make iceberg-test installs it.
func python(t *testing.T) string {
	t.Helper()
	p := os.Getenv("TOCSIN_PYICEBERG")
	if p == "" {
		missing(t, "other engines: TOCSIN_PYICEBERG names no Python with pyiceberg, pyarrow, s3fs and duckdb (make iceberg-test installs one)")
	}
	return p
}

// What pyiceberg, pyarrow and DuckDB each make of the same rows.
type sums struct {
	Rows    int64   `json:"rows"`
	Offsets int64   `json:"offsets"`
	Values  float64 `json:"values"`
	Nulls   int64   `json:"nulls"`
	Shares  float64 `json:"shares"`
	Last    int64   `json:"last"`
}

// Other engines read the table while it grows, is merged, and gets a column.
func TestOtherEnginesReadTheSame(t *testing.T) {
	py := python(t)
	each(t, func(w *world) {
		if w.cfg.REST() {
			return // read.py asks SQL catalogs
		}
		c := w.committer(nil)
		w.raw(w.hour, 0, 0, 1000)
		w.raw(w.hour, 1, 0, 1000)
		w.sync(c)
		w.raw(w.hour.Add(time.Hour), 0, 1000, 1000)
		w.sync(c)
		w.engines(py, c, 3000)
		key := lake.MergedKey("readings", w.hour.UnixMilli(), 1, 0, 1, 0)
		if err := w.bucket.PutIfAbsent(w.Context(), key, encode(w.T, append(rows(0, 0, 1000), rows(1, 0, 1000)...)), nil); err != nil {
			w.Fatal(err)
		}
		m, err := lake.LoadManifest(w.Context(), w.bucket, "readings")
		if err != nil {
			w.Fatal(err)
		}
		all := []lake.Span{{First: 0, End: 1000}}
		m.Groups = []lake.Group{{HourMS: w.hour.UnixMilli(), Covers: lake.Spans{lake.SourceName(source(0)): all, lake.SourceName(source(1)): all}, Files: []lake.File{{Key: key}}}}
		if err := m.Commit(w.Context(), w.bucket, time.Now(), lake.Action{}); err != nil {
			w.Fatal(err)
		}
		note := "new"
		put(w, w.hour.Add(time.Hour), 1, 1000, []newer{{rows(1, 1000, 1)[0], &note}})
		w.sync(c)
		w.whole(c, 3)
		w.engines(py, c, 3001)
	})
}

// engines asks each for its sums and compares them with what was written.
func (w *world) engines(py string, c *Committer, want int64) {
	w.Helper()
	tbl, err := c.cat.LoadTable(w.Context(), c.ident("readings"))
	if err != nil {
		w.Fatal(err)
	}
	v, err := lake.Open(w.Context(), w.bucket, "readings")
	if err != nil {
		w.Fatal(err)
	}
	files := []string{}
	for e, err := range v.Files(w.Context(), time.Time{}, time.Time{}) {
		if err != nil {
			w.Fatal(err)
		}
		files = append(files, c.uri+"/"+e.Key)
	}
	uri := w.cfg.Catalog
	if uri == "" {
		uri = "sqlite:///" + w.store.URL[len("file://"):] + "/tocsin/_iceberg/catalog.db"
	}
	ask, err := json.Marshal(map[string]any{
		"catalog": uri, "files": files, "metadata": tbl.MetadataLocation(), "endpoint": w.store.Endpoint, "access": w.store.AccessKey, "secret": w.store.SecretKey,
	})
	if err != nil {
		w.Fatal(err)
	}
	script := filepath.Join(w.TempDir(), "read.py")
	if err := os.WriteFile(script, []byte(readPy), 0o600); err != nil {
		w.Fatal(err)
	}
	cmd := exec.CommandContext(w.Context(), py, script, string(ask))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		w.Fatalf("%v\n%s", err, out)
	}
	var got map[string]sums
	if err := json.Unmarshal(out, &got); err != nil {
		w.Fatalf("%v: %s", err, out)
	}
	if len(got) < 3 {
		w.Fatalf("only %v", got)
	}
	first := got["pyiceberg"]
	if first.Rows != want || first.Nulls == 0 || first.Values == 0 || first.Shares != 0.75*float64(want) {
		w.Errorf("pyiceberg: %+v, want %d rows", first, want)
	}
	for engine, s := range got {
		if s != first {
			w.Errorf("%s: %+v\npyiceberg: %+v", engine, s, first)
		}
	}
}
