package machine

import (
	"flag"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var rewrite = flag.Bool("rewrite", false, "write the golden files anew")

// TestLife holds one machine's whole life against a transcript that a human can read: what it said, and when.
func TestLife(t *testing.T) {
	critical := 70.0
	r := newRig(t, func(c *Config) { c.Detect.Limits = append(c.Detect.Limits, limitFor("s0", nil, &critical)) })
	s := newSignal(42)
	var b strings.Builder
	seen := 0
	note := func(i int64) {
		for _, w := range r.windows {
			if w.Revision > 0 || w.StartUS%(100*second) == 0 {
				fmt.Fprintf(&b, "%5d window %d/%d learning %t score %.4f", i, (w.StartUS-epoch0)/second, w.Revision, w.Learning, w.Score)
				for _, sw := range w.Sensors {
					fmt.Fprintf(&b, " %s n=%d/%d mean %.4f sd %.4f %.4f (%.3f to %.3f)", sw.Sensor, sw.Count, sw.Unusable, sw.Mean, sw.Stddev, sw.Score, sw.ExpectedLow, sw.ExpectedHigh)
				}
				b.WriteByte('\n')
			}
		}
		r.windows = r.windows[:0]
		for _, a := range r.anomalies[seen:] {
			fmt.Fprintf(&b, "%5d %s %s %s score %.6f confidence %.3f %q", i, a.AnomalyId, a.Phase, a.Severity, a.Score, a.Confidence, a.Summary)
			for _, c := range a.Contributions {
				fmt.Fprintf(&b, " [%s %.3f %s]", c.Sensor, c.Share, c.Detector)
			}
			b.WriteByte('\n')
		}
		seen = len(r.anomalies)
	}
	for i := int64(0); i < 3000; i++ {
		v := s.next()
		switch {
		case i >= 600 && i < 760: // a bearing fails
			v[0] += float32(i-600) / 10
		case i >= 1000 && i < 1150: // s1 hangs
			v[1] = 19.75
		case i >= 1400 && i < 1500: // s2 is unplugged
			v[2] = float32(math.NaN())
		case i >= 1800 && i < 1900: // far too hot
			v[0] = 90 + v[0]/100
		case i >= 2200 && i < 2300: // the line is dead
			if i%10 == 0 {
				r.tick(epoch0/1000 + i*1000)
				note(i)
			}
			continue
		}
		at := epoch0 + i*second
		if i >= 2600 && i < 2610 { // the gateway's clock jumps
			r.seq++
			r.logMS = at / 1000
			r.apply(frameOf(r.seq, names(3), []int64{at + 3600*second}, [][]float32{{v[0]}, {v[1]}, {v[2]}}))
		} else {
			r.sample(at, v...)
		}
		if i%500 == 499 { // a straggler
			r.sample(at-12*second, v...)
		}
		note(i)
	}
	path := filepath.Join("testdata", "life.txt")
	if *rewrite {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if b.String() != string(want) {
		t.Fatalf("the life differs from %s (-rewrite accepts it); now:\n%s", path, b.String())
	}
}
