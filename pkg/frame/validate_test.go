package frame

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func valid() *Frame {
	return &Frame{
		EquipmentID: []byte("press-1"), GatewayID: []byte("gw.1:a_b"), Sequence: 1, BaseTimeUS: testTime.UnixMicro(),
		OffsetsUS: []uint64{0, 0, 1000}, Sensors: [][]byte{[]byte("temp (%)/a"), []byte("flow")},
		Values: []float32{1, 2, 3, 4, 5, 6},
	}
}

func TestValidate(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	for _, c := range []struct {
		name   string
		change func(*Frame)
		field  string // "" means valid
		reason string
	}{
		{"a good frame", func(*Frame) {}, "", ""},
		{"no equipment", func(f *Frame) { f.EquipmentID = nil }, "equipment_id", "empty"},
		{"equipment with a slash", func(f *Frame) { f.EquipmentID = []byte("a/b") }, "equipment_id", "only letters"},
		{"equipment of 128 bytes", func(f *Frame) { f.EquipmentID = []byte(strings.Repeat("a", 128)) }, "", ""},
		{"equipment of 129 bytes", func(f *Frame) { f.EquipmentID = []byte(strings.Repeat("a", 129)) }, "equipment_id", "129 bytes"},
		{"equipment with a NUL", func(f *Frame) { f.EquipmentID = []byte("a\x00") }, "equipment_id", "only letters"},
		{"equipment beyond ASCII", func(f *Frame) { f.EquipmentID = []byte("größe") }, "equipment_id", "only letters"},
		{"no gateway", func(f *Frame) { f.GatewayID = nil }, "gateway_id", "empty"},
		{"gateway with HTML", func(f *Frame) { f.GatewayID = []byte("<b>") }, "gateway_id", "only letters"},
		{"sequence 0", func(f *Frame) { f.Sequence = 0 }, "sequence", "1 or more"},
		{"before 1970", func(f *Frame) { f.BaseTimeUS = -1 }, "base_time_us", "before 1970"},
		{"five minutes ahead", func(f *Frame) { f.OffsetsUS = nil; f.Values = f.Values[:2]; f.BaseTimeUS += 300e6 }, "", ""},
		{"more than five minutes ahead", func(f *Frame) { f.BaseTimeUS += 300e6 + 1 }, "base_time_us", "5m0s ahead"},
		{"a sample more than five minutes ahead", func(f *Frame) { f.OffsetsUS[2] = 300e6 + 1 }, "time_offsets_us[2]", "5m0s ahead"},
		{"an offset that would overflow", func(f *Frame) { f.OffsetsUS[2] = math.MaxUint64 }, "time_offsets_us[2]", "ahead"},
		{"base time at the end of time", func(f *Frame) { f.BaseTimeUS = math.MaxInt64 }, "base_time_us", "ahead"},
		{"offsets run backwards", func(f *Frame) { f.OffsetsUS = []uint64{5, 4, 6} }, "time_offsets_us[1]", "smaller"},
		{"no sensors", func(f *Frame) { f.Sensors = nil }, "sensors", "no schema_id"},
		{"sensors and schema", func(f *Frame) { f.SchemaID = []byte("s") }, "schema_id", "exactly one"},
		{"a sensor without a name", func(f *Frame) { f.Sensors[1] = nil }, "sensors[1]", "empty"},
		{"a sensor with a quote", func(f *Frame) { f.Sensors[1] = []byte(`a"b`) }, "sensors[1]", "only letters"},
		{"a sensor with a newline", func(f *Frame) { f.Sensors[1] = []byte("a\nb") }, "sensors[1]", "only letters"},
		{"a sensor name too long", func(f *Frame) { f.Sensors[0] = []byte(strings.Repeat("x", 129)) }, "sensors[0]", "129"},
		{"two sensors alike", func(f *Frame) { f.Sensors[1] = f.Sensors[0] }, "sensors[1]", "same name as sensors[0]"},
		{"too few values", func(f *Frame) { f.Values = f.Values[:5] }, "values", "2 sensors x 3 samples need 6"},
		{"too many values", func(f *Frame) { f.Values = append(f.Values, 7) }, "values", "need 6"},
		{"no values", func(f *Frame) { f.Values = nil }, "values", "need 6"},
		{"a missing value without codes", func(f *Frame) { f.Values[3] = nan }, "", ""},
		{"infinite", func(f *Frame) { f.Values[3] = inf }, "values[3]", "infinite"},
		{"minus infinite", func(f *Frame) { f.Values[0] = -inf }, "values[0]", "infinite"},
		{"a missing value with its code", func(f *Frame) { f.Values[3] = nan; f.Qualities = []uint8{1, 2, 3, 4, 0, 1} }, "", ""},
		{"NaN called good", func(f *Frame) { f.Values[3] = nan; f.Qualities = []uint8{1, 1, 1, 1, 1, 1} }, "values[3]", "NaN without"},
		{"infinite called missing", func(f *Frame) { f.Values[3] = inf; f.Qualities = []uint8{1, 2, 3, 4, 0, 1} }, "values[3]", "infinite"},
		{"too few codes", func(f *Frame) { f.Qualities = []uint8{1} }, "qualities", "1 codes for 6 values"},
		{"an unknown code", func(f *Frame) { f.Qualities = []uint8{1, 2, 3, 5, 0, 1} }, "qualities[3]", "unknown"},
		{"by schema", func(f *Frame) { f.Sensors, f.SchemaID = nil, []byte("sha256-0") }, "", ""},
		{"schema id with a space", func(f *Frame) { f.Sensors, f.SchemaID = nil, []byte("a b") }, "schema_id", "only letters"},
		{"by schema, wrong count", func(f *Frame) { f.Sensors, f.SchemaID, f.Values = nil, []byte("s"), f.Values[:3] }, "values", "need 6"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := valid()
			c.change(f)
			lim := DefaultLimits(testTime)
			lim.SchemaSensors = 2
			err := Validate(f, lim)
			if c.field == "" {
				if err != nil {
					t.Fatalf("refused: %v", err)
				}
				return
			}
			var fe *FieldError
			if !errors.As(err, &fe) {
				t.Fatalf("%v, want a FieldError", err)
			}
			if fe.Field != c.field || !strings.Contains(fe.Reason, c.reason) {
				t.Fatalf("%q, want field %q and reason %q", err, c.field, c.reason)
			}
		})
	}
}

