package history

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func marks(n int) []mark {
	out := make([]mark, n)
	for i := range out {
		out[i] = mark{name: fmt.Sprint("record ", i), content: uint64(1000 + i), at: int64(i)}
	}
	return out
}

func kindsOf(ds []difference) map[string]int {
	out := map[string]int{}
	for _, d := range ds {
		out[d.kind]++
	}
	return out
}

// Whatever is done to a log, each deed is named once and by its name.
func TestEachDeedIsNamedOnce(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 60).Draw(t, "records")
		want := marks(n)
		var got []mark
		deeds := map[string]int{}
		for i, m := range want {
			m.at = int64(100 + i)
			switch rapid.SampledFrom([]string{"", "", "", "", Lost, Wrong, Duplicated, Invented}).Draw(t, "deed") {
			case Lost:
				deeds[Lost]++
				continue
			case Wrong:
				deeds[Wrong]++
				m.content ^= 1 << 63
			case Duplicated:
				deeds[Duplicated]++
				got = append(got, m)
			case Invented:
				deeds[Invented]++
				got = append(got, mark{name: fmt.Sprint("strange ", i), content: 7})
			}
			got = append(got, m)
		}
		if found := kindsOf(compare(want, got, false)); fmt.Sprint(found) != fmt.Sprint(deeds) {
			t.Fatalf("done: %v, found: %v", deeds, found)
		}
		shuffled := slices.Clone(got)
		slices.Reverse(shuffled)
		if found := kindsOf(compare(want, shuffled, true)); fmt.Sprint(found) != fmt.Sprint(deeds) {
			t.Fatalf("done: %v, found without order: %v", deeds, found)
		}
	})
}

func TestOneRecordThatMovedIsOneFinding(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(3, 40).Draw(t, "records")
		want := marks(n)
		from := rapid.IntRange(0, n-1).Draw(t, "from")
		to := rapid.IntRange(0, n-2).Filter(func(i int) bool { return i != from }).Draw(t, "to")
		got := slices.Clone(want)
		m := got[from]
		got = slices.Insert(slices.Delete(got, from, from+1), to, m)
		if found := kindsOf(compare(want, got, false)); len(found) != 1 || found[Reordered] != 1 {
			t.Fatalf("one record was moved from %d to %d, found: %v", from, to, found)
		}
	})
}

// What is past the commit may stand there or not, but not with a hole in it.
func TestATailThatIsNotPromised(t *testing.T) {
	want := marks(10)
	for i := 6; i < 10; i++ {
		want[i].may = true
	}
	for n := range 11 {
		lost := max(0, 6-n)
		if found := kindsOf(compare(want, want[:n], false)); found[Lost] != lost || len(found) != min(lost, 1) {
			t.Errorf("%d of 10 stand there, 6 are promised: %v", n, found)
		}
	}
	holed := slices.Delete(slices.Clone(want), 7, 8)
	if found := kindsOf(compare(want, holed, false)); found[Lost] != 1 {
		t.Errorf("a hole before what stands there: %v", found)
	}
}

func TestTicksAreHeldAgainstTheDataAroundThem(t *testing.T) {
	tick := mark{content: 3}
	d := marks(4)
	want := []mark{d[0], tick, d[1], d[2], tick, d[3]}
	if found := compareStream(want, slices.Clone(want)); found != nil {
		t.Errorf("the same: %v", found)
	}
	if found := kindsOf(compareStream(want, []mark{d[0], d[1], tick, d[2], tick, d[3]})); found[Lost] != 1 || found[Invented] != 1 {
		t.Errorf("a tick that moved: %v", found)
	}
	if found := kindsOf(compareStream(want, []mark{d[0], tick, d[2], tick, d[3]})); len(found) != 1 || found[Lost] != 1 {
		t.Errorf("a record that is missing says nothing of the ticks: %v", found)
	}
}

func ref(q int) FrameRef { return FrameRef{"gw", "m", uint64(q)} }

// judged runs readings of a ledger's frames past the checker.
func judged(l *Ledger, order ...int) *Report {
	rep := newReport()
	s := l.look()
	for _, q := range order {
		s.frame(rep, "frames", ref(q))
		s.judge(rep, "readings", ref(q))
	}
	s.missing(rep, true)
	return rep
}

