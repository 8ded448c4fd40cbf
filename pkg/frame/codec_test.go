package frame

import (
	"bytes"
	"errors"
	"math"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
)

// failer is a test of testing's or of rapid's.
type failer interface {
	Helper()
	Fatalf(format string, args ...any)
}

// checkAgainstGenerated holds Unmarshal and AppendTo against the generated code on any bytes.
func checkAgainstGenerated(t failer, f *Frame, src []byte) {
	t.Helper()
	var want eventv1.SensorFrame
	wantErr := proto.Unmarshal(src, &want)
	err := f.Unmarshal(src)
	if (err != nil) != (wantErr != nil) {
		t.Fatalf("%x: we say %v, the generated code says %v", src, err, wantErr)
	}
	if err != nil {
		return
	}
	checkEqual(t, f, &want)

	narrow := true // quality codes over one byte are folded into one, so such frames are not written back alike
	for _, q := range want.Qualities {
		narrow = narrow && uint32(q) < uint32(QualityUnknown)
	}
	if !narrow {
		return
	}
	want.ProtoReflect().SetUnknown(nil)
	canonical, err := proto.MarshalOptions{Deterministic: true}.Marshal(&want)
	if err != nil {
		t.Fatalf("marshal: %v", err)
	}
	if got := f.AppendTo([]byte("x")); !bytes.Equal(got[1:], canonical) || got[0] != 'x' {
		t.Fatalf("AppendTo\n got %x\nwant %x", got[1:], canonical)
	}
	if f.Size() != len(canonical) {
		t.Fatalf("Size() = %d, canonical encoding has %d bytes", f.Size(), len(canonical))
	}
}

func checkEqual(t failer, f *Frame, want *eventv1.SensorFrame) {
	t.Helper()
	if string(f.EquipmentID) != want.EquipmentId || string(f.GatewayID) != want.GatewayId || string(f.SchemaID) != want.SchemaId ||
		f.Sequence != want.Sequence || f.BaseTimeUS != want.BaseTimeUs {
		t.Fatalf("scalars differ: %+v, want %v", f, want)
	}
	if len(f.OffsetsUS) != len(want.TimeOffsetsUs) || len(f.Sensors) != len(want.Sensors) ||
		len(f.Values) != len(want.Values) || len(f.Qualities) != len(want.Qualities) {
		t.Fatalf("lengths differ: %+v, want %v", f, want)
	}
	for i, v := range want.TimeOffsetsUs {
		if f.OffsetsUS[i] != v {
			t.Fatalf("offset %d: %d, want %d", i, f.OffsetsUS[i], v)
		}
	}
	for i, v := range want.Sensors {
		if string(f.Sensors[i]) != v {
			t.Fatalf("sensor %d: %q, want %q", i, f.Sensors[i], v)
		}
	}
	for i, v := range want.Values {
		if math.Float32bits(f.Values[i]) != math.Float32bits(v) {
			t.Fatalf("value %d: %v, want %v", i, f.Values[i], v)
		}
	}
	for i, v := range want.Qualities {
		if f.Qualities[i] != quality(uint64(int64(v))) {
			t.Fatalf("quality %d: %d, want %d", i, f.Qualities[i], v)
		}
	}
}

