package csvfile_test

import (
	"errors"
	"io"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/tocsin-io/tocsin/services/all-in-one/internal/csvfile"
)

func TestDelimiterTimeColumnAndSensorsAreFound(t *testing.T) {
	for name, c := range map[string]struct {
		in      string
		opt     csvfile.Options
		sensors string
		column  string
		second  time.Time
	}{
		"semicolons": {"datetime;A (x);B;anomaly\n2020-03-01 15:44:06;1;2;0\n2020-03-01 15:44:07;3;4;1\n", csvfile.Options{Ignore: []string{"anomaly"}}, "A (x),B", "datetime", time.Date(2020, 3, 1, 15, 44, 7, 0, time.UTC)},
		"commas":     {"timestamp,value\n2014-07-01 00:00:00,10\n2014-07-01 00:30:00,11\n", csvfile.Options{}, "value", "timestamp", time.Date(2014, 7, 1, 0, 30, 0, 0, time.UTC)},
		"no time":    {"a\tb\n1\t2\n3\t4\n", csvfile.Options{}, "a,b", "", time.Unix(1, 0).UTC()},
		"unix ms":    {"ts,v\n1700000000000,1\n1700000001000,2\n", csvfile.Options{}, "v", "ts", time.Unix(1700000001, 0).UTC()},
		"day first":  {"DATETIME,v\n31/12/14 23,1\n01/01/15 00,2\n", csvfile.Options{}, "v", "DATETIME", time.Date(2015, 1, 1, 0, 0, 0, 0, time.UTC)},
		"unnamed":    {",v\n2017-12-24 00:00:00,1\n2017-12-24 00:05:00,x\n", csvfile.Options{}, "v", "column_1", time.Date(2017, 12, 24, 0, 5, 0, 0, time.UTC)},
		"odd names":  {"time,T [K],T [K],<b>\n2020-01-01,1,2,3\n2020-01-02,1,2,3\n", csvfile.Options{}, "T _K_,T _K__2,_b_", "time", time.Date(2020, 1, 2, 0, 0, 0, 0, time.UTC)},
		"given":      {"when,t2,v\n2020-01-01,2021-01-01,1\n2020-01-02,2021-01-02,1\n", csvfile.Options{TimeColumn: "t2", Ignore: []string{"when"}}, "v", "t2", time.Date(2021, 1, 2, 0, 0, 0, 0, time.UTC)},
		"a BOM":      {"\ufefftime,v\n2020-01-01,1\n2020-01-02,2\n", csvfile.Options{}, "v", "time", time.Date(2020, 1, 2, 0, 0, 0, 0, time.UTC)},
	} {
		t.Run(name, func(t *testing.T) {
			r, err := csvfile.NewReader(strings.NewReader(c.in), c.opt)
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(r.Sensors, ","); got != c.sensors || r.TimeColumn != c.column {
				t.Errorf("sensors %q, time %q", got, r.TimeColumn)
			}
			var rows int
			var last time.Time
			for {
				row, err := r.Read()
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				rows, last = rows+1, row.Time
			}
			if rows != 2 || !last.Equal(c.second) {
				t.Errorf("%d rows, the last at %s", rows, last)
			}
		})
	}
}

func TestACellThatIsNoNumberIsMissing(t *testing.T) {
	r, err := csvfile.NewReader(strings.NewReader("a,b,c\n1,Inp OutRange,\n"), csvfile.Options{})
	if err != nil {
		t.Fatal(err)
	}
	row, err := r.Read()
	if err != nil || row.Values[0] != 1 || !math.IsNaN(float64(row.Values[1])) || !math.IsNaN(float64(row.Values[2])) {
		t.Errorf("%+v, %v", row, err)
	}
}

func TestMistakesAreNamed(t *testing.T) {
	for in, want := range map[string]string{
		"": "empty",
		"time,v\n2020-01-01,1\n" + strings.Repeat("2020-01-02,1\n", 300) + "soon,1\n": `line 303, column 1: time "soon"`,
		"time\n2020-01-01\n": "no column is left",
		"a,b\n1,2\n3\n":      "wrong number of fields",
	} {
		err := drain(in, csvfile.Options{})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: %v, want %q", in, err, want)
		}
	}
	if err := drain("a,b\n1,2\n", csvfile.Options{TimeColumn: "when"}); err == nil || !strings.Contains(err.Error(), `"when" is not in the header: a, b`) {
		t.Error(err)
	}
}

func drain(in string, opt csvfile.Options) error {
	r, err := csvfile.NewReader(strings.NewReader(in), opt)
	for err == nil {
		_, err = r.Read()
	}
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}

func FuzzRead(f *testing.F) {
	f.Add("time;a\n2020-01-01;1\n")
	f.Add("\"a\nb\",c\n1,2")
	f.Fuzz(func(_ *testing.T, in string) { _ = drain(in, csvfile.Options{}) })
}
