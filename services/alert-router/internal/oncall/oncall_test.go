package oncall

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var rewrite = flag.Bool("rewrite", false, "write the transcripts anew")

func plan(t testing.TB, schedules ...Schedule) *Plan {
	t.Helper()
	p, err := New(Config{Schedules: schedules})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// handovers lists who is on duty, change by change, minute by minute.
func handovers(p *Plan, from, to time.Time) string {
	var out strings.Builder
	was := ""
	for t := from; t.Before(to); t = t.Add(time.Minute) {
		for _, d := range p.OnDuty(t) {
			if d.Person != was {
				fmt.Fprintf(&out, "%s  %s\n", t.In(p.schedules[0].zone).Format("Mon 2006-01-02 15:04 MST"), d.Person)
				was = d.Person
			}
		}
	}
	return out.String()
}

// Rotations over the nights in which clocks change: handovers stay at their hour on the wall; a shift may be an hour shorter or longer.
func TestTranscripts(t *testing.T) {
	at := func(s string) time.Time {
		v, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	var out strings.Builder
	for _, c := range []struct {
		title    string
		s        Schedule
		from, to string
	}{
		{
			"Weeks in Berlin, over the change to summer time (29 March 2026, 02:00)",
			Schedule{Name: "a", Zone: "Europe/Berlin", Start: "2026-03-16 08:00", Turn: 168 * time.Hour, People: []string{"ada", "bo", "cy"}},
			"2026-03-14T00:00:00Z", "2026-04-10T00:00:00Z",
		},
		{
			"Shifts of 8 h in Berlin, in the night of the change to summer time: the night shift has 7 h",
			Schedule{Name: "a", Zone: "Europe/Berlin", Start: "2026-03-28 06:00", Turn: 8 * time.Hour, People: []string{"early", "late", "night"}},
			"2026-03-28T00:00:00Z", "2026-03-30T12:00:00Z",
		},
		{
			"Shifts of 8 h in Berlin, in the night of the change from summer time (25 October 2026): the night shift has 9 h",
			Schedule{Name: "a", Zone: "Europe/Berlin", Start: "2026-03-28 06:00", Turn: 8 * time.Hour, People: []string{"early", "late", "night"}},
			"2026-10-24T00:00:00Z", "2026-10-26T12:00:00Z",
		},
		{
			"Days in New York that hand over within the hour that is not there (8 March 2026, 02:30)",
			Schedule{Name: "a", Zone: "America/New_York", Start: "2026-03-01 02:30", Turn: 24 * time.Hour, People: []string{"ada", "bo"}},
			"2026-03-07T00:00:00Z", "2026-03-10T12:00:00Z",
		},
		{
			"Overrides: the last one listed counts; an edge within a turn",
			Schedule{Name: "a", Zone: "Europe/Berlin", Start: "2026-12-21 08:00", Turn: 168 * time.Hour, People: []string{"ada", "bo"}, Overrides: []Override{
				{Person: "cy", From: "2026-12-24 12:00", Until: "2026-12-27 08:00"}, {Person: "di", From: "2026-12-25 00:00", Until: "2026-12-26 00:00"},
			}},
			"2026-12-20T00:00:00Z", "2026-12-30T00:00:00Z",
		},
	} {
		fmt.Fprintf(&out, "# %s\n%s\n", c.title, handovers(plan(t, c.s), at(c.from), at(c.to)))
	}
	const golden = "testdata/handovers.transcript"
	if *rewrite {
		if err := os.WriteFile(golden, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if out.String() != string(want) {
		t.Errorf("got:\n%s\nwant:\n%s", out.String(), want)
	}
}

func TestTells(t *testing.T) {
	p, err := New(Config{
		Schedules: []Schedule{
			{Name: "day", Zone: "UTC", Start: "2026-01-01 06:00", Turn: 12 * time.Hour, People: []string{"ada", "bo"}},
			{Name: "second", Zone: "UTC", Start: "2026-01-01 00:00", Turn: 24 * time.Hour, People: []string{"cy", "ada"}},
		},
		Escalations: []Escalation{{"chief", 10 * time.Minute}},
	})
	if err != nil {
		t.Fatal(err)
	}
	noon := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		who    string
		now    time.Time
		since  time.Duration
		acked  bool
		expect bool
	}{
		{"ada", noon, 0, false, true},
		{"bo", noon, 0, false, false},
		{"bo", noon.Add(8 * time.Hour), 0, false, true},
		{"cy", noon, 0, false, true},
		{"ada", noon.Add(32 * time.Hour), 0, false, true}, // by the second schedule
		{"ops", noon, 0, false, true},
		{"chief", noon, 9 * time.Minute, false, false},
		{"chief", noon, 10 * time.Minute, false, true},
		{"chief", noon, time.Hour, true, false},
		{"ada", noon, time.Hour, true, true},
	} {
		if got := p.Tells(c.who, c.now.Add(-c.since), c.now, c.acked); got != c.expect {
			t.Errorf("%s at %s, since %s, acknowledged %t: %t", c.who, c.now, c.since, c.acked, got)
		}
	}
	if !(*Plan)(nil).Tells("anybody", noon, noon, true) {
		t.Error("without a plan everybody is told")
	}
}

func TestValidate(t *testing.T) {
	good := Schedule{Name: "a", Zone: "UTC", Start: "2026-01-01 08:00", Turn: 24 * time.Hour, People: []string{"ada"}}
	for want, change := range map[string]func(*Schedule){
		"name": func(s *Schedule) { s.Name = "" }, "zone": func(s *Schedule) { s.Zone = "Mars/Base" }, "start": func(s *Schedule) { s.Start = "monday" },
		"turn": func(s *Schedule) { s.Turn = 7 * time.Hour }, "people": func(s *Schedule) { s.People = nil },
		"overrides[0].person": func(s *Schedule) { s.Overrides = []Override{{"", "2026-01-01 08:00", "2026-01-02 08:00"}} },
		"overrides[0].until":  func(s *Schedule) { s.Overrides = []Override{{"bo", "2026-01-02 08:00", "2026-01-01 08:00"}} },
	} {
		s := good
		change(&s)
		if err := (Config{Schedules: []Schedule{s}}).Validate(); err == nil || !strings.HasPrefix(err.Error(), "schedules[0]."+want+":") {
			t.Errorf("%s: %v", want, err)
		}
	}
	if err := (Config{Schedules: []Schedule{good}, Escalations: []Escalation{{"x", time.Minute}, {"x", time.Hour}}}).Validate(); err == nil {
		t.Error("an escalation given twice")
	}
}

// At any time exactly one is on duty; they take turns in order; Until is when another is.
func TestProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := Schedule{
			Name: "a", Zone: rapid.SampledFrom([]string{"UTC", "Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Asia/Kathmandu"}).Draw(t, "zone"),
			Start: fmt.Sprintf("2026-%02d-%02d %02d:%02d", rapid.IntRange(1, 12).Draw(t, "month"), rapid.IntRange(1, 28).Draw(t, "day"), rapid.IntRange(0, 23).Draw(t, "h"), rapid.IntRange(0, 59).Draw(t, "m")),
			Turn:  rapid.SampledFrom([]time.Duration{time.Hour, 8 * time.Hour, 12 * time.Hour, day, 3 * day, 7 * day}).Draw(t, "turn"),
		}
		for i := range rapid.IntRange(1, 5).Draw(t, "people") {
			s.People = append(s.People, fmt.Sprint("p", i))
		}
		p, err := New(Config{Schedules: []Schedule{s}})
		if err != nil {
			t.Fatal(err)
		}
		at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(rapid.Int64Range(-1e6, 1e6).Draw(t, "minutes")) * time.Minute)
		d := p.OnDuty(at)[0]
		told := 0
		for _, who := range s.People {
			if p.Tells(who, at, at, false) {
				told++
			}
		}
		if told != 1 {
			t.Fatalf("%d are on duty", told)
		}
		if len(s.People) > 1 {
			if !d.Until.After(at) || p.OnDuty(d.Until)[0].Person == d.Person || p.OnDuty(d.Until.Add(-time.Minute))[0].Person != d.Person {
				t.Fatalf("%s is on duty at %s until %s", d.Person, at, d.Until)
			}
		}
	})
}
