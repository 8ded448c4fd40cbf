// Package jsonframe reads frames written as JSON: tocsin.event.v1.SensorFrame in protobuf's JSON form, or the Row form of one
// sample, {"equipment_id", "gateway_id", "sequence", "time_us", "values": {"sensor": number}}.
//
// It is stricter than protobuf's own reader, and names the field that is wrong: an unknown or repeated key, a value of another
// type, a number that does not fit, are refused. null is a missing value. Nothing in it recurses.
package jsonframe

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/tocsin-io/tocsin/pkg/frame"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
)

// Names of the fields by both of their JSON names.
var names = map[string]string{
	"equipment_id": "equipment_id", "equipmentId": "equipment_id",
	"gateway_id": "gateway_id", "gatewayId": "gateway_id",
	"sequence":     "sequence",
	"base_time_us": "base_time_us", "baseTimeUs": "base_time_us",
	"time_offsets_us": "time_offsets_us", "timeOffsetsUs": "time_offsets_us",
	"sensors":   "sensors",
	"schema_id": "schema_id", "schemaId": "schema_id",
	"values":    "values",
	"qualities": "qualities",
	"time_us":   "time_us", "timeUs": "time_us",
}

var nan = float32(math.NaN())

// Decode reads one JSON object into f, a *frame.FieldError tells what is wrong with it. maxValues bounds every list, so that
// memory does not depend on how the input is written. f then still has to be validated.
func Decode(src []byte, f *frame.Frame, maxValues int) error {
	f.Reset()
	d := decoder{dec: json.NewDecoder(bytes.NewReader(src)), f: f, max: maxValues, field: "frame"}
	d.dec.UseNumber()
	if err := d.object(); err != nil {
		return err
	}
	d.field = "frame"
	if _, err := d.dec.Token(); !errors.Is(err, io.EOF) {
		return d.fail("more follows after it")
	}
	return d.finish()
}

type decoder struct {
	dec   *json.Decoder
	f     *frame.Frame
	max   int
	field string // what is being read, for errors
	seen  map[string]bool
	row   []cell // the values of the Row form
	isRow bool
	nans  int // index+1 of the first "NaN" in values; 0: none
}

type cell struct {
	name  string
	value float32
}

func (d *decoder) fail(format string, args ...any) error {
	return &frame.FieldError{Field: d.field, Reason: fmt.Sprintf(format, args...)}
}

func (d *decoder) token() (json.Token, error) {
	t, err := d.dec.Token()
	if err == nil {
		return t, nil
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return nil, d.fail("JSON ends too early")
	}
	return nil, d.fail("not valid JSON: %s", clip(err.Error()))
}

func (d *decoder) object() error {
	t, err := d.token()
	if err != nil {
		return err
	}
	if t != json.Delim('{') {
		return d.fail("%s, not an object", kind(t))
	}
	d.seen = make(map[string]bool, len(names))
	for {
		d.field = "frame"
		t, err := d.token()
		if err != nil {
			return err
		}
		if t == json.Delim('}') {
			return nil
		}
		key, _ := t.(string) // the decoder lets nothing else be a key
		name, ok := names[key]
		if !ok {
			d.field = quoted(key)
			return d.fail("unknown field")
		}
		d.field = name
		if d.seen[name] {
			return d.fail("given twice")
		}
		d.seen[name] = true
		if err := d.value(name); err != nil {
			return err
		}
	}
}

