package backtest_test

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/tocsin-io/tocsin/services/all-in-one/internal/backtest"
	streamprocessor "github.com/tocsin-io/tocsin/services/stream-processor"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var base = time.Date(2026, 3, 1, 6, 0, 0, 0, time.UTC)

// recording is a CSV file of two noisy sensors a second apart; from row faultAt on the first one is off.
func recording(from time.Time, rows, faultAt int, seed uint64) string {
	r := rand.New(rand.NewPCG(seed, 1))
	var b strings.Builder
	b.WriteString("time,pressure,flow (l/min)\n")
	for i := range rows {
		off := 0.0
		if i >= faultAt {
			off = 40
		}
		flow := strconv.FormatFloat(20+2*r.NormFloat64(), 'f', 4, 64)
		if r.IntN(40) == 0 {
			flow = ""
		}
		fmt.Fprintf(&b, "%s,%.4f,%s\n", from.Add(time.Duration(i)*time.Second).Format("2006-01-02 15:04:05"), 50+r.NormFloat64()+off, flow)
	}
	return b.String()
}

// score backtests the text and gives the scores file.
func score(t rapid.TB, dir, text string, edit func(*backtest.Options)) (string, backtest.Summary) {
	t.Helper()
	opt := backtest.Options{Input: filepath.Join(dir, "in.csv"), Output: filepath.Join(dir, "scores.csv"), Detection: streamprocessor.DefaultDetection()}
	if edit != nil {
		edit(&opt)
	}
	if err := os.WriteFile(opt.Input, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	sum, err := backtest.Run(context.Background(), opt)
	if err != nil {
		t.Fatal(err)
	}
	out, err := os.ReadFile(opt.Output)
	if err != nil {
		t.Fatal(err)
	}
	return string(out), sum
}

func lines(s string) []string { return strings.Split(strings.TrimSuffix(s, "\n"), "\n") }

func TestEveryRowHasALineThatReads(t *testing.T) {
	const rows, faultAt = 2000, 1800
	text := recording(base, rows, faultAt, 1)
	out, sum := score(t, t.TempDir(), text, nil)
	if !strings.HasPrefix(out, backtest.Header) {
		t.Errorf("it begins with %q", lines(out)[0])
	}
	records, err := csv.NewReader(strings.NewReader(out)).ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	if len(records) != rows+1 || sum.Rows != rows || sum.Sensors != 2 || sum.TimeColumn != "time" {
		t.Fatalf("%d lines for %d rows, summary %+v", len(records), rows, sum)
	}
	flagged, early := 0, 0
	for i, r := range records[1:] {
		if want := base.Add(time.Duration(i) * time.Second).Format("2006-01-02 15:04:05"); r[0] != want {
			t.Fatalf("row %d is of %s, want %s", i, r[0], want)
		}
		if s, err := strconv.ParseFloat(r[1], 64); err != nil || !(s >= 0 && s <= 1) {
			t.Errorf("row %d: score %q", i, r[1])
		}
		shares, total := map[string]float64{}, 0.0
		if err := json.Unmarshal([]byte(r[5]), &shares); err != nil {
			t.Fatalf("row %d: contributions %q: %v", i, r[5], err)
		}
		for name, v := range shares {
			total += v
			if v > shares[r[4]] {
				t.Errorf("row %d: %s has more than the top sensor %q", i, name, r[4])
			}
		}
		if len(shares) > 0 && math.Abs(total-1) > 1e-4 {
			t.Errorf("row %d: shares sum to %v", i, total)
		}
		if r[2] == "1" {
			flagged++
			if i < faultAt {
				early++
			}
		}
		if (r[2] == "1") != (r[3] != "none") {
			t.Errorf("row %d: flag %s and severity %s", i, r[2], r[3])
		}
	}
	if flagged != sum.Flagged || flagged-early < 20 || early > 50 {
		t.Errorf("%d rows flagged (summary: %d), %d of them before the fault", flagged, sum.Flagged, early)
	}
}

func TestTheSameFileGivesTheSameBytes(t *testing.T) {
	text := recording(base, 1200, 900, 2)
	first, _ := score(t, t.TempDir(), text, nil)
	again, _ := score(t, t.TempDir(), text, nil)
	if first != again {
		t.Error("two runs differ")
	}
}

func TestARowRestsOnNoLaterOne(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		rows := rapid.IntRange(2, 900).Draw(t, "rows")
		text := recording(base, rows, rapid.IntRange(0, 900).Draw(t, "fault at"), rapid.Uint64().Draw(t, "seed"))
		kept := rapid.IntRange(1, rows).Draw(t, "kept")
		trainRows := rapid.IntRange(0, 50).Draw(t, "train rows")
		edit := func(o *backtest.Options) { o.TrainRows = trainRows }
		whole, _ := score(t, dir, text, edit)
		in := strings.SplitAfter(text, "\n")
		part, _ := score(t, dir, strings.Join(in[:1+kept], ""), edit)
		if got := lines(part); len(got) != 1+kept || !strings.HasPrefix(whole, part) {
			t.Fatalf("the first %d of %d rows get other lines when the others are not there", kept, rows)
		}
	})
}

