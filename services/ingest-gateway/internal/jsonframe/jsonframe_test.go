package jsonframe_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/tocsin-io/tocsin/pkg/frame"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	"github.com/tocsin-io/tocsin/services/ingest-gateway/internal/jsonframe"
)

// What protobuf's own JSON writer writes, we read as the same frame.
func TestReadsProtobufsJSON(t *testing.T) {
	var f frame.Frame
	rapid.Check(t, func(t *rapid.T) {
		m := &eventv1.SensorFrame{
			EquipmentId: rapid.String().Draw(t, "equipment"), GatewayId: rapid.String().Draw(t, "gateway"),
			Sequence: rapid.Uint64().Draw(t, "sequence"), BaseTimeUs: rapid.Int64().Draw(t, "base"),
			TimeOffsetsUs: rapid.SliceOf(rapid.Uint64()).Draw(t, "offsets"), Sensors: rapid.SliceOf(rapid.String()).Draw(t, "sensors"),
			SchemaId: rapid.String().Draw(t, "schema"), Values: rapid.SliceOf(rapid.Float32()).Draw(t, "values"),
		}
		for i := range m.Values {
			if v := float64(m.Values[i]); math.IsInf(v, 0) || math.IsNaN(v) {
				m.Values[i] = 0 // protobuf writes them as strings: refused by name, see TestDecode
			}
			m.Qualities = append(m.Qualities, eventv1.Quality(rapid.Int32Range(0, 4).Draw(t, "quality")))
		}
		src, err := protojson.MarshalOptions{
			UseProtoNames: rapid.Bool().Draw(t, "names"), UseEnumNumbers: rapid.Bool().Draw(t, "numbers"), EmitUnpopulated: true,
		}.Marshal(m)
		if err != nil {
			t.Fatalf("%v", err)
		}
		if err := jsonframe.Decode(src, &f, 1000); err != nil {
			t.Fatalf("%v: %s", err, src)
		}
		want, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
		if err != nil {
			t.Fatalf("%v", err)
		}
		if got := f.AppendTo(nil); !bytes.Equal(got, want) {
			t.Fatalf("%s\n got %x\nwant %x", src, got, want)
		}
	})
}

func TestDecodeBoundsLists(t *testing.T) {
	var f frame.Frame
	for _, src := range []string{
		`{"values":[` + strings.Repeat("0,", 100) + `0]}`, `{"values":{` + strings.Repeat(`"a":1,`, 100) + `"b":1}}`,
		`{"sensors":[` + strings.Repeat(`"",`, 100) + `""]}`, `{"timeOffsetsUs":[` + strings.Repeat("0,", 100) + `0]}`,
		`{"qualities":[` + strings.Repeat("0,", 100) + `0]}`,
	} {
		var fe *frame.FieldError
		if err := jsonframe.Decode([]byte(src), &f, 50); !errors.As(err, &fe) || fe.Reason != "more than 50 elements" {
			t.Errorf("%v", err)
		}
	}
}

// Values come back from any body that holds them, whatever stands between and inside of them.
func TestReaderSplits(t *testing.T) {
	space := rapid.SampledFrom([]string{"", " ", "\n", " \t\r\n"})
	value := rapid.Custom(func(t *rapid.T) string {
		switch rapid.IntRange(0, 3).Draw(t, "kind") {
		case 0:
			b, _ := json.Marshal(map[string]any{rapid.String().Draw(t, "k"): rapid.String().Draw(t, "v")})
			return string(b)
		case 1:
			b, _ := json.Marshal([]any{[]string{rapid.String().Draw(t, "s")}, rapid.Int().Draw(t, "i")})
			return string(b)
		case 2:
			return `{"values":[NaN,-Infinity]}` // not JSON, but its brackets match
		default:
			b, _ := json.Marshal(rapid.String().Draw(t, "s"))
			return string(b)
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		values := rapid.SliceOfN(value, 1, 6).Draw(t, "values")
		array := rapid.Bool().Draw(t, "array")
		if !array && strings.HasPrefix(values[0], "[") {
			array = true // it would be taken for the array
		}
		var b strings.Builder
		sp := func() { b.WriteString(space.Draw(t, "space")) }
		sp()
		if array {
			b.WriteString("[")
		}
		for i, v := range values {
			sp()
			if i > 0 && array {
				b.WriteString(",")
				sp()
			}
			b.WriteString(v)
			sp()
		}
		if array {
			b.WriteString("]")
			sp()
		}
		r := jsonframe.NewReader(strings.NewReader(b.String()), 1<<20)
		for i, want := range values {
			got, err := r.Next()
			if err != nil || string(got) != want {
				t.Fatalf("value %d of %q: %q %v", i, b.String(), got, err)
			}
		}
		if v, err := r.Next(); !errors.Is(err, io.EOF) {
			t.Fatalf("after the last of %q: %q %v", b.String(), v, err)
		}
		if r.Bulk() != (array || len(values) > 1) {
			t.Fatal("Bulk")
		}
	})
}

func FuzzDecode(f *testing.F) {
	for _, s := range []string{
		`{"equipment_id":"a","gateway_id":"g","sequence":1,"time_us":1,"values":{"a":1,"b":null}}`,
		`{"equipmentId":"a","gatewayId":"g","sequence":"1","baseTimeUs":"1","sensors":["a"],"values":[1],"qualities":["QUALITY_GOOD"]}`,
		`{"values":[NaN]}`, `{`, `[`, `{"values":[[[[`, `{"sequence":1e3}`, `{"a":"\ud800"}`, `null`, `{"values":{"a":1e99}}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		var fr frame.Frame
		err := jsonframe.Decode(src, &fr, 1000)
		var fe *frame.FieldError
		if err != nil {
			if !errors.As(err, &fe) || fe.Field == "" || len(err.Error()) > 600 {
				t.Fatalf("%v", err)
			}
			return
		}
		if !json.Valid(src) {
			t.Fatalf("accepted what is not JSON: %q", src)
		}
		var again frame.Frame
		if err := again.Unmarshal(fr.AppendTo(nil)); err != nil {
			t.Fatalf("what was accepted cannot be written: %v", err)
		}
		_ = fmt.Sprint(frame.Validate(&fr, frame.Limits{MaxValues: 1000, SchemaSensors: -1}))
	})
}
