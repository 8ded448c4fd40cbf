package icebergtable

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/pkg/icebergconfig"
	"github.com/tocsin-io/tocsin/pkg/lake"
	"github.com/tocsin-io/tocsin/pkg/objstore"
	"github.com/tocsin-io/tocsin/pkg/postgrestest"
)

const envLake = "ICEBERG_COMMITTER_TEST_LAKE"

func TestMain(m *testing.M) {
	if dir := os.Getenv(envLake); dir != "" {
		os.Exit(committerProcess(dir))
	}
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("database/sql.(*DB).connectionOpener"))
}

// committerProcess commits without pause until it is killed.
func committerProcess(dir string) int {
	store := objstore.DefaultConfig(dir)
	b, err := objstore.Open(context.Background(), store)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	c, err := New(icebergconfig.DefaultIceberg(), store, b, []string{"readings"}, zap.NewNop(), silent{})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	for {
		if err := c.Sync(context.Background()); err != nil {
			fmt.Println(err)
		}
	}
}

func each(t *testing.T, test func(*world)) {
	t.Run("directory and SQLite", func(t *testing.T) { test(inDirectory(t)) })
	t.Run("S3 and PostgreSQL", func(t *testing.T) {
		store := realS3(t)
		test(newWorld(t, store, postgrestest.Start(t).Database(t)))
	})
	t.Run("directory and REST", func(t *testing.T) { test(newWorld(t, objstore.DefaultConfig(t.TempDir()), realREST(t))) })
}

func TestTableFollowsTheLake(t *testing.T) {
	each(t, func(w *world) {
		c := w.committer(nil)
		w.sync(c) // nothing there yet
		w.raw(w.hour, 0, 0, 10)
		w.raw(w.hour, 1, 100, 10) // a log that does not begin at 0
		w.sync(c)
		w.whole(c, 2)
		w.sync(c)
		tbl, err := c.cat.LoadTable(w.Context(), c.ident("readings"))
		if err != nil {
			w.Fatal(err)
		}
		if n := len(tbl.Metadata().Snapshots()); n != 1 {
			w.Errorf("%d snapshots: one is made although nothing is new", n)
		}
		if got := tbl.CurrentSnapshot().Summary.Properties[summaryOffsets]; !strings.Contains(got, `/0":10`) || !strings.Contains(got, `/1":110`) {
			w.Errorf("offsets %s", got)
		}
		w.raw(w.hour, 0, 10, 10)
		w.raw(w.hour.Add(time.Hour), 0, 20, 10)
		again := w.committer(nil) // after a restart
		w.sync(again)
		w.whole(again, 4)
		w.raw(w.hour.Add(-100*24*time.Hour), 2, 0, 5) // a partition whose records are that old
		w.sync(w.committer(nil))
		w.whole(again, 5)

		// The hour is merged.
		v, err := lake.Open(w.Context(), w.bucket, "readings")
		if err != nil {
			w.Fatal(err)
		}
		key := lake.MergedKey("readings", w.hour.UnixMilli(), 1, 0, 1, 0)
		if err := w.bucket.PutIfAbsent(w.Context(), key, encode(w.T, append(rows(0, 0, 20), rows(1, 100, 10)...)), nil); err != nil {
			w.Fatal(err)
		}
		m := v.Manifest
		m.Groups = []lake.Group{{HourMS: w.hour.UnixMilli(), Covers: lake.Spans{lake.SourceName(source(0)): {{First: 0, End: 20}}, lake.SourceName(source(1)): {{First: 100, End: 110}}}, Files: []lake.File{{Key: key}}}}
		if err := m.Commit(w.Context(), w.bucket, time.Now(), lake.Action{}); err != nil {
			w.Fatal(err)
		}
		w.raw(w.hour.Add(time.Hour), 1, 110, 10)
		w.sync(again)
		w.whole(again, 4)
		w.raw(w.hour.Add(time.Hour), 1, 120, 10)
		w.sync(again)
		w.whole(again, 5)
		fresh := newWorld(w.T, w.store, w.cfg.Catalog)
		fresh.cfg.Namespace = "second" // a table that begins with a lake that has been merged
		c2 := fresh.committer(nil)
		fresh.sync(c2)
		fresh.whole(c2, 5)
	})
}