func (d *decoder) value(name string) error {
	t, err := d.token()
	if err != nil {
		return err
	}
	if t == nil { // null: as if it were not there
		delete(d.seen, name)
		return nil
	}
	switch name {
	case "equipment_id":
		d.f.EquipmentID, err = d.text(t)
	case "gateway_id":
		d.f.GatewayID, err = d.text(t)
	case "schema_id":
		d.f.SchemaID, err = d.text(t)
	case "sequence":
		d.f.Sequence, err = d.unsigned(t)
	case "base_time_us", "time_us":
		d.f.BaseTimeUS, err = d.signed(t)
	case "time_offsets_us":
		err = d.list(t, func(_ int, t json.Token) error {
			v, err := d.unsigned(t)
			d.f.OffsetsUS = append(d.f.OffsetsUS, v)
			return err
		})
	case "sensors":
		err = d.list(t, func(_ int, t json.Token) error {
			v, err := d.text(t)
			d.f.Sensors = append(d.f.Sensors, v)
			return err
		})
	case "qualities":
		err = d.list(t, func(_ int, t json.Token) error {
			v, err := d.quality(t)
			d.f.Qualities = append(d.f.Qualities, v)
			return err
		})
	case "values":
		if t == json.Delim('{') {
			return d.rowValues()
		}
		err = d.list(t, func(i int, t json.Token) error {
			if t == "NaN" {
				if d.nans == 0 {
					d.nans = i + 1
				}
				d.f.Values = append(d.f.Values, nan)
				return nil
			}
			v, err := d.float(t)
			d.f.Values = append(d.f.Values, v)
			return err
		})
	}
	return err
}

func (d *decoder) list(t json.Token, element func(int, json.Token) error) error {
	if t != json.Delim('[') {
		return d.fail("%s, not a list", kind(t))
	}
	name := d.field
	for i := 0; ; i++ {
		d.field = name + "[" + strconv.Itoa(i) + "]"
		t, err := d.token()
		if err != nil {
			return err
		}
		if t == json.Delim(']') {
			d.field = name
			return nil
		}
		if i >= d.max {
			d.field = name
			return d.fail("more than %d elements", d.max)
		}
		if err := element(i, t); err != nil {
			return err
		}
	}
}

func (d *decoder) rowValues() error {
	d.isRow = true
	for {
		d.field = "values"
		t, err := d.token()
		if err != nil {
			return err
		}
		if t == json.Delim('}') {
			return nil
		}
		key, _ := t.(string)
		d.field = "values[" + quoted(key) + "]"
		if len(d.row) >= d.max {
			d.field = "values"
			return d.fail("more than %d elements", d.max)
		}
		if t, err = d.token(); err != nil {
			return err
		}
		v, err := d.float(t)
		if err != nil {
			return err
		}
		d.row = append(d.row, cell{key, v})
	}
}

// finish checks what only shows when all is read.
func (d *decoder) finish() error {
	if d.seen["time_us"] && !d.isRow {
		d.field = "time_us"
		return d.fail("belongs to the row form, whose values are an object; a frame has base_time_us")
	}
	if !d.isRow {
		if !d.seen["base_time_us"] {
			d.field = "base_time_us"
			return d.fail("missing")
		}
		if d.nans > 0 && len(d.f.Qualities) == 0 {
			d.field = "values[" + strconv.Itoa(d.nans-1) + "]"
			return d.fail("NaN without quality missing; null is a missing value")
		}
		return nil
	}
	for _, name := range []string{"base_time_us", "time_offsets_us", "sensors", "schema_id", "qualities"} {
		if d.seen[name] {
			d.field = name
			return d.fail("does not belong to the row form, whose values are an object")
		}
	}
	if !d.seen["time_us"] {
		d.field = "time_us"
		return d.fail("missing")
	}
	if err := d.sortRow(func(name string) string { return "values[" + quoted(name) + "]" }); err != nil {
		return err
	}
	for _, c := range d.row {
		d.f.Sensors = append(d.f.Sensors, []byte(c.name))
		d.f.Values = append(d.f.Values, c.value)
	}
	return nil
}

// sortRow sorts the row by name and checks the names; field makes the name to blame. Objects have no order: sorted, a
// row sent again gives the same bytes.
func (d *decoder) sortRow(field func(name string) string) error {
	slices.SortStableFunc(d.row, func(a, b cell) int { return strings.Compare(a.name, b.name) })
	var name [1][]byte
	for i, c := range d.row {
		if i > 0 && c.name == d.row[i-1].name {
			d.field = field(c.name)
			return d.fail("given twice")
		}
		name[0] = []byte(c.name)
		var fe *frame.FieldError
		if err := frame.CheckSensors(name[:]); errors.As(err, &fe) {
			d.field = field(c.name)
			return d.fail("the sensor's name: %s", fe.Reason)
		}
	}
	if len(d.row) == 0 {
		d.field = "values"
		return d.fail("empty")
	}
	return nil
}

