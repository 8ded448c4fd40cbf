package history

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"

	"github.com/tocsin-io/tocsin/pkg/objstore"
	"github.com/tocsin-io/tocsin/services/all-in-one/internal/csvfile"
	coldpathwriter "github.com/tocsin-io/tocsin/services/cold-path-writer"
)

func bucket(t *testing.T) objstore.Bucket {
	t.Helper()
	b, err := objstore.OpenDir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

func file(t *testing.T, name, body string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(body), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// audited is the number of files and rows of readings; the audit must find nothing wrong.
func audited(t *testing.T, b objstore.Bucket) (files, rows int64) {
	t.Helper()
	r, err := coldpathwriter.Audit(t.Context(), b, coldpathwriter.AuditOptions{Tables: []string{"readings"}})
	if err != nil || !r.OK() {
		t.Fatalf("%v %+v", err, r.Findings)
	}
	return r.Tables[0].Files, r.Tables[0].Rows
}

const plant = "time,asset,flow,pressure\n2024-02-01T10:00:00Z,pump 1,1.5,2\n2024-02-01T10:00:00Z,pump-2,1.25,NaN\n2024-02-01T10:01:00Z,pump 1,,2.5\n"

func TestImportOnce(t *testing.T) {
	b, path := bucket(t), file(t, "plant.csv", plant)
	opt := Options{CSV: csvfile.Options{EquipmentColumn: "asset"}, DryRun: true}
	if sum, err := Import(t.Context(), b, path, opt); err != nil || sum.Rows != 3 || sum.Machines != 2 || sum.Files != 0 {
		t.Fatalf("%+v %v", sum, err)
	}
	if _, rows := audited(t, b); rows != 0 {
		t.Fatalf("a dry run writes %d rows", rows)
	}
	opt.DryRun = false
	for again := range 2 {
		sum, err := Import(t.Context(), b, path, opt)
		if err != nil || sum.Values != 6 || sum.Files != 1 || sum.There != again || !sum.Last.Equal(time.Date(2024, 2, 1, 10, 1, 0, 0, time.UTC)) {
			t.Fatalf("%+v %v", sum, err)
		}
		if files, rows := audited(t, b); files != 1 || rows != 6 {
			t.Fatalf("%d files, %d rows", files, rows)
		}
	}
	// What else is in the file is another input.
	if sum, err := Import(t.Context(), b, file(t, "plant.csv", plant+"2024-02-01T10:02:00Z,pump-2,1,1\n"), opt); err != nil || sum.There != 0 {
		t.Fatalf("%+v %v", sum, err)
	}
	// Merged, rolled up and cleaned away, it is there all the same.
	o := coldpathwriter.MaintainOptions{Maintenance: coldpathwriter.DefaultMaintenance(), Now: func() time.Time { return time.Now().Add(72 * time.Hour) }}
	o.Maintenance.Grace = 0
	if err := coldpathwriter.Compact(t.Context(), b, o); err != nil {
		t.Fatal(err)
	}
	if files, rows := audited(t, b); files != 1 || rows != 6+8 {
		t.Fatalf("%d files, %d rows", files, rows)
	}
	if sum, err := Import(t.Context(), b, path, opt); err != nil || sum.There != 1 {
		t.Fatalf("%+v %v", sum, err)
	}
	if files, rows := audited(t, b); files != 1 || rows != 6+8 {
		t.Fatalf("%d files, %d rows", files, rows)
	}
}

type sample struct {
	At    int64    `parquet:"at,timestamp(millisecond)"`
	Asset string   `parquet:"asset"`
	Flow  *float64 `parquet:"flow,optional"`
	Runs  bool     `parquet:"runs"`
	Count int32    `parquet:"count"`
}

// failing breaks off at its n-th write.
type failing struct {
	objstore.Bucket
	left int
}

var errBroken = errors.New("broken off")

func (f *failing) PutIfAbsent(ctx context.Context, key string, data []byte, m map[string]string) error {
	if f.left--; f.left < 0 {
		return errBroken
	}
	return f.Bucket.PutIfAbsent(ctx, key, data, m)
}

func (f *failing) List(ctx context.Context, prefix string) iter.Seq2[objstore.Info, error] {
	return f.Bucket.List(ctx, prefix)
}

// An import that is broken off between two files is ended by the next.
func TestImportParquetBrokenOff(t *testing.T) {
	const n = 4000
	path := filepath.Join(t.TempDir(), "pumps.parquet")
	rows := make([]sample, n)
	for i := range rows {
		v := float64(i) / 4
		rows[i] = sample{At: 1_700_000_000_000 + int64(i)*1000, Asset: fmt.Sprint("pump-", i%3), Flow: &v, Runs: i%2 == 0, Count: int32(i)}
		if i%5 == 0 {
			rows[i].Flow = nil
		}
	}
	if err := parquet.WriteFile(path, rows); err != nil {
		t.Fatal(err)
	}
	b := bucket(t)
	opt := Options{CSV: csvfile.Options{EquipmentColumn: "asset"}, FileValues: 10_000}
	if _, err := Import(t.Context(), &failing{b, 1}, path, opt); !errors.Is(err, errBroken) {
		t.Fatal(err)
	}
	sum, err := Import(t.Context(), b, path, opt)
	if err != nil || sum.Rows != n || sum.Values != 3*n || sum.Files != 2 || sum.There != 1 || sum.Machines != 3 {
		t.Fatalf("%+v %v", sum, err)
	}
	if files, rows := audited(t, b); files != 2 || rows != 3*n {
		t.Errorf("%d files, %d rows", files, rows)
	}
}

func TestBadInputIsToldAndLeavesNothing(t *testing.T) {
	for name, c := range map[string]struct{ body, want, column string }{
		"number":  {"time,flow,speed\n2024-02-01T10:00:00Z,1,2\n2024-02-01T10:01:00Z,1,fast\n", `line 3, column 3 (speed): "fast" is not a number`, ""},
		"time":    {"time,flow\n2024-02-01T10:00:00Z,1\n" + strings.Repeat("2024-02-01T10:00:00Z,1\n", 300) + "yesterday,2\n", `line 303, column 1: time "yesterday" is not a time`, ""},
		"cells":   {"time,flow\n2024-02-01T10:00:00Z,1\n2024-02-01T10:01:00Z,1,2\n", "line 3", ""},
		"future":  {"time,flow\n2024-02-01T10:00:00Z,1\n2094-02-01T10:00:00Z,1\n", "line 3: time 2094-02-01T10:00:00Z is before 1970 or in the future", ""},
		"no time": {"flow\n1\n2\n", "no column holds times", ""},
		"nothing": {"time,flow\n", "", ""},
		"machine": {"time,asset,flow\n2024-02-01T10:00:00Z,a,1\n2024-02-01T10:00:00Z,,1\n", "line 3, column asset: names no machine", "asset"},
		"column":  {"time,flow\n2024-02-01T10:00:00Z,1\n", `equipment column "unit" is not in the header`, "unit"},
	} {
		t.Run(name, func(t *testing.T) {
			b := bucket(t)
			_, err := Import(t.Context(), b, file(t, "bad.csv", c.body), Options{CSV: csvfile.Options{EquipmentColumn: c.column}})
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v", err)
			}
			if _, rows := audited(t, b); rows != 0 {
				t.Errorf("%d rows are in the lake", rows)
			}
		})
	}
	path := filepath.Join(t.TempDir(), "x.parquet")
	if err := parquet.WriteFile(path, []struct {
		At   int64  `parquet:"at,timestamp(microsecond)"`
		Note string `parquet:"note"`
	}{{1, "x"}}); err != nil {
		t.Fatal(err)
	}
	if _, err := Import(t.Context(), bucket(t), path, Options{}); err == nil || !strings.Contains(err.Error(), "column 2 (note) holds no numbers") {
		t.Error(err)
	}
	if _, err := Import(t.Context(), bucket(t), file(t, "y.parquet", "PAR1 no file PAR1"), Options{}); err == nil {
		t.Error("a damaged file is imported")
	}
}
