// Package oncall says who is on duty, and from when on an alert that nobody acknowledges goes to whom. It does no I/O and reads no clock.
//
// People are receivers of the routing file, which says who may be told of what: `continue: true` lets an alert go to several. This package says which of them are told now. Who is in a
// schedule is told while on duty; who has an escalation is told of what has stood unacknowledged for so long; everybody else is told as ever.
package oncall

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Config of people on duty.
type Config struct {
	Schedules   []Schedule   `mapstructure:"schedules" doc:"Who is on duty when. A receiver of the routing file that is in a schedule is told while it is on duty in any of them; route to all of them with continue: true."`
	Escalations []Escalation `mapstructure:"escalations" doc:"Receivers of the routing file that are told only of what nobody has acknowledged in time."`
}

// Schedule is a rotation.
type Schedule struct {
	Name      string        `mapstructure:"name" doc:"What people call it."`
	Zone      string        `mapstructure:"zone" doc:"Time zone of the handovers, such as Europe/Berlin."`
	Start     string        `mapstructure:"start" doc:"First handover, in that zone: 2026-03-02 08:00. The first of people is on duty from then on, and before then those that the rotation gives backwards."`
	Turn      time.Duration `mapstructure:"turn" doc:"How long one is on duty: whole days (168h is a week), or a part of a day that divides it (8h). By the clock on the wall: a night in which clocks change is an hour shorter or longer."`
	People    []string      `mapstructure:"people" doc:"Receivers of the routing file, in turn."`
	Overrides []Override    `mapstructure:"overrides" doc:"Times in which another is on duty; of several the last one listed counts."`
}

// Override puts somebody on duty for a time.
type Override struct {
	Person string `mapstructure:"person" doc:"A receiver of the routing file. It need not be one of people."`
	From   string `mapstructure:"from" doc:"2026-12-24 18:00, in the schedule's zone."`
	Until  string `mapstructure:"until" doc:"2026-12-26 08:00, in the schedule's zone; exclusive."`
}

// Escalation is a receiver that is told late.
type Escalation struct {
	Receiver string        `mapstructure:"receiver" doc:"A receiver of the routing file."`
	After    time.Duration `mapstructure:"after" doc:"How long an alert must have stood unacknowledged. Looked at every group_interval of its route."`
}

const (
	wall = "2006-01-02 15:04"
	day  = 24 * time.Hour
)

// Validate names the first field that is wrong.
func (c Config) Validate() error {
	_, err := New(c)
	return err
}

// Plan is a Config that has been checked. Safe for concurrent use.
type Plan struct {
	schedules []schedule
	after     map[string]time.Duration
}

type schedule struct {
	name      string
	zone      *time.Location
	startDay  int // days since 1970-01-01, in the zone
	handover  int // minute of the day
	days      int // whole days of a turn; 0: less than a day
	minutes   int // of a turn that is less than a day
	people    []string
	overrides []override
}

type override struct {
	person      string
	from, until time.Time
}

// New compiles a configuration.
func New(c Config) (*Plan, error) {
	p := &Plan{after: map[string]time.Duration{}}
	names := map[string]bool{}
	for i, s := range c.Schedules {
		if s.Name == "" || names[s.Name] {
			return nil, fmt.Errorf("schedules[%d].name: missing, or given twice", i)
		}
		names[s.Name] = true
		one, err := compile(s)
		if err != nil {
			return nil, fmt.Errorf("schedules[%d].%w", i, err)
		}
		p.schedules = append(p.schedules, one)
	}
	for i, e := range c.Escalations {
		if e.Receiver == "" {
			return nil, fmt.Errorf("escalations[%d].receiver: missing", i)
		}
		if _, ok := p.after[e.Receiver]; ok {
			return nil, fmt.Errorf("escalations[%d].receiver: %q is given twice", i, e.Receiver)
		}
		if e.After <= 0 || e.After > 7*day {
			return nil, fmt.Errorf("escalations[%d].after: %s is not in 1ns..168h", i, e.After)
		}
		p.after[e.Receiver] = e.After
	}
	return p, nil
}

