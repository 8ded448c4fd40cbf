package hops

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestQuantiles(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		now := time.Unix(1_700_000_000, 0)
		list := rapid.SliceOfN(rapid.Int64Range(0, 3_600_000), 1, 200).Draw(t, "ms")
		var r Recorder
		r.Start()
		for i, ms := range list {
			r.Add(Judged, time.Duration(ms)*time.Millisecond, now.Add(time.Duration(i)*time.Millisecond))
		}
		f := r.Read(now.Add(time.Second))[Judged]
		slices.Sort(list)
		if f.Count != uint64(len(list)) || f.Max.Milliseconds() != list[len(list)-1] {
			t.Fatalf("%+v of %v", f, list)
		}
		for q, got := range map[float64]time.Duration{0.5: f.P50, 0.9: f.P90, 0.99: f.P99} {
			rank := max(int(q*float64(len(list))+0.999999)-1, 0)
			want := float64(list[rank])
			if g := float64(got.Milliseconds()); g < want-0.5 || g > want*1.25+1 {
				t.Fatalf("quantile %v is %v, want about %v ms, of %v", q, got, want, list)
			}
		}
	})
}

func TestBuckets(t *testing.T) {
	for ms := range int64(100_000) {
		d := time.Duration(ms) * time.Millisecond
		b := bucket(d)
		if most(b) < d || b > 0 && most(b-1) >= d {
			t.Fatalf("%v lies in bucket %d, which ends at %v after %v", d, b, most(b), most(b-1))
		}
	}
	if b := bucket(longest); b >= buckets-1 {
		t.Errorf("the longest does not fit: bucket %d", b)
	}
}

func TestForgets(t *testing.T) {
	var r Recorder
	r.Add(Shown, time.Minute, time.Unix(1_700_000_000, 0)) // the past
	r.Start()
	now := time.Unix(1_700_000_000, 0)
	r.Add(Shown, time.Second, now)
	r.Add(Shown, 7*time.Hour, now)
	r.Add(Shown, -time.Hour, now)
	if f := r.Read(now)[Shown]; f.Count != 2 || f.Max != time.Second || f.P50 != 0 {
		t.Errorf("%+v", f)
	}
	if f := r.Read(now.Add(slots * length))[Shown]; f.Count != 0 || f.P99 != 0 {
		t.Errorf("after a minute: %+v", f)
	}
	if n := testing.AllocsPerRun(100, func() { r.Add(Judged, time.Second, now) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