func TestTrainingRowsAreNeverFlagged(t *testing.T) {
	text := recording(base, 1200, 900, 3)
	plain, sum := score(t, t.TempDir(), text, nil)
	if sum.Flagged == 0 {
		t.Fatal("nothing is flagged: this test would show nothing")
	}
	trained, sum := score(t, t.TempDir(), text, func(o *backtest.Options) { o.TrainRows = 1000 })
	want := lines(plain)
	for i, l := range lines(trained)[1:] {
		f := strings.Split(l, ",")
		if i < 1000 && (f[2] != "0" || f[3] != "none") {
			t.Fatalf("training row %d: %s", i, l)
		}
		if i >= 1000 && l != want[i+1] {
			t.Fatalf("row %d changed: %s, was %s", i, l, want[i+1])
		}
	}
	if sum.Flagged >= strings.Count(plain, ",1,") || sum.Flagged == 0 {
		t.Errorf("%d rows flagged", sum.Flagged)
	}
}

// A training file of other years, before or after the input's, is learned from: the fault is known to be one from the first rows on.
func TestATrainingFileMayBeOfOtherDates(t *testing.T) {
	text := recording(base, 120, 60, 4)
	_, untrained := score(t, t.TempDir(), text, nil)
	if untrained.Flagged != 0 {
		t.Fatalf("%d rows flagged after a minute: this test would show nothing", untrained.Flagged)
	}
	var outs []string
	for _, year := range []int{-7, 0, 9} {
		dir := t.TempDir()
		train := filepath.Join(dir, "train.csv")
		if err := os.WriteFile(train, []byte(recording(base.AddDate(year, 0, 0), 3000, 3001, 5)), 0o600); err != nil {
			t.Fatal(err)
		}
		out, sum := score(t, dir, text, func(o *backtest.Options) { o.Train = train })
		if sum.Rows != 120 || sum.Flagged < 10 {
			t.Errorf("%+d years: %d rows, %d flagged", year, sum.Rows, sum.Flagged)
		}
		outs = append(outs, out)
	}
	if outs[0] != outs[1] || outs[1] != outs[2] {
		t.Error("the dates of the training file change the scores")
	}
}

func TestAFailureLeavesNoFile(t *testing.T) {
	good := recording(base, 500, 400, 6)
	cancelled, cancel := context.WithCancel(context.Background())
	cancel()
	for name, c := range map[string]struct {
		ctx   context.Context //nolint:containedctx // a case of this test
		input string
		train string
		says  string
	}{
		"a time that is none": {context.Background(), good + "yesterday,1,2\n", "", "line 502"},
		"cells missing":       {context.Background(), good + "2026-03-01 07:00:00,1\n", "", "502"},
		"an empty file":       {context.Background(), "", "", "empty"},
		"no training sensor":  {context.Background(), good, "time,other\n2026-01-01 00:00:00,1\n", `"pressure"`},
		"no training file":    {context.Background(), good, "-", "no such file"},
		"cancelled":           {cancelled, good, "", context.Canceled.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			opt := backtest.Options{Input: filepath.Join(dir, "in.csv"), Output: filepath.Join(dir, "out", "scores.csv"), Detection: streamprocessor.DefaultDetection()}
			if err := errors.Join(os.Mkdir(filepath.Dir(opt.Output), 0o700), os.WriteFile(opt.Input, []byte(c.input), 0o600)); err != nil {
				t.Fatal(err)
			}
			if c.train != "" {
				opt.Train = filepath.Join(dir, "train.csv")
				if c.train != "-" {
					if err := os.WriteFile(opt.Train, []byte(c.train), 0o600); err != nil {
						t.Fatal(err)
					}
				}
			}
			_, err := backtest.Run(c.ctx, opt)
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("error %v, want it to say %q", err, c.says)
			}
			left, err := os.ReadDir(filepath.Dir(opt.Output))
			if err != nil || len(left) != 0 {
				t.Errorf("%v is left, %v", left, err)
			}
		})
	}
}

func TestAFileThatIsThereIsKeptUntilTheNewOneIsWhole(t *testing.T) {
	dir := t.TempDir()
	before, _ := score(t, dir, recording(base, 100, 100, 7), nil)
	opt := backtest.Options{Input: filepath.Join(dir, "bad.csv"), Output: filepath.Join(dir, "scores.csv"), Detection: streamprocessor.DefaultDetection()}
	if err := os.WriteFile(opt.Input, []byte(recording(base, 300, 300, 8)+"never,1,2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := backtest.Run(context.Background(), opt); err == nil {
		t.Fatal("no error")
	}
	after, err := os.ReadFile(opt.Output)
	if err != nil || !bytes.Equal(after, []byte(before)) {
		t.Errorf("the scores that were there have changed: %v", err)
	}
}