// wireFields draws a message field by field: right and wrong wire types, packed and not, unknown fields, groups.
func wireFields(t *rapid.T, depth int) []byte {
	var b []byte
	for range rapid.IntRange(0, 12).Draw(t, "fields") {
		num := protowire.Number(rapid.OneOf(rapid.IntRange(1, 11), rapid.IntRange(1, 1<<29-1)).Draw(t, "num"))
		varint := rapid.OneOf(rapid.Uint64Range(0, 5), rapid.Uint64())
		switch rapid.IntRange(0, 8).Draw(t, "kind") {
		case 0:
			b = protowire.AppendVarint(protowire.AppendTag(b, num, protowire.VarintType), varint.Draw(t, "v"))
		case 1:
			b = protowire.AppendFixed32(protowire.AppendTag(b, num, protowire.Fixed32Type), rapid.Uint32().Draw(t, "v"))
		case 2:
			b = protowire.AppendFixed64(protowire.AppendTag(b, num, protowire.Fixed64Type), rapid.Uint64().Draw(t, "v"))
		case 3:
			b = protowire.AppendString(protowire.AppendTag(b, num, protowire.BytesType), rapid.StringN(0, 8, 20).Draw(t, "s"))
		case 4:
			b = protowire.AppendBytes(protowire.AppendTag(b, num, protowire.BytesType), rapid.SliceOfN(rapid.Byte(), 0, 12).Draw(t, "b"))
		case 5: // a packed run of varints
			var run []byte
			for range rapid.IntRange(0, 6).Draw(t, "n") {
				run = protowire.AppendVarint(run, varint.Draw(t, "v"))
			}
			b = protowire.AppendBytes(protowire.AppendTag(b, num, protowire.BytesType), run)
		case 6: // a packed run of floats
			var run []byte
			for range rapid.IntRange(0, 9).Draw(t, "n") {
				run = protowire.AppendFixed32(run, rapid.Uint32().Draw(t, "v"))
			}
			b = protowire.AppendBytes(protowire.AppendTag(b, protowire.Number(rapid.SampledFrom([]int{8, int(num)}).Draw(t, "num8")), protowire.BytesType), run)
		case 7:
			b = protowire.AppendTag(b, num, protowire.StartGroupType)
			if depth < 3 {
				b = append(b, wireFields(t, depth+1)...)
			}
			if rapid.IntRange(0, 9).Draw(t, "close") > 0 {
				b = protowire.AppendTag(b, num, protowire.EndGroupType)
			}
		case 8:
			b = append(b, rapid.SliceOfN(rapid.Byte(), 0, 2).Draw(t, "junk")...)
		}
	}
	return b
}

func TestUnmarshalEqualsGeneratedCode(t *testing.T) {
	var f Frame // one for all: what the last frame left behind must not show
	rapid.Check(t, func(t *rapid.T) {
		src := wireFields(t, 0)
		if rapid.IntRange(0, 9).Draw(t, "cut") == 0 && len(src) > 0 {
			src = src[:rapid.IntRange(0, len(src)-1).Draw(t, "len")]
		}
		checkAgainstGenerated(t, &f, src)
	})
}

func TestAppendToEqualsGeneratedCode(t *testing.T) {
	var f Frame
	rapid.Check(t, func(t *rapid.T) {
		msg := &eventv1.SensorFrame{
			EquipmentId: rapid.String().Draw(t, "equipment"), GatewayId: rapid.String().Draw(t, "gateway"),
			Sequence: rapid.Uint64().Draw(t, "sequence"), BaseTimeUs: rapid.Int64().Draw(t, "base"),
			TimeOffsetsUs: rapid.SliceOf(rapid.Uint64()).Draw(t, "offsets"), Sensors: rapid.SliceOf(rapid.String()).Draw(t, "sensors"),
			SchemaId: rapid.String().Draw(t, "schema"), Values: rapid.SliceOf(rapid.Float32()).Draw(t, "values"),
		}
		for range rapid.IntRange(0, 20).Draw(t, "n") {
			msg.Qualities = append(msg.Qualities, eventv1.Quality(rapid.Int32Range(0, 254).Draw(t, "q")))
		}
		src, err := proto.MarshalOptions{Deterministic: true}.Marshal(msg)
		if err != nil {
			t.Fatalf("marshal: %v", err)
		}
		checkAgainstGenerated(t, &f, src)
	})
}

func FuzzUnmarshal(f *testing.F) {
	for _, s := range wireCases() {
		f.Add(s.src)
	}
	for _, sh := range shapes {
		f.Add(sh.frame(20).AppendTo(nil))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		var fr Frame
		checkAgainstGenerated(t, &fr, src)
		// Whatever decodes may be validated, and what is valid stays so after a round trip.
		if fr.Unmarshal(src) != nil {
			return
		}
		lim := Limits{MaxValues: 1000, SchemaSensors: -1}
		err := Validate(&fr, lim)
		var again Frame
		if e := again.Unmarshal(fr.AppendTo(nil)); e != nil {
			t.Fatalf("canonical encoding is refused: %v", e)
		}
		if err2 := Validate(&again, lim); (err == nil) != (err2 == nil) {
			t.Fatalf("validity changed on the way: %v, then %v", err, err2)
		}
	})
}