func TestValidateSchemaCount(t *testing.T) {
	f := valid()
	f.Sensors, f.SchemaID = nil, []byte("sha256-0")
	for count, want := range map[int]string{-1: "", 2: "", 0: "schema_id", 3: "values"} {
		err := Validate(f, Limits{MaxValues: 100, SchemaSensors: count})
		var fe *FieldError
		if got := ""; errors.As(err, &fe) {
			if got = fe.Field; got != want {
				t.Errorf("schema of %d sensors: blames %q, want %q", count, got, want)
			}
		} else if want != "" {
			t.Errorf("schema of %d sensors: accepted", count)
		}
	}
}

func TestValidateMaxValues(t *testing.T) {
	f := valid()
	if err := Validate(f, Limits{MaxValues: 5}); err == nil || !strings.Contains(err.Error(), "at most 5") {
		t.Fatal(err)
	}
	if err := Validate(f, Limits{MaxValues: 6}); err != nil {
		t.Fatal(err)
	}
}

// The hashed and the pairwise search must agree with a plain map.
func TestDuplicateNames(t *testing.T) {
	var set nameSet
	rapid.Check(t, func(t *rapid.T) {
		names := rapid.SliceOfN(rapid.SliceOfN(rapid.SampledFrom([]byte("ab")), 0, 7), 0, 60).Draw(t, "names")
		seen := map[string]int{}
		at, first := -1, -1
		for i, n := range names {
			if j, ok := seen[string(n)]; ok {
				at, first = i, j
				break
			}
			seen[string(n)] = i
		}
		if i, j := set.duplicate(names); i != at || j != first {
			t.Fatalf("found %d (as %d), want %d (as %d)", i, j, at, first)
		}
	})
}

func TestDuplicateAmong25000(t *testing.T) {
	names := make([][]byte, 25_000)
	for i := range names {
		names[i] = fmt.Appendf(nil, "sensor-%d", i)
	}
	if err := CheckSensors(names); err != nil {
		t.Fatal(err)
	}
	names[24_999] = []byte("sensor-17")
	start := time.Now()
	err := CheckSensors(names)
	if err == nil || err.Error() != "sensors[24999]: the same name as sensors[17]" {
		t.Fatal(err)
	}
	// Comparing every pair takes seconds; the table takes a few milliseconds.
	if d := time.Since(start); d > 500*time.Millisecond {
		t.Fatalf("took %s", d)
	}
}

func TestNewAndAccessors(t *testing.T) {
	f := New("press-1", "gw-1", 7, testTime, []string{"a", "b"}, []float32{1, 2})
	if err := Validate(f, DefaultLimits(testTime)); err != nil {
		t.Fatal(err)
	}
	if f.Samples() != 1 || f.SensorCount() != 2 || f.TimeUS(0) != testTime.UnixMicro() || f.Quality(1) != QualityGood {
		t.Fatalf("%+v", f)
	}
	if id := string(f.AppendID(nil)); id != "gw-1/press-1/7" {
		t.Fatal(id)
	}
	f.OffsetsUS, f.Values, f.Qualities = []uint64{0, 9}, []float32{1, 2, 3, 4}, []uint8{0, 1, 2, 3}
	if f.Samples() != 2 || f.SensorCount() != 2 || f.TimeUS(1) != testTime.UnixMicro()+9 || f.Quality(0) != QualityGood || f.Quality(3) != QualityBad {
		t.Fatalf("%+v", f)
	}
}