func TestOrderIsThatOfFirstSends(t *testing.T) {
	for _, c := range []struct {
		name  string
		sent  func(*Ledger)
		order []int
		want  []string
	}{
		{"in order", func(l *Ledger) { each(l, 1, 2, 3) }, []int{1, 2, 3}, nil},
		{"swapped", func(l *Ledger) { each(l, 1, 2, 3) }, []int{1, 3, 2}, []string{Reordered}},
		{"sent again after later ones", func(l *Ledger) {
			l.Sent(ref(1))
			l.Sent(ref(2))
			l.Acked(ref(2))
			l.Sent(ref(1))
			l.Acked(ref(1))
		}, []int{2, 1}, nil},
		{"sent again, and the later ones waited", func(l *Ledger) {
			l.Sent(ref(1))
			l.Sent(ref(1))
			l.Acked(ref(1))
			l.Sent(ref(2))
		}, []int{2, 1}, []string{Reordered}},
		{"a repeat after the answer changes nothing", func(l *Ledger) {
			l.Sent(ref(1))
			l.Acked(ref(1))
			l.Sent(ref(2))
			l.Sent(ref(1))
			l.Acked(ref(2))
		}, []int{2, 1}, []string{Reordered}},
		{"sequences with gaps, and backwards", func(l *Ledger) { each(l, 10, 20, 15, 3) }, []int{10, 20, 15, 3}, nil},
		{"acknowledged and not there", func(l *Ledger) { each(l, 1, 2, 3) }, []int{1, 3}, []string{Lost}},
		{"sent, not acknowledged and not there", func(l *Ledger) { each(l, 1, 2); l.Sent(ref(3)) }, []int{1, 2}, nil},
		{"judged twice", func(l *Ledger) { each(l, 1, 2) }, []int{1, 2, 2}, []string{Duplicated}},
		{"never sent", func(l *Ledger) { each(l, 1) }, []int{1, 2}, []string{Invented}},
		{"rejected", func(l *Ledger) { each(l, 1); l.Sent(ref(2)); l.Rejected(ref(2)) }, []int{1, 2}, []string{Invented}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := NewLedger()
			c.sent(l)
			if rep := judged(l, c.order...); !slices.Equal(rep.Kinds(), c.want) {
				t.Errorf("found %v, want %v: %s", rep.Kinds(), c.want, rep)
			}
		})
	}
}

func each(l *Ledger, sequences ...int) {
	for _, q := range sequences {
		l.Sent(ref(q))
		l.Acked(ref(q))
	}
}

func TestALedgerIsSmall(t *testing.T) {
	const n = 1_000_000
	l := NewLedger()
	for i := range n {
		r := FrameRef{"gw", fmt.Sprint("m", i%100), uint64(i/100 + 1)}
		l.Sent(r)
		l.Acked(r)
	}
	bytes := 0
	for _, s := range l.streams {
		if s.index != nil {
			t.Fatal("consecutive sequences need no index")
		}
		bytes += 8*cap(s.sequences) + cap(s.status) + 4*cap(s.before)
	}
	if bytes > 20*n {
		t.Errorf("%d bytes for %d frames", bytes, n)
	}
	if sent, acked, _ := l.Counts(); sent != n || acked != n {
		t.Errorf("%d sent, %d acknowledged of %d", sent, acked, n)
	}
}

func TestNobodyNeedsToHearOfWhatEndedInAnOutage(t *testing.T) {
	at := func(s int) time.Time { return time.UnixMilli(int64(s) * 1000) }
	l := newAlertLog()
	l.newestMS = 1_000_000
	l.alerts["short"] = &alertLife{openedMS: 100_000, closedMS: 105_000}
	l.alerts["in an outage"] = &alertLife{openedMS: 200_000, closedMS: 300_000}
	l.alerts["new"] = &alertLife{openedMS: 995_000}
	l.alerts["forgotten"] = &alertLife{openedMS: 400_000, closedMS: 500_000}
	rep := newReport()
	l.compare(rep, &World{NotifyWithin: 10 * time.Second, Outages: []Outage{{at(260), at(600)}, {at(195), at(270)}, {at(480), at(490)}}})
	// The outage from 270 on covers the last one too.
	if rep.Found[Unnotified] != 0 {
		t.Errorf("all were short, new, or in an outage: %s", rep)
	}
	rep = newReport()
	l.compare(rep, &World{NotifyWithin: 10 * time.Second, Outages: []Outage{{at(195), at(295)}}})
	if rep.Found[Unnotified] != 1 {
		t.Errorf("one was forgotten: %s", rep)
	}
}