type wireCase struct {
	name   string
	src    []byte
	accept bool
}

// wireCases are the corners of the wire format, each by name.
func wireCases() []wireCase {
	tag := func(num protowire.Number, typ protowire.Type) []byte { return protowire.AppendTag(nil, num, typ) }
	str := func(num protowire.Number, s string) []byte {
		return protowire.AppendString(tag(num, protowire.BytesType), s)
	}
	cat := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	return []wireCase{
		{"empty message", nil, true},
		{"last scalar wins", cat(str(1, "a"), str(1, "b"), []byte{0x18, 1, 0x18, 2}), true},
		{"a scalar set back to zero", cat(str(1, "a"), str(1, ""), []byte{0x18, 1, 0x18, 0}), true},
		{"unpacked offsets, values, qualities", []byte{0x28, 1, 0x28, 2, 0x45, 0, 0, 0x80, 0x3f, 0x45, 0, 0, 0, 0x40, 0x48, 1, 0x48, 3}, true},
		{"packed runs in pieces, with single ones between", []byte{0x2a, 2, 1, 2, 0x28, 3, 0x2a, 1, 4, 0x4a, 1, 1, 0x48, 2, 0x4a, 2, 3, 4}, true},
		{"empty packed runs", []byte{0x2a, 0, 0x42, 0, 0x4a, 0}, true},
		{"varints longer than needed", []byte{0x18, 0x81, 0x80, 0x00, 0x2a, 3, 0x82, 0x80, 0x00}, true},
		{"tag longer than needed", []byte{0x98, 0x80, 0x00, 7}, true},
		{"negative and over-wide qualities", append([]byte{0x4a, 23}, append(protowire.AppendVarint(nil, math.MaxUint64), append(protowire.AppendVarint(nil, 1<<40|2), append([]byte{0xac, 2}, 0x81, 0x80, 0x80, 0x80, 0)...)...)...), true},
		{"known field, wrong wire type", cat([]byte{0x08, 5, 0x1a, 1, 0xff, 0x35, 1, 2, 3, 4, 0x41, 1, 2, 3, 4, 5, 6, 7, 8}), true},
		{"unknown fields", cat(str(1000, "\xff"), []byte{0x58, 1}), true},
		{"unknown group with a nested one", cat(tag(20, 3), str(1, "x"), tag(21, 3), tag(21, 4), tag(20, 4)), true},
		{"known field as a group", cat(tag(1, 3), tag(1, 4)), true},
		{"group not closed", tag(20, 3), false},
		{"group closed by another number", cat(tag(20, 3), tag(21, 4)), false},
		{"end of a group that was not opened", tag(20, 4), false},
		{"field number 0", []byte{0x02, 0}, false},
		{"field number too large", protowire.AppendVarint(nil, uint64(protowire.MaxValidNumber+1)<<3), false},
		{"reserved wire type 6", []byte{0x0e}, false},
		{"reserved wire type 7 in an unknown field", []byte{0x67}, false},
		{"invalid UTF-8 in equipment_id", str(1, "\xff"), false},
		{"invalid UTF-8 in a sensor", cat(str(6, "ok"), str(6, "\xc3")), false},
		{"surrogate half in schema_id", str(7, "\xed\xa0\x80"), false},
		{"length beyond the end", []byte{0x0a, 5, 'a'}, false},
		{"length of 2^63", append([]byte{0x42}, protowire.AppendVarint(nil, 1<<63)...), false},
		{"packed floats not a multiple of four", []byte{0x42, 3, 0, 0, 0}, false},
		{"packed varint cut", []byte{0x2a, 1, 0x80}, false},
		{"packed quality cut", []byte{0x4a, 2, 1, 0x80}, false},
		{"varint over 64 bits", append([]byte{0x18}, bytes.Repeat([]byte{0xff}, 10)...), false},
		{"varint of 64 bits", append([]byte{0x18}, append(bytes.Repeat([]byte{0xff}, 9), 1)...), true},
		{"tag cut", []byte{0x80}, false},
		{"fixed32 cut", []byte{0x45, 0, 0}, false},
	}
}