func compile(s Schedule) (schedule, error) {
	out := schedule{name: s.Name, people: s.People}
	var err error
	if s.Zone == "" {
		return out, errors.New("zone: missing")
	}
	if out.zone, err = time.LoadLocation(s.Zone); err != nil {
		return out, fmt.Errorf("zone: %q is not a time zone", s.Zone)
	}
	start, err := time.Parse(wall, s.Start)
	if err != nil {
		return out, fmt.Errorf("start: %q is not of the form %q", s.Start, wall)
	}
	out.startDay, out.handover = dayOf(start), start.Hour()*60+start.Minute()
	switch {
	case s.Turn >= day && s.Turn%day == 0 && s.Turn <= 366*day:
		out.days = int(s.Turn / day)
	case s.Turn >= time.Hour && s.Turn < day && day%s.Turn == 0:
		out.minutes = int(s.Turn / time.Minute)
	default:
		return out, fmt.Errorf("turn: %s is neither whole days nor a part of a day that divides it", s.Turn)
	}
	if len(s.People) == 0 || slices.Contains(s.People, "") {
		return out, errors.New("people: empty, or somebody without a name")
	}
	for i, o := range s.Overrides {
		c := override{person: o.Person}
		if c.person == "" {
			return out, fmt.Errorf("overrides[%d].person: missing", i)
		}
		if c.from, err = time.ParseInLocation(wall, o.From, out.zone); err != nil {
			return out, fmt.Errorf("overrides[%d].from: %q is not of the form %q", i, o.From, wall)
		}
		if c.until, err = time.ParseInLocation(wall, o.Until, out.zone); err != nil {
			return out, fmt.Errorf("overrides[%d].until: %q is not of the form %q", i, o.Until, wall)
		}
		if !c.from.Before(c.until) {
			return out, fmt.Errorf("overrides[%d].until: not after from", i)
		}
		out.overrides = append(out.overrides, c)
	}
	return out, nil
}

// dayOf counts a wall clock's days since 1970-01-01.
func dayOf(t time.Time) int {
	y, m, d := t.Date()
	return int(time.Date(y, m, d, 0, 0, 0, 0, time.UTC).Unix() / int64(day/time.Second))
}

// onDuty is who a schedule has at a time.
func (s *schedule) onDuty(t time.Time) string {
	for _, o := range slices.Backward(s.overrides) {
		if !t.Before(o.from) && t.Before(o.until) {
			return o.person
		}
	}
	local := t.In(s.zone)
	minute := local.Hour()*60 + local.Minute() - s.handover
	days := dayOf(local) - s.startDay
	if minute < 0 { // before today's handover it is still yesterday's duty
		minute += 24 * 60
		days--
	}
	turn := 0
	if s.days > 0 {
		turn = floorDiv(days, s.days)
	} else {
		turn = days*(24*60/s.minutes) + minute/s.minutes
	}
	return s.people[turn-floorDiv(turn, len(s.people))*len(s.people)]
}

func floorDiv(a, b int) int {
	q := a / b
	if a%b != 0 && (a < 0) != (b < 0) {
		q--
	}
	return q
}

// Duty is who is on duty in one schedule.
type Duty struct {
	Schedule string
	Person   string
	// Until is the next time, to the minute, at which that may change.
	Until time.Time
}

// OnDuty is who is on duty at a time, by schedule.
func (p *Plan) OnDuty(t time.Time) []Duty {
	out := make([]Duty, 0, len(p.schedules))
	for i := range p.schedules {
		s := &p.schedules[i]
		out = append(out, Duty{s.name, s.onDuty(t), s.until(t)})
	}
	slices.SortFunc(out, func(a, b Duty) int { return cmp.Compare(a.Schedule, b.Schedule) })
	return out
}

// until looks for the next handover or edge of an override.
func (s *schedule) until(t time.Time) time.Time {
	step := s.minutes
	if step == 0 {
		step = 24 * 60
	}
	local := t.In(s.zone)
	y, m, d := local.Date()
	var next time.Time
	for n := -24 * 60 / step; next.IsZero(); n++ {
		c := time.Date(y, m, d, 0, s.handover+n*step, 0, 0, s.zone)
		if c.After(t) && s.onDuty(c) != s.onDuty(t) || n > 400*24*60/step {
			next = c
		}
	}
	for _, o := range s.overrides {
		for _, edge := range []time.Time{o.from, o.until} {
			if edge.After(t) && edge.Before(next) && s.onDuty(edge) != s.onDuty(t) {
				next = edge
			}
		}
	}
	return next
}

// Tells says whether a receiver is told now of an alert that stands since a time.
func (p *Plan) Tells(receiver string, since, now time.Time, acknowledged bool) bool {
	if p == nil {
		return true
	}
	if after, ok := p.after[receiver]; ok && (acknowledged || now.Sub(since) < after) {
		return false
	}
	scheduled := false
	for i := range p.schedules {
		s := &p.schedules[i]
		if !s.names(receiver) {
			continue
		}
		scheduled = true
		if s.onDuty(now) == receiver {
			return true
		}
	}
	return !scheduled
}

func (s *schedule) names(person string) bool {
	return slices.Contains(s.people, person) || slices.ContainsFunc(s.overrides, func(o override) bool { return o.person == person })
}

// Receivers are all that the plan names, for a check against the routing file.
func (p *Plan) Receivers() []string {
	var out []string
	for i := range p.schedules {
		out = append(out, p.schedules[i].people...)
		for _, o := range p.schedules[i].overrides {
			out = append(out, o.person)
		}
	}
	for r := range p.after {
		out = append(out, r)
	}
	slices.Sort(out)
	return slices.Compact(out)
}
