package cli_test

import (
	"encoding/json"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/tocsin-io/tocsin/pkg/lake"
	"github.com/tocsin-io/tocsin/pkg/launch"
	"github.com/tocsin-io/tocsin/pkg/objstore"
)

func TestLakeFilesNamesWhatCounts(t *testing.T) {
	dir := t.TempDir()
	b, err := objstore.OpenDir(filepath.Join(dir, "lake"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = b.Close() }()
	day := time.Date(2026, 11, 20, 0, 0, 0, 0, time.UTC)
	src := lake.Source{Table: "readings", Topic: "telemetry.readings.v1", TopicID: [16]byte{1}}
	var raw []string
	for i, hour := range []int{0, 1, 30} {
		o := lake.Object{Source: src, First: int64(i * 10), End: int64(i*10 + 10), Rows: 10, Config: "test", SinceMS: day.Add(time.Duration(hour) * time.Hour).UnixMilli()}
		if err := b.PutIfAbsent(t.Context(), o.Key(), []byte("parquet"), o.Metadata()); err != nil {
			t.Fatal(err)
		}
		raw = append(raw, o.Key())
	}
	merged := lake.MergedKey("readings", day.UnixMilli(), 1, 0, 1, 0)
	if err := b.PutIfAbsent(t.Context(), merged, []byte("parquet"), nil); err != nil {
		t.Fatal(err)
	}
	m, err := lake.LoadManifest(t.Context(), b, "readings")
	if err != nil {
		t.Fatal(err)
	}
	m.Groups = []lake.Group{{HourMS: day.UnixMilli(), Covers: lake.Spans{lake.SourceName(src): {{First: 0, End: 10}}}, Files: []lake.File{{Key: merged}}}}
	if err := m.Commit(t.Context(), b, day, lake.Action{}); err != nil {
		t.Fatal(err)
	}

	files := func(args ...string) []string {
		t.Helper()
		code, out, stderr := tocsin(append([]string{"lake", "files", "--data-dir", dir}, args...)...)
		if code != launch.ExitOK {
			t.Fatalf("exit %d: %s", code, stderr)
		}
		return strings.Fields(out)
	}
	root := filepath.Join(dir, "lake") + "/"
	for _, c := range []struct {
		args string
		want []string
	}{
		{"readings", []string{merged, raw[1], raw[2]}},
		{"readings --from 2026-11-20T01", raw[1:]},
		{"readings --to 2026-11-20", []string{merged, raw[1]}},
		{"readings --from 2026-11-21 --to 2026-11-21T05", nil},
	} {
		got := files(strings.Fields(c.args)...)
		for i := range got {
			got[i] = strings.TrimPrefix(got[i], root)
		}
		if strings.Join(got, "\n") != strings.Join(c.want, "\n") {
			t.Errorf("%s: %q, want %q", c.args, got, c.want)
		}
	}
	var one struct {
		Address string
		Bytes   int64
		Merged  bool
	}
	if err := json.Unmarshal([]byte(files("readings", "--json", "--to", "2026-11-20T00")[0]), &one); err != nil || one.Address != root+merged || one.Bytes != 7 || !one.Merged {
		t.Errorf("%+v, %v", one, err)
	}
	if code, _, stderr := tocsin("lake", "files", "reedings", "--data-dir", dir); code == launch.ExitOK || !strings.Contains(stderr, "there are: readings") {
		t.Errorf("exit %d: %s", code, stderr)
	}
}