func TestWireCorners(t *testing.T) {
	for _, c := range wireCases() {
		t.Run(c.name, func(t *testing.T) {
			var f Frame
			checkAgainstGenerated(t, &f, c.src)
			if err := f.Unmarshal(c.src); (err == nil) != c.accept {
				t.Fatalf("accepted: %v (%v), want %v", err == nil, err, c.accept)
			} else if err != nil && !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrInvalidUTF8) {
				t.Fatalf("error %v is of no known kind", err)
			}
		})
	}
}

func TestUnmarshalLimitBoundsMemory(t *testing.T) {
	empties := bytes.Repeat([]byte{0x32, 0}, 1<<20) // a million sensors without a name: 24 MB of slice headers
	floats := protowire.AppendBytes([]byte{0x42}, make([]byte, 4<<20))
	codes := protowire.AppendBytes([]byte{0x4a}, make([]byte, 1<<20))
	offsets := protowire.AppendBytes([]byte{0x2a}, make([]byte, 1<<20))
	for name, c := range map[string]struct {
		src  []byte
		kept func(*Frame) int
	}{
		"sensors":              {empties, func(f *Frame) int { return 24 * cap(f.Sensors) }},
		"values":               {floats, func(f *Frame) int { return 4 * cap(f.Values) }},
		"qualities":            {codes, func(f *Frame) int { return cap(f.Qualities) }},
		"time_offsets_us":      {offsets, func(f *Frame) int { return 8 * cap(f.OffsetsUS) }},
		"values unpacked":      {bytes.Repeat([]byte{0x45, 0, 0, 0, 0}, 1<<18), func(f *Frame) int { return 4 * cap(f.Values) }},
		"qualities one by one": {bytes.Repeat([]byte{0x48, 0}, 1<<18), func(f *Frame) int { return cap(f.Qualities) }},
		"offsets one by one":   {bytes.Repeat([]byte{0x28, 0}, 1<<18), func(f *Frame) int { return 8 * cap(f.OffsetsUS) }},
	} {
		t.Run(name, func(t *testing.T) {
			var f Frame
			err := f.UnmarshalLimit(c.src, 1000)
			var fe *FieldError
			if !errors.As(err, &fe) {
				t.Fatalf("%v, want a FieldError", err)
			}
			if n := c.kept(&f); n > 64<<10 {
				t.Fatalf("%d bytes taken for a frame that is refused", n)
			}
			if err := f.Unmarshal(c.src); err != nil {
				t.Fatalf("without a limit: %v", err)
			}
		})
	}
}

// Names of every length around the widths that they are looked at in, with a wrong or a multi-byte character at every place.
func TestSensorNamesOfAllLengths(t *testing.T) {
	var f Frame
	for _, n := range []int{0, 1, 2, 7, 8, 9, 15, 16, 17, 23, 24, 25, 126, 127, 128, 129, 200} {
		name := bytes.Repeat([]byte{'a'}, n)
		src := func() []byte {
			b := protowire.AppendBytes([]byte{0x32}, []byte("before"))
			b = protowire.AppendBytes(append(b, 0x32), name)
			return protowire.AppendBytes(append(b, 0x32), []byte("after"))
		}
		checkAgainstGenerated(t, &f, src())
		for i := range n {
			name[i] = 0xff
			checkAgainstGenerated(t, &f, src())
			if i+1 < n {
				copy(name[i:], "é")
				checkAgainstGenerated(t, &f, src())
				name[i+1] = 'a'
			}
			name[i] = 'a'
		}
		whole := src()
		for cut := range whole {
			checkAgainstGenerated(t, &f, whole[:cut])
		}
	}
}
