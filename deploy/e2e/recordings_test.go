//go:build cgo

package e2e

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tocsin-io/tocsin/deploy/local/stack"
)

// labelled is a recording and the times at which somebody found it anomalous.
type labelled struct {
	file    string
	machine string
	rows    int
	values  int     // cells that hold a number
	sum     float64 // of them, as float32
	faults  [][2]time.Time
}

// recordings are real ones when TOCSIN_DATA names a folder that holds NAB and SKAB in their own layout, else made ones.
func recordings(t *testing.T) (list []labelled, made bool) {
	root := os.Getenv("TOCSIN_DATA")
	if root == "" {
		t.Log("TOCSIN_DATA is not set: made recordings stand in for real ones")
		dir := t.TempDir()
		for _, r := range plant(3, 1200) {
			list = append(list, read(t, r.write(t, dir), ';'))
		}
		return list, true
	}
	files, err := filepath.Glob(filepath.Join(root, "nab", "data", "realKnownCause", "*.csv"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no NAB files below TOCSIN_DATA=%s: %v", root, err)
	}
	var windows map[string][][2]string
	b, err := os.ReadFile(filepath.Join(root, "nab", "combined_windows.json"))
	if err == nil {
		err = json.Unmarshal(b, &windows)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		one := read(t, f, ',')
		for _, w := range windows["realKnownCause/"+filepath.Base(f)] {
			from, err1 := time.Parse("2006-01-02 15:04:05.000000", w[0])
			to, err2 := time.Parse("2006-01-02 15:04:05.000000", w[1])
			if err1 != nil || err2 != nil {
				t.Fatal(err1, err2)
			}
			one.faults = append(one.faults, [2]time.Time{from, to})
		}
		list = append(list, one)
	}
	return append(list, read(t, filepath.Join(root, "skab", "valve1", "1.csv"), ';')), false
}

var notInID = regexp.MustCompile(`[^A-Za-z0-9._:-]`)

// read counts a recording on its own, with nothing of Tocsin in it. Runs of rows with anomaly=1 are its faults.
func read(t *testing.T, file string, comma rune) labelled {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	r := csv.NewReader(f)
	r.Comma = comma
	rows, err := r.ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	out := labelled{file: file, rows: len(rows) - 1, machine: notInID.ReplaceAllString(strings.TrimSuffix(filepath.Base(file), ".csv"), "_")}
	inFault := false
	for _, row := range rows[1:] {
		at, err := time.Parse("2006-01-02 15:04:05", row[0])
		if err != nil {
			t.Fatal(err)
		}
		anomalous := false
		for i, cell := range row[1:] {
			switch rows[0][i+1] {
			case "anomaly":
				anomalous = cell == "1.0"
				continue
			case "changepoint":
				continue
			}
			if v, err := strconv.ParseFloat(cell, 32); err == nil {
				out.values++
				out.sum += float64(float32(v))
			}
		}
		if anomalous && !inFault {
			out.faults = append(out.faults, [2]time.Time{at, at})
		}
		if anomalous {
			out.faults[len(out.faults)-1][1] = at
		}
		inFault = anomalous
	}
	return out
}

// settle waits until what the gateway has acknowledged so far has gone all the way: judged, alerted, in the lake.
func settle(t *testing.T, s *stack.Stack) {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(s.Brokers()...))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	adm := kadm.NewClient(cl)
	for _, hop := range []struct{ topic, group string }{
		{"telemetry.frames.v1", "stream-processor"},
		{"detect.anomalies.v1", "alert-router"},
		{"telemetry.readings.v1", "cold-path-writer"},
		{"detect.anomalies.v1", "cold-path-writer"},
		{"alert.events.v1", "cold-path-writer"},
	} {
		ends, err := adm.ListEndOffsets(t.Context(), hop.topic)
		if err != nil {
			t.Fatal(err)
		}
		until(t, hop.group+" has read "+hop.topic, func() bool {
			at, err := adm.FetchOffsets(t.Context(), hop.group)
			passed := err == nil
			ends.Each(func(end kadm.ListedOffset) {
				o, ok := at.Lookup(hop.topic, end.Partition)
				passed = passed && ok && o.At >= end.Offset
			})
			return passed
		})
	}
}

// Recordings go through the real stack: each value of each row stands in the lake once, and the labelled faults are alerted.
func TestRealRecordings(t *testing.T) {
	s := realStack(t)
	l := openLake(t, lakeDir(t, s))
	list, made := recordings(t)
	for _, r := range list {
		tocsin(t, "replay", "--input", r.file, "--ignore-columns", "anomaly,changepoint", "--to", "http://"+s.Addr("ingest-gateway"))
	}
	settle(t, s)
	figures := map[string]any{}
	for _, r := range list {
		where := "equipment_id = '" + r.machine + "'"
		until(t, "all readings of "+r.machine, func() bool { return l.readings(t, where+" and value is not null").rows >= int64(r.values) })
		got := l.readings(t, where+" and value is not null")
		if got.rows != int64(r.values) || got.distinct != got.rows {
			t.Errorf("%s: %d rows, %d distinct in the lake; the file holds %d values", r.machine, got.rows, got.distinct, r.values)
		}
		if math.Abs(got.sum-r.sum) > 1e-6*math.Abs(r.sum) {
			t.Errorf("%s: sum %f in the lake, %f in the file", r.machine, got.sum, r.sum)
		}
		hit := 0
		for _, f := range r.faults {
			var n int
			if l.empty("alerts") {
				break
			}
			err := l.db.QueryRow(`select count(*) from (select min(started_at) as began, max(ended_at) as ended from `+l.table("alerts")+`
				where equipment_id = ? and cause in ('behaviour', 'flatline', 'limit') group by alert_id)
				where began <= ? and (ended is null or ended >= ?)`, r.machine, f[1], f[0]).Scan(&n)
			if err != nil {
				t.Fatal(err)
			}
			if n > 0 {
				hit++
			}
		}
		var alerts int
		if !l.empty("alerts") {
			if err := l.db.QueryRow("select count(distinct alert_id) from "+l.table("alerts")+" where equipment_id = ? and cause = 'behaviour'", r.machine).Scan(&alerts); err != nil {
				t.Fatal(err)
			}
		}
		if made && hit != len(r.faults) {
			t.Errorf("%s: %d of %d faults were alerted", r.machine, hit, len(r.faults))
		}
		figures[r.machine] = fmt.Sprintf("%d rows, %d values, %d in the lake, %d distinct; %d of %d labelled faults alerted, %d behaviour alerts",
			r.rows, r.values, got.rows, got.distinct, hit, len(r.faults), alerts)
	}
	report(t, "recordings", figures)
}