func (d *decoder) text(t json.Token) ([]byte, error) {
	s, ok := t.(string)
	if !ok {
		return nil, d.fail("%s, not a string", kind(t))
	}
	return []byte(s), nil
}

// digits gives the decimal digits of an integer, which JSON may hold as a number or, protobuf's way, as a string.
func (d *decoder) digits(t json.Token) (string, error) {
	switch v := t.(type) {
	case json.Number:
		return v.String(), nil
	case string:
		return v, nil
	}
	return "", d.fail("%s, not an integer", kind(t))
}

func (d *decoder) unsigned(t json.Token) (uint64, error) {
	s, err := d.digits(t)
	if err != nil {
		return 0, err
	}
	v, err := strconv.ParseUint(s, 10, 64)
	if err != nil {
		if f, ok := whole(s); ok && f >= 0 {
			return uint64(f), nil
		}
		return 0, d.fail("not an integer of 0 to 18446744073709551615")
	}
	return v, nil
}

func (d *decoder) signed(t json.Token) (int64, error) {
	s, err := d.digits(t)
	if err != nil {
		return 0, err
	}
	v, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		if f, ok := whole(s); ok {
			return int64(f), nil
		}
		return 0, d.fail("not an integer of 64 bits")
	}
	return v, nil
}

// whole reads an integer that was written with a fraction or an exponent, as some encoders do (1.7e15), while a
// float64 still holds it exactly.
func whole(s string) (float64, bool) {
	if len(s) > 64 || !strings.ContainsAny(s, ".eE") || strings.ContainsAny(s, "xXpP_") {
		return 0, false
	}
	f, err := strconv.ParseFloat(s, 64)
	return f, err == nil && f == math.Trunc(f) && math.Abs(f) <= 1<<53
}

func (d *decoder) float(t json.Token) (float32, error) {
	if t == nil {
		return nan, nil
	}
	n, ok := t.(json.Number)
	if !ok {
		return 0, d.fail("%s, not a number", kind(t))
	}
	v, err := strconv.ParseFloat(n.String(), 32)
	if err != nil {
		return 0, d.fail("does not fit a 32-bit float")
	}
	return float32(v), nil
}

func (d *decoder) quality(t json.Token) (uint8, error) {
	switch v := t.(type) {
	case string:
		if q, ok := eventv1.Quality_value[v]; ok {
			return uint8(q), nil
		}
		return 0, d.fail("unknown quality; known are QUALITY_GOOD, QUALITY_UNCERTAIN, QUALITY_BAD, QUALITY_MISSING")
	case json.Number:
		if q, err := strconv.ParseUint(v.String(), 10, 8); err == nil && q <= uint64(frame.QualityMissing) {
			return uint8(q), nil
		}
		return 0, d.fail("unknown quality code")
	}
	return 0, d.fail("%s, not a quality", kind(t))
}

func kind(t json.Token) string {
	switch v := t.(type) {
	case nil:
		return "null"
	case bool:
		return "a boolean"
	case string:
		return "a string"
	case json.Number:
		return "a number"
	case json.Delim:
		if v == '{' {
			return "an object"
		}
		return "a list"
	}
	return "something else"
}

// quoted makes a sender's own word fit to be repeated in an answer.
func quoted(s string) string { return strconv.QuoteToASCII(clip(s)) }

func clip(s string) string {
	const most = 64
	if len(s) <= most {
		return s
	}
	s = s[:most]
	for len(s) > 0 && !utf8.ValidString(s) {
		s = s[:len(s)-1]
	}
	return s + "..."
}
