package historicalapi

import (
	"cmp"
	"fmt"
	"os"
	"time"

	"github.com/tocsin-io/tocsin/services/historical-api/internal/checks"
	"github.com/tocsin-io/tocsin/services/historical-api/internal/checkstore"
)

// Checks are what is checked on a schedule.
type Checks struct {
	Instance  string        `mapstructure:"instance_id" doc:"Name of this instance among those that share the store; it keeps it when it restarts. Empty: the host's name."`
	URL       string        `mapstructure:"url" doc:"Where findings are kept: a PostgreSQL database, postgres://user:password@host/database, which several instances may share. Empty: SQLite in data_dir." secret:"true"`
	Lease     time.Duration `mapstructure:"lease" doc:"One instance at a time runs jobs. When it has not been heard of for this long another takes over."`
	Stand     time.Duration `mapstructure:"stand" doc:"An alert stands at least so long, so that people are told also of what was over when it was found."`
	Retention time.Duration `mapstructure:"retention" doc:"How long findings are kept."`
	Jobs      []CheckJob    `mapstructure:"jobs" doc:"The checks."`
}

// CheckJob is one check. Keys that are left out have the defaults that their texts name.
type CheckJob struct {
	Name      string        `mapstructure:"name" doc:"1 to 20 of a-z, 0-9, _ and -. Alerts have it in their cause; a job under another name begins anew."`
	Schedule  string        `mapstructure:"schedule" doc:"When it runs: cron, five fields, in time_zone; or @hourly, @daily. Empty: 20 * * * *, which is twenty past each hour."`
	TimeZone  string        `mapstructure:"time_zone" doc:"Whose weekdays, hours and holidays count, such as Europe/Berlin. Empty: UTC."`
	Source    string        `mapstructure:"source" doc:"Hourly figures: sensor_mean, sensor_sum or sensor_count (of each sensor's good values), or sql. Empty: sql when there is a query, else sensor_mean."`
	Rollup    bool          `mapstructure:"rollup" doc:"Of the sources over sensors: read the table readings_1h instead of readings. Faster by far, where it is kept."`
	SQL       string        `mapstructure:"sql" doc:"A query with the columns entity, metric, hour, value, one row for an hour at most. Tables have the rows of the times that are needed."`
	Entities  []string      `mapstructure:"entities" doc:"Of the sources over sensors: equipment ids, or prefixes followed by *. Empty: all."`
	Metrics   []string      `mapstructure:"metrics" doc:"Of the sources over sensors: sensors. Empty: all."`
	Missing   string        `mapstructure:"missing" doc:"What an hour without a figure is: unknown, or zero, while other series of the job have a figure. Empty: unknown."`
	Delay     time.Duration `mapstructure:"delay" doc:"An hour is judged once it has been over for this long: what is stored later does not count. 0: 15m."`
	Since     string        `mapstructure:"since" doc:"Where a new job begins: a date or time (RFC 3339). Empty: now."`
	CatchUp   int           `mapstructure:"catch_up" doc:"How many missed runs are made up for, the latest ones. 0: 168."`
	Holidays  []string      `mapstructure:"holidays" doc:"Dates that are neither judged nor learned from, such as 2026-12-25."`
	Silent    bool          `mapstructure:"silent" doc:"Keep findings, but send no alerts."`
	MaxSeries int           `mapstructure:"max_series" doc:"Pairs of entity and metric; beyond it the job fails and says so. 0: 2000."`
}

func defaultChecks() Checks {
	return Checks{Lease: 15 * time.Second, Stand: time.Hour, Retention: 90 * 24 * time.Hour}
}

// Validate names the first field that is wrong.
func (c Checks) Validate() error {
	if err := checkstore.Validate(c.URL); err != nil {
		return fmt.Errorf("url: %w", err)
	}
	switch {
	case c.Lease < time.Second || c.Lease > 10*time.Minute:
		return fmt.Errorf("lease: %s is not in 1s..10m", c.Lease)
	case c.Stand < 0 || c.Stand > 7*24*time.Hour:
		return fmt.Errorf("stand: %s is not in 0..168h", c.Stand)
	case c.Retention < 24*time.Hour:
		return fmt.Errorf("retention: %s is less than 24h", c.Retention)
	}
	_, err := c.jobs()
	return err
}

func (c Checks) instance() string {
	if c.Instance != "" {
		return c.Instance
	}
	host, _ := os.Hostname() // "" is a name too, for one instance
	return cmp.Or(host, "historical-api")
}

func (c Checks) jobs() ([]checks.Job, error) {
	var out []checks.Job
	names := map[string]bool{}
	for i, j := range c.Jobs {
		if names[j.Name] {
			return nil, fmt.Errorf("jobs[%d].name: %q comes twice", i, j.Name)
		}
		names[j.Name] = true
		switch j.Missing {
		case "", "unknown", "zero":
		default:
			return nil, fmt.Errorf("jobs[%d].missing: %q is not one of unknown, zero", i, j.Missing)
		}
		source := j.Source
		if source == "" {
			if source = checks.SensorMean; j.SQL != "" {
				source = checks.SQL
			}
		}
		job, err := checks.Job{
			Name: j.Name, Schedule: cmp.Or(j.Schedule, "20 * * * *"), TimeZone: cmp.Or(j.TimeZone, "UTC"), Source: source, Rollup: j.Rollup, SQL: j.SQL, Entities: j.Entities,
			Metrics: j.Metrics, ZeroGaps: j.Missing == "zero", Delay: cmp.Or(j.Delay, 15*time.Minute), Since: j.Since, CatchUp: cmp.Or(j.CatchUp, 168), Holidays: j.Holidays,
			Alert: !j.Silent, MaxSeries: cmp.Or(j.MaxSeries, 2000),
		}.Compile()
		if err != nil {
			return nil, fmt.Errorf("jobs[%d].%w", i, err)
		}
		out = append(out, job)
	}
	return out, nil
}