// hooked calls before each List.
type hooked struct {
	objstore.Bucket
	list func()
}

func (h hooked) List(ctx context.Context, prefix string) iter.Seq2[objstore.Info, error] {
	h.list()
	return h.Bucket.List(ctx, prefix)
}

// Each time a committer has loaded the table, another is faster.
// Without a list, what stands in the lake is looked after, from the moment that it does.
func TestEveryTableOfTheLake(t *testing.T) {
	each(t, func(w *world) {
		c := w.committerOf(nil)
		w.sync(c) // no lake yet
		w.raw(w.hour, 0, 0, 10)
		m, err := lake.LoadManifest(w.Context(), w.bucket, "readings")
		if err != nil {
			w.Fatal(err)
		}
		if err := m.Commit(w.Context(), w.bucket, time.Now(), lake.Action{}); err != nil { // a folder that is no table
			w.Fatal(err)
		}
		w.sync(c)
		w.whole(c, 1)
		o := lake.Object{Source: source(0), End: 3, SinceMS: w.hour.UnixMilli(), Rows: 3, Config: "test"}
		o.Table = "alerts"
		if err := w.bucket.PutIfAbsent(w.Context(), o.Key(), encode(w.T, rows(0, 0, 3)), o.Metadata()); err != nil {
			w.Fatal(err)
		}
		w.sync(c)
		var got []string
		for ident, err := range c.cat.ListTables(w.Context(), []string{w.cfg.Namespace}) {
			if err != nil {
				w.Fatal(err)
			}
			got = append(got, strings.Join(ident, "."))
		}
		if slices.Sort(got); !slices.Equal(got, []string{w.cfg.Namespace + ".alerts", w.cfg.Namespace + ".readings"}) {
			w.Errorf("tables %q", got)
		}
	})
}

func TestLostRacesCommitNothingTwice(t *testing.T) {
	each(t, func(w *world) {
		fast := w.committer(nil)
		races := 0
		slow := w.committer(hooked{w.bucket, func() {
			if races < 3 {
				races++
				w.raw(w.hour, 0, int64(races)*10, 10)
				w.sync(fast)
			}
		}})
		w.raw(w.hour, 0, 0, 10)
		w.sync(slow)
		w.raw(w.hour, 0, 40, 10)
		w.sync(slow)
		w.whole(slow, 5)
	})
}

// A listing passes a folder; then a file is put there, and its successor into a folder that is still to be listed.
func TestAFileThatAListingMisses(t *testing.T) {
	w := inDirectory(t)
	w.raw(w.hour, 0, 0, 10)
	c := w.committer(nil)
	w.sync(c)
	day := w.hour.Truncate(24 * time.Hour)
	var once atomic.Bool
	blind := &passing{Bucket: w.bucket, hide: once.CompareAndSwap}
	first := w.raw(day.Add(-time.Hour), 0, 10, 10)
	w.raw(w.hour, 0, 20, 10)
	blind.key = first
	c = w.committer(blind)
	w.sync(c)
	w.whole(c, 3)
}

// passing hides a key in the first listing that would show it.
type passing struct {
	objstore.Bucket
	key  string
	hide func(before, after bool) bool
}

func (p *passing) List(ctx context.Context, prefix string) iter.Seq2[objstore.Info, error] {
	return func(yield func(objstore.Info, error) bool) {
		for info, err := range p.Bucket.List(ctx, prefix) {
			if err == nil && info.Key == p.key && p.hide(false, true) {
				continue
			}
			if !yield(info, err) {
				return
			}
		}
	}
}

func TestNewColumns(t *testing.T) {
	w := inDirectory(t)
	c := w.committer(nil)
	w.raw(w.hour, 0, 0, 10)
	w.sync(c)
	note := "new"
	put(w, w.hour, 0, 10, []newer{{rows(0, 10, 1)[0], &note}})
	w.sync(c)
	w.whole(c, 2)
	tbl, err := c.cat.LoadTable(w.Context(), c.ident("readings"))
	if err != nil {
		w.Fatal(err)
	}
	if f, ok := tbl.Schema().FindFieldByName("note"); !ok || f.Required {
		t.Errorf("%+v %v", f, ok)
	}
}

