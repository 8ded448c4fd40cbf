// Package checks holds hourly figures of the lake against what is usual at their hour, on a schedule, and tells of what is not.
//
// A job has slots: the times of its schedule. A slot judges the hours that are over by then (and Delay old), as a function of the lake and of what the slots before it have
// found, and is written in one transaction with the alerts that follow; so a run that was killed is simply made again. Slots that nobody ran are run late, in their order.
// One instance at a time runs; see checkstore's lease.
package checks

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/robfig/cron/v3"

	"github.com/tocsin-io/tocsin/pkg/auth"
	"github.com/tocsin-io/tocsin/services/historical-api/internal/usage"
)

// Sources of figures.
const (
	SensorMean  = "sensor_mean" // of good values of each sensor
	SensorSum   = "sensor_sum"
	SensorCount = "sensor_count"
	SQL         = "sql" // a query of (entity, metric, hour, value)
)

// Job is one check.
type Job struct {
	Name      string
	Schedule  string // cron, five fields, or @hourly, @daily
	TimeZone  string
	Source    string
	Rollup    bool // of the sources over sensors: read the table readings_1h
	SQL       string
	Entities  []string // of the sources over sensors: ids and prefixes followed by *; none: all
	Metrics   []string // of the sources over sensors: names; none: all
	ZeroGaps  bool     // an hour without a figure is a zero while other series have one
	Delay     time.Duration
	Since     string // where a new job begins; empty: now
	CatchUp   int    // slots
	Holidays  []string
	Alert     bool
	MaxSeries int
	place     *time.Location
	schedule  cron.Schedule
	rules     usage.Rules
	since     time.Time
}

const (
	maxName = 20
	// leastGap: figures are hourly.
	leastGap   = 15 * time.Minute
	maxDelay   = 24 * time.Hour
	maxCatchUp = 10_000
)

// Compile checks a job and makes it ready to run; the error begins with the field.
func (j Job) Compile() (Job, error) {
	var err error
	if j.Name == "" || len(j.Name) > maxName || strings.Trim(j.Name, "abcdefghijklmnopqrstuvwxyz0123456789_-") != "" {
		return j, fmt.Errorf("name: %q is not 1 to %d of a-z, 0-9, _ and -", j.Name, maxName)
	}
	if j.TimeZone == "Local" {
		return j, errors.New("time_zone: name the place, such as Europe/Berlin")
	}
	if j.place, err = time.LoadLocation(j.TimeZone); err != nil {
		return j, fmt.Errorf("time_zone: %q is not a place such as Europe/Berlin", j.TimeZone)
	}
	if strings.Contains(j.Schedule, "TZ=") || strings.HasPrefix(j.Schedule, "@every") {
		return j, fmt.Errorf("schedule: %q: the place is time_zone's to say, and slots are times of the clock", j.Schedule)
	}
	if j.schedule, err = cron.ParseStandard(j.Schedule); err != nil {
		return j, fmt.Errorf("schedule: %w", err)
	}
	if s, ok := j.schedule.(*cron.SpecSchedule); ok {
		s.Location = j.place
	}
	at := j.schedule.Next(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
	if at.IsZero() {
		return j, fmt.Errorf("schedule: %q never comes", j.Schedule)
	}
	for range 100 {
		next := j.schedule.Next(at)
		if next.Sub(at) < leastGap {
			return j, fmt.Errorf("schedule: %q comes more often than every %s; figures are hourly", j.Schedule, leastGap)
		}
		at = next
	}
	j.rules = usage.DefaultRules()
	j.rules.Off = map[usage.Date]bool{}
	for i, h := range j.Holidays {
		d, err := time.Parse(time.DateOnly, h)
		if err != nil {
			return j, fmt.Errorf("holidays[%d]: %q is not a date such as 2026-12-25", i, h)
		}
		y, m, day := d.Date()
		j.rules.Off[usage.Date{Year: y, Month: m, Day: day}] = true
	}
	if j.Since != "" {
		if j.since, err = time.Parse(time.RFC3339, j.Since); err != nil {
			if j.since, err = time.ParseInLocation(time.DateOnly, j.Since, j.place); err != nil {
				return j, fmt.Errorf("since: %q is neither a date nor a time such as 2026-11-20T10:00:00Z", j.Since)
			}
		}
	}
	switch {
	case j.Delay < 0 || j.Delay > maxDelay:
		return j, fmt.Errorf("delay: %s is not in 0..24h", j.Delay)
	case j.CatchUp < 1 || j.CatchUp > maxCatchUp:
		return j, fmt.Errorf("catch_up: %d is not in 1..%d", j.CatchUp, maxCatchUp)
	case j.MaxSeries < 1 || j.MaxSeries > 100_000:
		return j, fmt.Errorf("max_series: %d is not in 1..100000", j.MaxSeries)
	}
	switch j.Source {
	case SensorMean, SensorSum, SensorCount:
		if j.SQL != "" {
			return j, fmt.Errorf("sql: source is %s; set source: sql, or leave it out", j.Source)
		}
		if len(j.Entities) > 0 {
			if err := auth.CheckEquipment(j.Entities); err != nil {
				return j, fmt.Errorf("entities%w", err)
			}
		}
	case SQL:
		switch {
		case strings.TrimSpace(j.SQL) == "":
			return j, errors.New("sql: missing")
		case len(j.Entities) > 0 || len(j.Metrics) > 0:
			return j, errors.New("entities: say in the query which ones")
		}
	default:
		return j, fmt.Errorf("source: %q is not one of %s, %s, %s, %s", j.Source, SensorMean, SensorSum, SensorCount, SQL)
	}
	return j, nil
}

// Next is the first slot after t.
func (j *Job) Next(t time.Time) time.Time { return j.schedule.Next(t).UTC() }

// begin is the slot that a job is taken to have run when nothing is known of it.
func (j *Job) begin(now time.Time) time.Time {
	if !j.since.IsZero() && j.since.Before(now) {
		return j.since.UTC()
	}
	return now.UTC()
}

// due are the slots after done up to now: the latest CatchUp of them, and how many lie before those.
func (j *Job) due(done, now time.Time) (slots []time.Time, skipped int) {
	for t := j.Next(done); !t.IsZero() && !t.After(now); t = j.Next(t) {
		if slots = append(slots, t); len(slots) > 2*j.CatchUp {
			n := len(slots) - j.CatchUp
			slots, skipped = append(slots[:0], slots[n:]...), skipped+n
		}
	}
	if n := len(slots) - j.CatchUp; n > 0 {
		return slots[n:], skipped + n
	}
	return slots, skipped
}

// end is the end of the hours that are judged in a slot.
func (j *Job) end(slot time.Time) time.Time { return slot.Add(-j.Delay).Truncate(time.Hour) }
