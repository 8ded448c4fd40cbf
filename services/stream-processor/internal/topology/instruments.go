package topology

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/VictoriaMetrics/metrics"
)

// instruments are the topology's own metrics.
type instruments struct {
	set *metrics.Set

	frames, duplicates, windows, anomalies, coverage, dead, ticks *metrics.Counter
	switches, fresh, unfit, rounds, compared                      *metrics.Counter
	commits, aborts, fetchErrors, gap                             *metrics.Counter
	casesKept, casesMissing, casesFailed, casesDropped            *metrics.Counter
	commitSeconds, restoreSeconds, delaySeconds                   *metrics.Histogram
}

func newInstruments(s *metrics.Set) *instruments {
	return &instruments{
		set:            s,
		frames:         s.NewCounter("tocsin_processor_frames_total"),
		duplicates:     s.NewCounter("tocsin_processor_duplicate_frames_total"),
		windows:        s.NewCounter("tocsin_processor_windows_total"),
		anomalies:      s.NewCounter("tocsin_processor_anomalies_total"),
		coverage:       s.NewCounter("tocsin_processor_coverage_records_total"),
		dead:           s.NewCounter("tocsin_processor_dead_letters_total"),
		ticks:          s.NewCounter("tocsin_processor_ticks_total"),
		switches:       s.NewCounter("tocsin_processor_detection_switches_total"),
		fresh:          s.NewCounter("tocsin_processor_detectors_begun_anew_total"),
		unfit:          s.NewCounter("tocsin_processor_machines_begun_anew_total"),
		rounds:         s.NewCounter("tocsin_processor_cohort_rounds_total"),
		compared:       s.NewCounter("tocsin_processor_cohort_comparisons_total"),
		commits:        s.NewCounter(`tocsin_processor_transactions_total{outcome="committed"}`),
		aborts:         s.NewCounter(`tocsin_processor_transactions_total{outcome="aborted"}`),
		fetchErrors:    s.NewCounter("tocsin_processor_fetch_errors_total"),
		gap:            s.NewCounter("tocsin_processor_skipped_offsets_total"),
		casesKept:      s.NewCounter(`tocsin_processor_cases_total{outcome="kept"}`),
		casesMissing:   s.NewCounter(`tocsin_processor_cases_total{outcome="state_gone"}`),
		casesFailed:    s.NewCounter(`tocsin_processor_cases_total{outcome="failed"}`),
		casesDropped:   s.NewCounter(`tocsin_processor_cases_total{outcome="dropped"}`),
		commitSeconds:  s.NewHistogram("tocsin_processor_transaction_seconds"),
		restoreSeconds: s.NewHistogram("tocsin_processor_restore_seconds"),
		delaySeconds:   s.NewHistogram("tocsin_processor_delay_seconds"),
	}
}

// judged notes how long the oldest frame of a partition's share of a transaction, appended at oldestMS, waited until what came of
// it could be read. Broker and processor may differ by their clocks' error.
func (m *instruments) judged(oldestMS int64, now time.Time) {
	if oldestMS > 0 {
		m.delaySeconds.Update(max(now.Sub(time.UnixMilli(oldestMS)), 0).Seconds())
	}
}

func (m *instruments) add(c counts) {
	m.frames.Add(c.frames)
	m.duplicates.Add(c.duplicates)
	m.windows.Add(c.windows)
	m.anomalies.Add(c.anomalies)
	m.coverage.Add(c.coverage)
	m.dead.Add(c.dead)
	m.ticks.Add(c.ticks)
	m.switches.Add(c.switches)
	m.fresh.Add(c.fresh)
	m.unfit.Add(c.unfit)
	m.rounds.Add(c.rounds)
	m.compared.Add(c.compared)
	m.casesDropped.Add(c.unkept)
}

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K {
	return slices.Sorted(maps.Keys(m))
}
