package objstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) {
	if dir := os.Getenv("OBJSTORE_TEST_RACER"); dir != "" {
		os.Exit(racer(dir))
	}
	goleak.VerifyTestMain(m)
}

func openDir(t *testing.T, dir string) *Dir {
	t.Helper()
	d, err := OpenDir(dir)
	must(t, err)
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func TestDirConformance(t *testing.T) {
	conformance(t, func(t *testing.T) Bucket { return openDir(t, filepath.Join(t.TempDir(), "made", "by", "open")) })
}

// A crash at any step leaves either no object or the whole one, and never hinders the next write.
func TestDirCrashAtEachStep(t *testing.T) {
	crash := errors.New("crash")
	for _, step := range []string{"create", "metadata", "link", "sync"} {
		t.Run(step, func(t *testing.T) {
			dir := t.TempDir()
			d := openDir(t, dir)
			d.step = func(s string) error {
				if s == step {
					return crash
				}
				return nil
			}
			if err := d.PutIfAbsent(t.Context(), "a/b", []byte("first"), map[string]string{"n": "1"}); !errors.Is(err, crash) {
				t.Fatal(err)
			}
			again := openDir(t, dir)
			want, err := "second", again.PutIfAbsent(t.Context(), "a/b", []byte("second"), map[string]string{"n": "2"})
			if step == "sync" { // the link was made: the object is there
				if !errors.Is(err, ErrExists) {
					t.Fatal(err)
				}
				want, err = "first", nil
			}
			must(t, err)
			data, info, err := again.Get(t.Context(), "a/b", 0)
			must(t, err)
			if n := map[string]string{"first": "1", "second": "2"}[want]; string(data) != want || info.Metadata["n"] != n {
				t.Errorf("got %q %v, want %q", data, info.Metadata, want)
			}
		})
	}
}

// Half-written temporary files of dead processes are invisible, and swept when old.
func TestDirSweepsTemporaryFiles(t *testing.T) {
	dir := t.TempDir()
	must(t, openDir(t, dir).Close())
	old, young := filepath.Join(dir, tempDir, "OLD"), filepath.Join(dir, tempDir, "YOUNG")
	for _, f := range []string{old, young} {
		must(t, os.WriteFile(f, []byte("PAR1 half"), 0o644))
	}
	long := time.Now().Add(-2 * tempMaxAge)
	must(t, os.Chtimes(old, long, long))
	d := openDir(t, dir)
	if _, err := os.Stat(old); !errors.Is(err, fs.ErrNotExist) {
		t.Error("an old temporary file was kept")
	}
	if _, err := os.Stat(young); err != nil {
		t.Error("a young one, maybe in use, was removed")
	}
	if keys := collect(t, d, ""); len(keys) != 0 {
		t.Errorf("temporary files are listed: %q", keys)
	}
}

// Readers that look for *.parquet must see the objects only.
func TestDirShowsObjectsOnly(t *testing.T) {
	dir := t.TempDir()
	d := openDir(t, dir)
	must(t, d.PutIfAbsent(t.Context(), "t/date=1/x.parquet", []byte("x"), map[string]string{"a": "b"}))
	var found []string
	must(t, filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(p, ".parquet") {
			found = append(found, p)
		}
		return err
	}))
	if len(found) != 1 {
		t.Errorf("%q", found)
	}
}

// A symbolic link planted inside leads nowhere.
func TestDirDoesNotFollowLinksOut(t *testing.T) {
	outside, dir := t.TempDir(), t.TempDir()
	must(t, os.WriteFile(filepath.Join(outside, "secret"), []byte("s"), 0o644))
	must(t, os.Symlink(outside, filepath.Join(dir, "out")))
	d := openDir(t, dir)
	if data, _, err := d.Get(t.Context(), "out/secret", 0); err == nil {
		t.Errorf("read %q through a link", data)
	}
	if err := d.PutIfAbsent(t.Context(), "out/x", []byte("x"), nil); err == nil {
		t.Error("wrote through a link")
	}
	if err := d.Delete(t.Context(), "out/secret"); err == nil {
		t.Error("deleted through a link")
	}
	if _, err := os.Stat(filepath.Join(outside, "secret")); err != nil {
		t.Error(err)
	}
}

