package jsonframe

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"

	"github.com/tocsin-io/tocsin/pkg/frame"
)

// Features is a flat JSON object of numbers: one sample of one machine, as POST /data-enqueue takes it.
type Features struct {
	EquipmentID string // the key equipment_id, "" when not given
	TimeUS      int64  // the key time_us, in microseconds since 1970-01-01 UTC
	HasTime     bool
	Sensors     []string // sorted
	Values      []float32
}

// DecodeFeatures reads {"name": number, ...}. The keys equipment_id and time_us are not features. null is a missing value;
// everything else that is not a number is refused by a *frame.FieldError that names its key.
func DecodeFeatures(src []byte, maxValues int) (*Features, error) {
	var scratch frame.Frame
	var out Features
	d := decoder{dec: json.NewDecoder(bytes.NewReader(src)), f: &scratch, max: maxValues, field: "body", seen: map[string]bool{}}
	d.dec.UseNumber()
	t, err := d.token()
	if err != nil {
		return nil, err
	}
	if t != json.Delim('{') {
		return nil, d.fail("%s, not an object", kind(t))
	}
	for {
		d.field = "body"
		if t, err = d.token(); err != nil {
			return nil, err
		}
		if t == json.Delim('}') {
			break
		}
		key, _ := t.(string)
		d.field = quoted(key)
		if t, err = d.token(); err != nil {
			return nil, err
		}
		if err := d.feature(key, t, &out); err != nil {
			return nil, err
		}
	}
	d.field = "body"
	if _, err := d.dec.Token(); !errors.Is(err, io.EOF) {
		return nil, d.fail("more follows after it")
	}
	if err := d.sortRow(func(name string) string { return quoted(name) }); err != nil {
		return nil, err
	}
	out.Sensors, out.Values = make([]string, len(d.row)), make([]float32, len(d.row))
	for i, c := range d.row {
		out.Sensors[i], out.Values[i] = c.name, c.value
	}
	return &out, nil
}

func (d *decoder) feature(key string, t json.Token, out *Features) error {
	switch key {
	case "equipment_id", "time_us":
		if d.seen[key] {
			return d.fail("given twice")
		}
		d.seen[key] = true
		if key == "equipment_id" {
			id, err := d.text(t)
			out.EquipmentID = string(id)
			return err
		}
		var err error
		out.TimeUS, err = d.signed(t)
		out.HasTime = true
		return err
	}
	v, err := d.float(t)
	if err != nil {
		return err
	}
	if len(d.row) >= d.max {
		d.field = "body"
		return d.fail("more than %d features", d.max)
	}
	d.row = append(d.row, cell{key, v})
	return nil
}