func TestExpiryRemovesMetadataAndNoData(t *testing.T) {
	each(t, func(w *world) {
		c := w.committer(nil)
		for i := range int64(6) {
			w.raw(w.hour, 0, i*10, 10)
			w.sync(c)
		}
		tbl, err := c.cat.LoadTable(w.Context(), c.ident("readings"))
		if err != nil {
			w.Fatal(err)
		}
		lists := tbl.Metadata().Snapshots()
		if len(lists) != 6 {
			w.Fatalf("%d snapshots", len(lists))
		}
		if err := c.Expire(w.Context(), "readings", 0); err != nil {
			w.Fatal(err)
		}
		w.whole(c, 6)
		fs, err := tbl.FS(w.Context())
		if err != nil {
			w.Fatal(err)
		}
		for i, s := range lists {
			f, err := fs.Open(s.ManifestList)
			if err == nil {
				_, err = f.Stat()
				_ = f.Close()
			}
			if (err == nil) != (i == len(lists)-1) {
				w.Errorf("manifest list %d: %v", i, err)
			}
		}
		w.raw(w.hour, 0, 60, 10)
		again := w.committer(nil)
		w.sync(again)
		w.whole(again, 7)
	})
}

// kill -9 at any moment, with another committer beside it: each file once.
func TestKill9(t *testing.T) {
	w := inDirectory(t)
	const kills = 8
	n := int64(0)
	dir := strings.TrimPrefix(w.store.URL, "file://")
	for i := range kills {
		var out strings.Builder
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), envLake+"="+dir)
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		c := w.committer(nil)
		before := 0
		if i > 0 {
			w.sync(c)
			before = len(w.keys(c))
		}
		for range 5 {
			w.raw(w.hour, 0, n*10, 10)
			n++
		}
		eventually(t, "a commit of the process", func() bool {
			if _, err := os.Stat(filepath.Join(dir, "tocsin", "_iceberg", "catalog.db")); err != nil {
				return false
			}
			if i == 0 {
				return true
			}
			return len(w.keys(c)) > before
		})
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		if strings.Contains(out.String(), "panic") {
			t.Fatal(out.String())
		}
	}
	c := w.committer(nil)
	w.sync(c)
	w.whole(c, int(n))
}

func TestAnotherLakeIsRefused(t *testing.T) {
	w := inDirectory(t)
	w.raw(w.hour, 0, 0, 10)
	c := w.committer(nil)
	w.sync(c)
	m, err := lake.LoadManifest(t.Context(), w.bucket, "readings")
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Commit(t.Context(), w.bucket, time.Now(), lake.Action{}); err != nil {
		t.Fatal(err)
	}
	w.raw(w.hour, 0, 10, 10)
	w.sync(c)
	w.whole(c, 2)
	other := inDirectory(t)
	other.raw(other.hour, 0, 0, 10)
	other.cfg.Catalog = "sqlite://" + strings.TrimPrefix(w.store.URL, "file://") + "/tocsin/_iceberg/catalog.db"
	if err := other.committer(nil).Sync(t.Context()); err == nil || !strings.Contains(err.Error(), "another lake") {
		t.Errorf("%v", err)
	}
}

var errDown = errors.New("store is down")

func TestRunGoesOnAfterFailures(t *testing.T) {
	w := inDirectory(t)
	w.raw(w.hour, 0, 0, 10)
	w.cfg.Interval = time.Millisecond
	var down atomic.Bool
	down.Store(true)
	c := w.committer(outage{w.bucket, &down})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.Run(ctx)
	}()
	eventually(t, "a failure", func() bool { return errors.Is(c.Ready(), errDown) })
	down.Store(false)
	eventually(t, "success", func() bool { return c.Ready() == nil && time.Since(c.Synced()) < time.Hour })
	cancel()
	<-done
	w.sync(c)
	w.whole(c, 1)
}

type outage struct {
	objstore.Bucket
	down *atomic.Bool
}

func (o outage) List(ctx context.Context, prefix string) iter.Seq2[objstore.Info, error] {
	if !o.down.Load() {
		return o.Bucket.List(ctx, prefix)
	}
	return func(yield func(objstore.Info, error) bool) { yield(objstore.Info{}, errDown) }
}
