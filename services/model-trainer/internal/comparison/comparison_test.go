package comparison

import (
	"fmt"
	"math"
	"testing"
	"time"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
)

var start = time.Date(2026, 3, 1, 6, 0, 0, 0, time.UTC)

// counts is the record of one minute in which so many windows were judged, and some machines paged.
func counts(minute int, windows uint64, pages ...*eventv1.ModelPage) *eventv1.ModelComparison {
	return &eventv1.ModelComparison{
		Champion: "pump@aaaaaaaaaaaa", Shadow: "pump@bbbbbbbbbbbb", UntilMs: start.Add(time.Duration(minute) * time.Minute).UnixMilli(),
		Neither: windows, MachineUs: float64(windows) * 5e6, Pages: pages,
	}
}

func at(minute int) int64 { return start.Add(time.Duration(minute) * time.Minute).UnixMicro() }

// paged is a machine that the champion, the shadow or both would page for at that minute.
func paged(machine string, minute int, champion, shadow bool) *eventv1.ModelPage {
	p := &eventv1.ModelPage{EquipmentId: machine}
	if champion {
		p.ChampionFirstUs, p.ChampionLastUs, p.ChampionSurprise = at(minute), at(minute), 15
	}
	if shadow {
		p.ShadowFirstUs, p.ShadowLastUs, p.ShadowSurprise = at(minute)-10e6, at(minute), 16
	}
	return p
}

func called(machine string, minute int, is eventv1.AlertVerdict) *eventv1.AlertEvent {
	return &eventv1.AlertEvent{
		AlertId: fmt.Sprintf("%s/behaviour/%d", machine, at(minute)), EquipmentId: machine, Cause: "behaviour", Verdict: is,
		Transition: eventv1.AlertTransition_ALERT_TRANSITION_VERDICT, StartedUs: at(minute), EndedUs: at(minute + 5),
	}
}

func link(id string) string { return "#/" + id }

func only(t *testing.T, b *Book) Pair {
	t.Helper()
	pairs, until := b.Compare("pump", start.Add(-time.Hour), start.Add(48*time.Hour), link)
	if len(pairs) != 1 || until.IsZero() {
		t.Fatal(pairs, until)
	}
	return pairs[0]
}

func TestPagesAreJoinedAndCompared(t *testing.T) {
	b := NewBook()
	b.Count(counts(1, 10_000, paged("p1", 1, true, true)), Took{Champion: time.Microsecond})
	b.Count(counts(2, 10_000, paged("p1", 2, true, false), paged("p2", 2, true, false)), Took{})
	b.Count(counts(30, 10_000, paged("p1", 30, true, false)), Took{})
	b.Count(&eventv1.ModelComparison{Shadow: "fan@cccccccccccc", UntilMs: start.UnixMilli(), Both: 1, MachineUs: 1}, Took{})
	b.Count(&eventv1.ModelComparison{
		Champion: "pump@aaaaaaaaaaaa", Shadow: "pump@bbbbbbbbbbbb", UntilMs: start.UnixMilli(), Both: 10, ChampionOnly: 30, ShadowOnly: 20, MachineUs: 60 * 5e6,
	}, Took{})
	p := only(t, b)
	if p.Windows != 30_060 || math.Abs(p.MachineMonths-30_060*5e6/monthUS) > 1e-9 || p.Unusual.ChampionOnly != 30 || math.Abs(*p.Agreement-30_010.0/30_060) > 1e-12 || *p.Kappa < 0.28 || *p.Kappa > 0.29 {
		t.Errorf("%+v", p)
	}
	c, s := p.Champion, p.Shadow
	// p1's minutes 1 and 2 are one page, 30 another.
	if c.Pages != 3 || s.Pages != 1 || p.PagesOfBoth != 1 || *p.LeadSeconds != 10 || c.OnlyCount != 2 || s.OnlyCount != 0 || c.ScoreTook != "1µs" || c.Precision != nil {
		t.Errorf("%+v %+v %+v", p, c, s)
	}
	if rate := *c.PagesPerMachineMonth; math.Abs(rate-3/p.MachineMonths) > 1e-9 || *c.Low > rate || *c.High < rate || math.Abs(*s.High*p.MachineMonths-5.5716) > 1e-3 {
		t.Error(rate, *c.Low, *c.High, *s.High*p.MachineMonths)
	}
	if c.Only[0].EquipmentID != "p1" || c.Only[0].Link != "#/p1" || c.Only[1].EquipmentID != "p2" || c.Only[0].Surprise != 15 {
		t.Errorf("%+v", c.Only)
	}
	if p.Advice.Advice != "wait" {
		t.Errorf("%+v", p.Advice)
	}
	if pairs, _ := b.Compare("", start.Add(10*time.Minute), start.Add(time.Hour), link); len(pairs) != 1 || pairs[0].Windows != 10_000 || pairs[0].Champion.Pages != 1 {
		t.Errorf("%+v", pairs)
	}
	if pairs, _ := b.Compare("fan", start.Add(-time.Hour), start.Add(time.Hour), link); len(pairs) != 1 || pairs[0].Champion.Model != allDetectors || pairs[0].Advice.Advice != "wait" {
		t.Errorf("%+v", pairs)
	}
	b.Reset()
	if pairs, _ := b.Compare("", start.Add(-time.Hour), start.Add(time.Hour), link); len(pairs) != 0 {
		t.Error(pairs)
	}
}

