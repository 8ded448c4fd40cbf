package lake

import (
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/tocsin-io/tocsin/pkg/objstore"
)

func example() Object {
	return Object{
		Source: Source{Table: "readings", Topic: "telemetry.readings.v1", TopicID: [16]byte{0xab, 15: 1}, Partition: 7},
		First:  1234, End: 2000, SinceMS: 1_767_225_600_123, Rows: 10, Hash: 99, Config: "rows=1,bytes=2,interval=5m0s",
	}
}

func TestKey(t *testing.T) {
	const want = "tocsin/readings/date=2026-01-01/hour=00/telemetry.readings.v1-ab000000000000000000000000000001-00007-0000000000000001234.parquet"
	o := example()
	if got := o.Key(); got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	parsed, err := ParseKey(o.Key())
	if err != nil {
		t.Fatal(err)
	}
	if parsed, err = parsed.WithMetadata(o.Metadata()); err != nil || parsed != o {
		t.Errorf("got %+v, %v", parsed, err)
	}
}

func TestKeysCanBeStoredAndParsed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		o := Object{
			Source: Source{Table: "windows", Topic: rapid.StringMatching(`[a-zA-Z0-9._-]{1,100}`).Draw(t, "topic"), Partition: rapid.Int32Min(0).Draw(t, "partition")},
			First:  rapid.Int64Min(0).Draw(t, "first"), SinceMS: rapid.Int64Range(0, 250_000_000_000_000).Draw(t, "since"),
		}
		copy(o.TopicID[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "id"))
		p, err := ParseKey(o.Key())
		if err != nil {
			t.Fatal(err)
		}
		if p.Source != o.Source || p.First != o.First || p.SinceMS/3_600_000 != o.SinceMS/3_600_000 {
			t.Fatalf("%+v became %+v", o, p)
		}
		if strings.HasPrefix(o.Topic, ".") {
			return // not ours
		}
		if err := objstore.ValidateKey(o.Key()); err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzParseKey(f *testing.F) {
	f.Add(example().Key())
	for _, k := range []string{"", "tocsin/readings", "tocsin/a/date=2026-01-01/hour=24/x-0-0-0.parquet", "tocsin/../date=2026-01-01/hour=00/-.parquet"} {
		f.Add(k)
	}
	f.Fuzz(func(t *testing.T, key string) {
		o, err := ParseKey(key)
		if err == nil && o.Key() != key {
			t.Fatalf("%q is parsed as %q", key, o.Key())
		}
		if err != nil && !errors.Is(err, ErrForeign) {
			t.Fatal(err)
		}
	})
}

func TestMetadataThatCannotBe(t *testing.T) {
	for name, change := range map[string]func(map[string]string){
		"missing": func(m map[string]string) { delete(m, "row-hash") }, "other first": func(m map[string]string) { m["first-offset"] = "1" },
		"end before first": func(m map[string]string) { m["end-offset"] = "1234" }, "no rows": func(m map[string]string) { m["rows"] = "0" }, "text": func(m map[string]string) { m["end-offset"] = "x" },
	} {
		m := example().Metadata()
		change(m)
		if _, err := example().WithMetadata(m); !errors.Is(err, ErrNoMetadata) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
