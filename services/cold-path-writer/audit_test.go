package coldpathwriter

import (
	"errors"
	"strings"
	"testing"

	"github.com/tocsin-io/tocsin/pkg/kafka/kafkatest"
	"github.com/tocsin-io/tocsin/pkg/objstore"
)

// wholeLake is a lake of five files of readings, and their keys in order.
func wholeLake(t *testing.T) (objstore.Bucket, []string) {
	t.Helper()
	k := kafkatest.Start(t, 1)
	src, dir := newSource(t, k), t.TempDir()
	src.readings(0, 20)
	w := start(t, testConfig(dir), k, nil)
	awaitExact(t, dir, 20)
	w.stop(t)
	b := newFaulty(t, dir).Bucket
	var keys []string
	for info, err := range b.List(t.Context(), "tocsin/readings/") {
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, info.Key)
	}
	if len(keys) != 5 {
		t.Fatalf("%d files", len(keys))
	}
	return b, keys
}

// change replaces an object.
func change(t *testing.T, b objstore.Bucket, key string, edit func(data []byte, meta map[string]string) []byte) {
	t.Helper()
	data, info, err := b.Get(t.Context(), key, 0)
	if err != nil {
		t.Fatal(err)
	}
	data = edit(data, info.Metadata)
	if err := errors.Join(b.Delete(t.Context(), key), b.PutIfAbsent(t.Context(), key, data, info.Metadata)); err != nil {
		t.Fatal(err)
	}
}

func TestAudit(t *testing.T) {
	b, keys := wholeLake(t)
	audit := func(opts AuditOptions) AuditReport {
		t.Helper()
		r, err := Audit(t.Context(), b, opts)
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	kinds := func(r AuditReport) string {
		var s []string
		for _, f := range r.Findings {
			s = append(s, string(f.Kind))
		}
		return strings.Join(s, " ")
	}
	r := audit(AuditOptions{Tables: []string{"readings"}})
	if !r.OK() || r.Tables[0].Files != 5 || r.Tables[0].Rows != 200 || r.Tables[0].Partitions != 1 || r.Tables[0].Bytes == 0 {
		t.Fatalf("a whole lake: %+v", r)
	}
	if _, err := Audit(t.Context(), b, AuditOptions{Tables: []string{"nothing"}}); err == nil {
		t.Error("a table that is not there is audited")
	}

	saved, info, err := b.Get(t.Context(), keys[2], 0)
	if err != nil {
		t.Fatal(err)
	}
	restore := func() {
		t.Helper()
		if err := errors.Join(b.Delete(t.Context(), keys[2]), b.PutIfAbsent(t.Context(), keys[2], saved, info.Metadata)); err != nil {
			t.Fatal(err)
		}
	}
	edit := func(meta, value string) func([]byte, map[string]string) []byte {
		return func(d []byte, m map[string]string) []byte {
			m[meta] = value
			return d
		}
	}
	for name, c := range map[string]struct {
		do            func()
		deep, shallow string
	}{
		"a file is gone":    {func() { _ = b.Delete(t.Context(), keys[2]) }, "gap", "gap"},
		"rows were changed": {func() { change(t, b, keys[2], edit("row-hash", "abc")) }, "content metadata", ""},
		"bytes are damaged": {func() {
			change(t, b, keys[2], func(d []byte, _ map[string]string) []byte { d[100] ^= 1; return d })
		}, "content", ""},
		"cut off":        {func() { change(t, b, keys[2], func(d []byte, _ map[string]string) []byte { return d[:len(d)/2] }) }, "content", ""},
		"no metadata":    {func() { change(t, b, keys[2], func(d []byte, m map[string]string) []byte { clear(m); return d }) }, "metadata gap", "metadata gap"},
		"overlap":        {func() { change(t, b, keys[2], edit("end-offset", "1000000")) }, "metadata overlap overlap", "overlap overlap"},
		"somebody's own": {func() { _ = b.PutIfAbsent(t.Context(), "tocsin/readings/notes.txt", []byte("x"), nil) }, "foreign", "foreign"},
	} {
		c.do()
		if got := kinds(audit(AuditOptions{})); got != c.deep {
			t.Errorf("%s: %q, want %q", name, got, c.deep)
		}
		if got := kinds(audit(AuditOptions{Shallow: true})); got != c.shallow {
			t.Errorf("%s, shallow: %q, want %q", name, got, c.shallow)
		}
		_ = b.Delete(t.Context(), "tocsin/readings/notes.txt")
		restore()
	}
	if r := audit(AuditOptions{}); !r.OK() {
		t.Errorf("restored: %+v", r)
	}
}
