package dataset

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"
)

var limits = Options{MaxRows: 1000, MaxValues: 10_000}

func TestCSV(t *testing.T) {
	for _, delimiter := range []string{",", ";", "\t"} {
		text := strings.ReplaceAll("time|a|note|b\n2026-01-01 00:00:00|1|x|2.5\n2026-01-01 01:00:00|3|y|-4e3\n2026-01-01 03:00:00|3|y|1\n2026-01-01 04:00:00|3|y|1\n", "|", delimiter)
		opt := limits
		opt.Ignore, opt.Time = []string{"note"}, "time"
		got, err := ReadCSV(strings.NewReader(text), opt)
		if err != nil {
			t.Fatal(err)
		}
		if fmt.Sprint(got.Columns, got.Values, got.StepSeconds, got.Steps[1]-got.Steps[0], got.Steps[2]-got.Steps[1]) != "[a b] [1 2.5 3 -4000 3 1 3 1] 3600 1 2" {
			t.Errorf("%+v", got)
		}
	}
}

func TestCSVErrorsNameRowAndColumn(t *testing.T) {
	for text, want := range map[string]string{
		"":                        "the file is empty",
		"a,b\n1,2\n":              "at least 2 rows",
		"a,a\n1,2\n":              `column "a": appears twice`,
		"a,\n1,2\n":               "column 2 has no name",
		"a,b\n1,2\n3,x\n":         `row 2, column "b": "x" is not a number`,
		"a,b\n1,2\n3,NaN\n":       `row 2, column "b": NaN is not a finite number`,
		"a,b\n1,2\n3,1e99\n":      `row 2, column "b"`,
		"a,b\n1,2\n3\n":           "wrong number of fields",
		"skip\n1\n2\n":            "no column is left",
		"a\n" + many("1\n", 1001): "more than 1000 rows",
	} {
		opt := limits
		opt.Ignore = []string{"skip"}
		if _, err := ReadCSV(strings.NewReader(text), opt); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: %v, not %q", text, err, want)
		}
	}
	opt := limits
	opt.Time = "t"
	for text, want := range map[string]string{
		"a\n1\n2\n":           `column "t": is not in the file`,
		"t,a\n5,1\n5,2\n":     `row 2, column "t": is not after the row before`,
		"t,a\n5,1\nlater,2\n": `row 2, column "t": "later" is no time`,
	} {
		if _, err := ReadCSV(strings.NewReader(text), opt); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: %v, not %q", text, err, want)
		}
	}
}

func many(s string, n int) string { return strings.Repeat(s, n) }

func TestParquet(t *testing.T) {
	type row struct {
		TS   time.Time `parquet:"ts,timestamp(microsecond)"`
		A    float64   `parquet:"a"`
		B    int32     `parquet:"b"`
		C    *float32  `parquet:"c,optional"`
		Note string    `parquet:"note"`
	}
	one := float32(1)
	rows := []row{}
	for i := range 5 {
		rows = append(rows, row{time.Unix(1_700_000_000+int64(60*i), 0), float64(i) / 2, int32(i), &one, "x"})
	}
	file := func(rows []row) *bytes.Reader {
		var b bytes.Buffer
		w := parquet.NewGenericWriter[row](&b)
		if _, err := w.Write(rows); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return bytes.NewReader(b.Bytes())
	}
	opt := limits
	opt.Ignore, opt.Time = []string{"note"}, "ts"
	f := file(rows)
	got, err := ReadParquet(f, f.Size(), opt)
	if err != nil {
		t.Fatal(err)
	}
	if fmt.Sprint(got.Columns, got.Values, got.StepSeconds, got.Steps[4]-got.Steps[0]) != "[a b c] [0 0 1 0.5 1 1 1 2 1 1.5 3 1 2 4 1] 60 4" {
		t.Errorf("%+v", got)
	}
	rows[3].C = nil
	f = file(rows)
	if _, err := ReadParquet(f, f.Size(), opt); err == nil || err.Error() != `row 4, column "c": is missing` {
		t.Error(err)
	}
	opt.Ignore = nil
	if _, err := ReadParquet(f, f.Size(), opt); err == nil || !strings.Contains(err.Error(), `column "note": is no number`) {
		t.Error(err)
	}
	var e *Error
	if _, err := ReadParquet(strings.NewReader("PAR1 no"), 7, opt); !errors.As(err, &e) {
		t.Error(err)
	}
}

func FuzzReadCSV(f *testing.F) {
	f.Add("a,b\n1,2\n3,4\n")
	f.Add("t;a\n1;2\n3;4\n")
	f.Fuzz(func(t *testing.T, text string) {
		opt := limits
		opt.Time = ""
		got, err := ReadCSV(strings.NewReader(text), opt)
		if err == nil && got.Rows()*len(got.Columns) != len(got.Values) {
			t.Fatalf("%+v", got)
		}
	})
}