func TestVerdictsDecide(t *testing.T) {
	const genuine, isFalse = eventv1.AlertVerdict_ALERT_VERDICT_REAL, eventv1.AlertVerdict_ALERT_VERDICT_FALSE
	for name, c := range map[string]struct {
		verdict          eventv1.AlertVerdict
		champion, shadow bool
		n                int
		want             string
	}{
		"the shadow finds what the champion misses": {genuine, false, true, 6, "promote"},
		"the shadow is quiet where nothing is":      {isFalse, true, false, 6, "promote"},
		"the shadow misses":                         {genuine, true, false, 6, "keep"},
		"the shadow cries":                          {isFalse, false, true, 6, "keep"},
		"one is not enough":                         {genuine, false, true, 1, "wait"},
		"both right":                                {genuine, true, true, 6, "wait"},
		"quieter, and nobody said what it was":      {0, true, false, 20, "look"},
		"louder, and nobody said what it was":       {0, false, true, 20, "keep"},
	} {
		b := NewBook()
		for i := range c.n {
			m := fmt.Sprintf("p%d", i)
			b.Count(counts(i, 5_000, paged(m, i, c.champion, c.shadow)), Took{})
			if c.verdict != 0 {
				b.Hear(called(m, i, c.verdict))
			}
		}
		other := called("p0", 0, isFalse)
		other.AlertId, other.Cause = "other", "silence"
		b.Hear(other)
		p := only(t, b)
		if p.Advice.Advice != c.want || p.Why == "" || (p.Confidence > 0) != (c.want != "wait") || p.Confidence > 1 {
			t.Errorf("%s: %+v", name, p.Advice)
		}
		if c.verdict == genuine && c.champion && *p.Champion.Precision != 1 || c.verdict == isFalse && c.shadow && *p.Shadow.Precision != 0 {
			t.Errorf("%s: %+v", name, p)
		}
	}
}

// An alert that is still open belongs to whatever came since it began; a verdict may be changed.
func TestAnAlertsEnd(t *testing.T) {
	b := NewBook()
	b.Count(counts(100, 5_000, paged("p1", 100, true, false)), Took{})
	e := called("p1", 1, eventv1.AlertVerdict_ALERT_VERDICT_FALSE)
	e.EndedUs = 0
	b.Hear(e)
	e.Verdict = eventv1.AlertVerdict_ALERT_VERDICT_SENSOR
	b.Hear(e)
	if p := only(t, b); p.Champion.Judged != 1 || *p.Champion.Precision != 1 || p.Verdicts.Real != 1 || p.Champion.Only[0].Verdict != "sensor" {
		t.Errorf("%+v", p)
	}
	e.Transition, e.EndedUs = eventv1.AlertTransition_ALERT_TRANSITION_CLOSED, at(5)
	b.Hear(e)
	if p := only(t, b); p.Champion.Judged != 0 || p.Verdicts.RealChampion != 0 {
		t.Errorf("%+v", p)
	}
}

func TestTheBookIsBounded(t *testing.T) {
	b := NewBook()
	for i := range maxMoments + 10 {
		b.Count(counts(i, 1, paged("p", i, true, true), paged("q", i, true, true), paged("r", i, true, true), paged("s", i, true, true), paged("u", i, true, true)), Took{})
	}
	b.Count(counts(1, 1), Took{}) // older than what is kept
	for i := range maxPairs + 5 {
		b.Count(&eventv1.ModelComparison{Shadow: fmt.Sprint(i), UntilMs: int64(i) * minuteMS}, Took{})
	}
	for i := range maxVerdicts + 1 {
		b.Hear(called("p", i, eventv1.AlertVerdict_ALERT_VERDICT_REAL))
	}
	r := b.pairs[pair{"pump@aaaaaaaaaaaa", "pump@bbbbbbbbbbbb"}]
	if r == nil || len(r.moments) != maxMoments || len(r.stretches) > maxStretch || len(b.pairs) > maxPairs || len(b.verdicts) > maxVerdicts {
		t.Fatal(len(r.moments), len(r.stretches), len(b.pairs), len(b.verdicts))
	}
}

func TestHowSure(t *testing.T) {
	for _, c := range []struct {
		more, fewer int
		want        float64
	}{{0, 0, 0}, {1, 0, 0.5}, {5, 0, 1 - 1.0/32}, {3, 3, 0}, {9, 1, 1 - 11.0/1024}} {
		if got := surer(c.more, c.fewer); math.Abs(got-c.want) > 1e-9 {
			t.Errorf("%d to %d: %v, want %v", c.more, c.fewer, got, c.want)
		}
	}
	if took := tookOf("champion=812ns shadow=1.5µs what x=y shadow"); took != (Took{812, 1500}) {
		t.Error(took)
	}
}
