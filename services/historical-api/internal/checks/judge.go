package checks

import (
	"cmp"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/tocsin-io/tocsin/services/historical-api/internal/checkstore"
	"github.com/tocsin-io/tocsin/services/historical-api/internal/usage"
)

const (
	// lookBack is how far before its end a slot looks for findings: one that began earlier is known by then.
	lookBack = 3 * 24 * time.Hour
	// baseline is what must be read before the first hour that is judged.
	baseline = 31 * 24 * time.Hour
	// maxWindow bounds the hours of one slot.
	maxWindow = 14 * 24 * time.Hour
	// silent entities' alerts end after so long: nobody will say any more that they are as usual.
	silent = 30 * 24 * time.Hour
)

// window is the hours that a slot looks at; judged is the end of those looked at before.
func (j *Job) window(slot, judged time.Time) (from, to time.Time) {
	to = j.end(slot)
	from = to.Add(-lookBack)
	if !judged.IsZero() && judged.Add(-24*time.Hour).Before(from) {
		from = judged.Add(-24 * time.Hour)
	}
	if from.Before(to.Add(-maxWindow)) {
		from = to.Add(-maxWindow)
	}
	return from, to
}

// verdict is what a slot has brought.
type verdict struct {
	changed []checkstore.Finding // new, or otherwise than before
	open    []int                // of changed: an alert is to be opened
	summary checkstore.Summary
}

// judge decides a slot. known are the job's findings so far that may still change; since is where the job began: what ended before is nobody's news. It is a function of what it is given.
func (j *Job) judge(series map[Key]*usage.Checker, known []checkstore.Finding, slot, judged, since time.Time) verdict {
	from, to := j.window(slot, judged)
	v := verdict{summary: checkstore.Summary{Slot: slot, From: from, To: to, Series: len(series)}}
	bySeries := map[Key][]checkstore.Finding{}
	for _, f := range known {
		k := Key{f.Entity, f.Metric}
		bySeries[k] = append(bySeries[k], f)
	}
	for _, key := range slices.SortedFunc(maps.Keys(series), compareKeys) {
		checker := series[key]
		// What is counted are the hours that are new; what is looked for reaches back.
		fresh := checker.Check(latest(from, judged), to)
		v.summary.Judged += fresh.Judged
		v.summary.Missing += fresh.Missing
		v.summary.Short += fresh.Short
		v.summary.Off += fresh.Off
		seen := map[string]bool{}
		for _, found := range checker.Check(from, to).Findings {
			if found.Severity == usage.Info || !found.To.After(since) {
				continue
			}
			f, isNew := j.match(bySeries[key], key, found, slot)
			seen[f.ID] = true
			before := f
			if f.Finding = widen(f.Finding, found, isNew); f.Kind == usage.Volume {
				f.Over = found.To.Before(to) && checker.Any(found.To, to)
			} else {
				f.Over = true // a day is a day
			}
			f.Summary = j.summary(key, f.Finding)
			opens := j.Alert && f.Severity == usage.Critical && f.Alert == checkstore.NoAlert
			if isNew {
				v.summary.Findings++
			}
			if opens {
				v.summary.Critical++
				v.open = append(v.open, len(v.changed))
			}
			if isNew || opens || f != before {
				v.changed = append(v.changed, f)
			}
		}
		for _, f := range bySeries[key] {
			// It was looked at and is not there any more, or is long past: it is over once there are figures again.
			if !f.Over && !seen[f.ID] && (checker.Any(f.To, to) || f.To.Before(to.Add(-silent))) {
				f.Over = true
				v.changed = append(v.changed, f)
			}
		}
	}
	for _, f := range known {
		if _, there := series[Key{f.Entity, f.Metric}]; !there && !f.Over && f.To.Before(to.Add(-silent)) {
			f.Over = true
			v.changed = append(v.changed, f)
		}
	}
	return v
}

func compareKeys(a, b Key) int {
	return cmp.Or(cmp.Compare(a.Entity, b.Entity), cmp.Compare(a.Metric, b.Metric))
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// match is the known finding that this one is a part of, or a new one.
func (j *Job) match(known []checkstore.Finding, key Key, found usage.Finding, slot time.Time) (checkstore.Finding, bool) {
	for _, f := range known {
		if f.Kind != found.Kind {
			continue
		}
		if f.Kind == usage.Shape && f.From.Equal(found.From) ||
			f.Kind == usage.Volume && math.Signbit(f.Z) == math.Signbit(found.Z) && f.From.Before(found.To) && found.From.Before(f.To) {
			return f, false
		}
	}
	return checkstore.Finding{
		ID: identity(key.Entity, j.cause(found.Kind, key.Metric), found.From), Job: j.Name, Entity: key.Entity, Metric: key.Metric, Finding: found, Found: slot,
	}, true
}

// widen makes of a finding and what is seen of it now one. A part says nothing of the whole's figures; severity never falls.
func widen(f, found usage.Finding, isNew bool) usage.Finding {
	if isNew {
		return found
	}
	worst := f.Severity
	if found.Severity == usage.Critical {
		worst = usage.Critical
	}
	if !found.From.After(f.From) && !found.To.Before(f.To) {
		f = found
	} else {
		if found.From.Before(f.From) {
			f.From = found.From
		}
		if found.To.After(f.To) {
			f.To = found.To
		}
	}
	f.Severity = worst
	return f
}