func FuzzDirKeysStayInside(f *testing.F) {
	for _, k := range badKeys {
		f.Add(k)
	}
	f.Add("tocsin/readings/date=2026-01-01/hour=00/a-b-00001-0000000000000000001.parquet")
	parent := f.TempDir()
	dir := filepath.Join(parent, "root")
	d, err := OpenDir(dir)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = d.Close() })
	f.Fuzz(func(t *testing.T, key string) {
		err := d.PutIfAbsent(t.Context(), key, []byte("x"), nil)
		if (ValidateKey(key) != nil) != errors.Is(err, ErrInvalidKey) {
			t.Fatalf("key %q: %v", key, err)
		}
		if err == nil {
			if _, e := os.Stat(filepath.Join(dir, filepath.FromSlash(key))); e != nil {
				t.Fatalf("key %q was stored elsewhere: %v", key, e)
			}
			must(t, d.Delete(t.Context(), key))
		}
		entries, e := os.ReadDir(parent)
		must(t, e)
		if len(entries) != 1 {
			t.Fatalf("key %q left the root: %v", key, entries)
		}
	})
}

// Random operations on two handles of one directory agree with a map.
func TestDirAgreesWithAMap(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "")
		must(t, err)
		handles := []*Dir{openDir(t, dir), openDir(t, dir)}
		defer func() {
			for _, h := range handles {
				_ = h.Close()
			}
		}()
		model := map[string]string{}
		ctx := context.Background()
		keys := rapid.SampledFrom([]string{"a", "b/c", "b/d", "b/e/f"})
		rt.Repeat(map[string]func(*rapid.T){
			"put": func(rt *rapid.T) {
				k, v := keys.Draw(rt, "key"), rapid.StringN(0, 8, 8).Draw(rt, "value")
				err := handles[rapid.IntRange(0, 1).Draw(rt, "handle")].PutIfAbsent(ctx, k, []byte(v), map[string]string{"size": fmt.Sprint(len(v))})
				if _, there := model[k]; there != errors.Is(err, ErrExists) || !there && err != nil {
					rt.Fatalf("put %s: %v", k, err)
				} else if !there {
					model[k] = v
				}
			},
			"delete": func(rt *rapid.T) {
				k := keys.Draw(rt, "key")
				if err := handles[rapid.IntRange(0, 1).Draw(rt, "handle")].Delete(ctx, k); err != nil {
					rt.Fatal(err)
				}
				delete(model, k)
			},
			"": func(rt *rapid.T) {
				n := 0
				for info, err := range handles[0].List(ctx, "") {
					if err != nil {
						rt.Fatal(err)
					}
					n++
					data, got, err := handles[1].Get(ctx, info.Key, 0)
					if err != nil || !bytes.Equal(data, []byte(model[info.Key])) || got.Metadata["size"] != fmt.Sprint(len(data)) {
						rt.Fatalf("get %s: %q %v %v, want %q", info.Key, data, got.Metadata, err, model[info.Key])
					}
				}
				if n != len(model) {
					rt.Fatalf("%d objects, want %d", n, len(model))
				}
			},
		})
	})
}

// Several processes write the same keys: each key has one winner, whose data and metadata both show.
func TestDirProcessesRace(t *testing.T) {
	dir := t.TempDir()
	var wg sync.WaitGroup
	wins := make([]string, 3)
	for i := range wins {
		wg.Go(func() {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), "OBJSTORE_TEST_RACER="+dir, "OBJSTORE_TEST_ID="+fmt.Sprint(i))
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Errorf("racer: %v\n%s", err, out)
			}
			wins[i] = string(out)
		})
	}
	wg.Wait()
	d := openDir(t, dir)
	for n := range racerKeys {
		key := fmt.Sprintf("race/%d", n)
		data, info, err := d.Get(t.Context(), key, 0)
		must(t, err)
		claimed := 0
		for i, w := range wins {
			if strings.Contains(w, " "+key+"\n") {
				claimed++
				if string(data) != fmt.Sprint(i) || info.Metadata["by"] != fmt.Sprint(i) {
					t.Errorf("%s: process %d claims it, data %q, metadata %v", key, i, data, info.Metadata)
				}
			}
		}
		if claimed != 1 {
			t.Errorf("%s has %d winners", key, claimed)
		}
	}
}

const racerKeys = 50

// racer is the body of a process of TestDirProcessesRace: it prints the keys it won.
func racer(dir string) int {
	id := os.Getenv("OBJSTORE_TEST_ID")
	d, err := OpenDir(dir)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer func() { _ = d.Close() }()
	for n := range racerKeys {
		key := fmt.Sprintf("race/%d", n)
		switch err := d.PutIfAbsent(context.Background(), key, []byte(id), map[string]string{"by": id}); {
		case err == nil:
			fmt.Printf("won %s\n", key)
		case !errors.Is(err, ErrExists):
			fmt.Println(err)
			return 1
		}
	}
	return 0
}
