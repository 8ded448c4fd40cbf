package objstore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
)

// conformance is what both kinds of store must do. open gives the same, empty store each time it is called.
func conformance(t *testing.T, open func(t *testing.T) Bucket) {
	for name, run := range map[string]func(*testing.T, Bucket){
		"put get head delete":  roundTrip,
		"never overwrites":     neverOverwrites,
		"one of many wins":     oneWins,
		"lists in key order":   lists,
		"names folders":        folders,
		"refuses bad keys":     refuses,
		"absent":               absent,
		"empty and large":      sizes,
		"ranges":               ranges,
		"canceled":             canceled,
		"probe leaves nothing": probes,
	} {
		t.Run(name, func(t *testing.T) {
			b := open(t)
			run(t, b)
			for range 2 {
				if err := b.Close(); err != nil {
					t.Fatalf("close: %v", err)
				}
			}
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func roundTrip(t *testing.T, b Bucket) {
	ctx := t.Context()
	meta := map[string]string{"first-offset": "12", "row-hash": "00ff a=b;c"}
	must(t, b.PutIfAbsent(ctx, "roundtrip/date=2026-01-02/hour=03/x.parquet", []byte("data"), meta))
	data, info, err := b.Get(ctx, "roundtrip/date=2026-01-02/hour=03/x.parquet", 4)
	must(t, err)
	head, err := b.Head(ctx, "roundtrip/date=2026-01-02/hour=03/x.parquet")
	must(t, err)
	if string(data) != "data" || info.Size != 4 || head.Size != 4 || head.Modified.IsZero() {
		t.Errorf("got %q, %+v, %+v", data, info, head)
	}
	for k, v := range meta {
		if info.Metadata[k] != v || head.Metadata[k] != v {
			t.Errorf("metadata %s: get %q, head %q, want %q", k, info.Metadata[k], head.Metadata[k], v)
		}
	}
	if _, _, err := b.Get(ctx, "roundtrip/date=2026-01-02/hour=03/x.parquet", 3); err == nil {
		t.Error("an object above the limit was read")
	}
	must(t, b.Delete(ctx, "roundtrip/date=2026-01-02/hour=03/x.parquet"))
	must(t, b.Delete(ctx, "roundtrip/date=2026-01-02/hour=03/x.parquet"))
	if _, err := b.Head(ctx, "roundtrip/date=2026-01-02/hour=03/x.parquet"); !errors.Is(err, ErrNotFound) {
		t.Errorf("head after delete: %v", err)
	}
	// The key is free again, and nothing of the former metadata is left.
	must(t, b.PutIfAbsent(ctx, "roundtrip/date=2026-01-02/hour=03/x.parquet", []byte("new"), nil))
	head, err = b.Head(ctx, "roundtrip/date=2026-01-02/hour=03/x.parquet")
	must(t, err)
	if head.Metadata["first-offset"] != "" {
		t.Errorf("metadata of the deleted object: %v", head.Metadata)
	}
}

func neverOverwrites(t *testing.T, b Bucket) {
	ctx := t.Context()
	must(t, b.PutIfAbsent(ctx, "once/k", []byte("first"), map[string]string{"n": "1"}))
	if err := b.PutIfAbsent(ctx, "once/k", []byte("second"), map[string]string{"n": "2"}); !errors.Is(err, ErrExists) {
		t.Fatalf("second write: %v", err)
	}
	data, info, err := b.Get(ctx, "once/k", 0)
	must(t, err)
	if string(data) != "first" || info.Metadata["n"] != "1" {
		t.Errorf("the loser's write shows: %q %v", data, info.Metadata)
	}
}

func oneWins(t *testing.T, b Bucket) {
	const writers = 16
	for round := range 4 {
		key := fmt.Sprintf("race/%d", round)
		var winner atomic.Int32
		winner.Store(-1)
		var wg sync.WaitGroup
		for i := range writers {
			wg.Go(func() {
				body := bytes.Repeat([]byte{byte('a' + i)}, 1000)
				for {
					err := b.PutIfAbsent(t.Context(), key, body, map[string]string{"writer": fmt.Sprint(i)})
					switch {
					case err == nil:
						if !winner.CompareAndSwap(-1, int32(i)) {
							t.Errorf("%s: writers %d and %d both won", key, winner.Load(), i)
						}
						return
					case errors.Is(err, ErrExists):
						return
					case !errors.Is(err, ErrConflict):
						t.Errorf("%s: %v", key, err)
						return
					}
				}
			})
		}
		wg.Wait()
		data, info, err := b.Get(t.Context(), key, 0)
		must(t, err)
		if w := winner.Load(); w < 0 || data[0] != byte('a'+w) || info.Metadata["writer"] != fmt.Sprint(w) {
			t.Errorf("%s: winner %d, data of %q, metadata %v", key, w, data[0], info.Metadata)
		}
	}
}

func collect(t *testing.T, b Bucket, prefix string) []string {
	t.Helper()
	var keys []string
	for info, err := range b.List(t.Context(), prefix) {
		must(t, err)
		if info.Size != int64(len(info.Key)) {
			t.Errorf("%s: size %d", info.Key, info.Size)
		}
		keys = append(keys, info.Key)
	}
	return keys
}

func lists(t *testing.T, b Bucket) {
	keys := []string{"l/a-b", "l/a/b", "l/a.b", "l/a0", "l/ab/c/d", "l/ab/c.d", "m/x"}
	for _, k := range keys {
		must(t, b.PutIfAbsent(t.Context(), k, []byte(k), map[string]string{"k": "v"}))
	}
	slices.Sort(keys)
	for _, prefix := range []string{"l/", "l/a", "l/a/", "l/ab", "l/ab/c", "nothing", "l/a0x", "m"} {
		var want []string
		for _, k := range keys {
			if strings.HasPrefix(k, prefix) {
				want = append(want, k)
			}
		}
		if got := collect(t, b, prefix); !slices.Equal(got, want) {
			t.Errorf("list %q: %q, want %q", prefix, got, want)
		}
	}
	n := 0
	for _, err := range b.List(t.Context(), "l/") {
		must(t, err)
		n++
		break
	}
	if n != 1 {
		t.Errorf("stopped list yielded %d", n)
	}
}

// wrapped is a Bucket that this package does not know.
type wrapped struct{ Bucket }

func folders(t *testing.T, b Bucket) {
	for _, k := range []string{"f/b/x", "f/b/c/y", "f/a-b/x", "f/a/x", "f/file", "g/x"} {
		must(t, b.PutIfAbsent(t.Context(), k, []byte(k), nil))
	}
	for dir, want := range map[string][]string{"f": {"a", "a-b", "b"}, "f/b": {"c"}, "g": nil, "nothing": nil} {
		for what, b := range map[string]Bucket{"": b, " (wrapped)": wrapped{b}} {
			got, err := Folders(t.Context(), b, dir)
			must(t, err)
			if slices.Sort(got); !slices.Equal(got, want) {
				t.Errorf("folders of %s%s: %q, want %q", dir, what, got, want)
			}
		}
	}
	if _, err := Folders(t.Context(), b, "../etc"); !errors.Is(err, ErrInvalidKey) {
		t.Errorf("folders outside: %v", err)
	}
}

var badKeys = []string{
	"", "/", "/etc/passwd", "a/", "a//b", ".", "..", "../x", "a/../../x", "a/..", "a/./b", ".objstore/lock", "a/.hidden", "a\\b", "a\x00b",
	"a\nb", "a b", "a*b", "é", "%2e%2e/x", "a/\xff", "C:/x?", strings.Repeat("a", 241), strings.Repeat("a/", 450) + "b",
}

func refuses(t *testing.T, b Bucket) {
	ctx := t.Context()
	for _, k := range badKeys {
		_, _, get := b.Get(ctx, k, 0)
		_, head := b.Head(ctx, k)
		for op, err := range map[string]error{"put": b.PutIfAbsent(ctx, k, nil, nil), "get": get, "head": head, "delete": b.Delete(ctx, k)} {
			if !errors.Is(err, ErrInvalidKey) {
				t.Errorf("%s %q: %v", op, k, err)
			}
		}
	}
	for k, v := range map[string]string{"Upper": "x", "": "x", "a b": "x", "a": "x\r\nx-amz-acl: public", "b": "é", "c": " x", "d": "", "e": strings.Repeat("x", 3000)} {
		if err := b.PutIfAbsent(ctx, "meta/refused", nil, map[string]string{k: v}); !errors.Is(err, ErrInvalidKey) {
			t.Errorf("metadata %q=%q: %v", k, v, err)
		}
	}
	if keys := collect(t, b, "meta/"); len(keys) != 0 {
		t.Errorf("refused writes left %q", keys)
	}
}

func absent(t *testing.T, b Bucket) {
	ctx := t.Context()
	must(t, b.PutIfAbsent(ctx, "absent/here", []byte("x"), nil))
	for _, k := range []string{"absent/not", "absent", "absent/here/below"} {
		if _, err := b.Head(ctx, k); !errors.Is(err, ErrNotFound) {
			t.Errorf("head %s: %v", k, err)
		}
		if _, _, err := b.Get(ctx, k, 0); !errors.Is(err, ErrNotFound) {
			t.Errorf("get %s: %v", k, err)
		}
	}
}

func sizes(t *testing.T, b Bucket) {
	ctx := t.Context()
	must(t, b.PutIfAbsent(ctx, "sizes/empty", nil, nil))
	data, _, err := b.Get(ctx, "sizes/empty", 0)
	must(t, err)
	if len(data) != 0 {
		t.Errorf("empty object has %d bytes", len(data))
	}
	large := bytes.Repeat([]byte("0123456789abcdef"), 12<<20/16)
	must(t, b.PutIfAbsent(ctx, "sizes/large", large, nil))
	data, _, err = b.Get(ctx, "sizes/large", 0)
	must(t, err)
	if !bytes.Equal(data, large) {
		t.Error("large object came back changed")
	}
}

func ranges(t *testing.T, b Bucket) {
	ctx := t.Context()
	data := bytes.Repeat([]byte("0123456789"), 1000)
	must(t, b.PutIfAbsent(ctx, "ranges/k", data, nil))
	for _, r := range [][2]int64{{0, 1}, {0, 10_000}, {9999, 1}, {17, 4321}} {
		got, err := b.GetRange(ctx, "ranges/k", r[0], r[1])
		if err != nil || !bytes.Equal(got, data[r[0]:r[0]+r[1]]) {
			t.Errorf("range %v: %d bytes, %v", r, len(got), err)
		}
	}
	for _, r := range [][2]int64{{0, 10_001}, {9999, 2}, {10_000, 1}, {-1, 2}, {0, 0}, {0, -1}, {1 << 62, 1 << 62}, {5, math.MaxInt64}} {
		if got, err := b.GetRange(ctx, "ranges/k", r[0], r[1]); err == nil {
			t.Errorf("range %v: %d bytes", r, len(got))
		}
	}
	if _, err := b.GetRange(ctx, "ranges/not", 0, 1); !errors.Is(err, ErrNotFound) {
		t.Errorf("range of an absent object: %v", err)
	}
}

func canceled(t *testing.T, b Bucket) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := b.PutIfAbsent(ctx, "canceled/k", []byte("x"), nil)
	if !errors.Is(err, context.Canceled) || Reason(err) != "canceled" {
		t.Errorf("put: %v (%s)", err, Reason(err))
	}
	for _, err := range b.List(ctx, "") {
		if err == nil {
			t.Error("list goes on after its context's end")
		}
	}
	if _, err := Folders(ctx, b, "x"); !errors.Is(err, context.Canceled) {
		t.Errorf("folders: %v", err)
	}
}

func probes(t *testing.T, b Bucket) {
	must(t, Probe(t.Context(), b))
	if keys := collect(t, b, "probe"); len(keys) != 0 {
		t.Errorf("probe left %q", keys)
	}
}
