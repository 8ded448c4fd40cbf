package wire

import (
	queryv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/query/v1"

	"github.com/tocsin-io/tocsin/services/realtime-api/internal/hub"
)

// Flow says how records come in. Rates are over the last ten seconds of the server's clock.
type Flow struct {
	ServerTimeMS int64
	// LogTimeMS is the largest broker time of any record or tick seen; 0 before the first.
	LogTimeMS int64
	// DelayMS is how long records lie in Kafka before they are here: the largest of the last ten seconds; -1 when none came.
	DelayMS          int64
	WindowsPerSecond float64
	ReportsPerSecond float64
	// CaughtUp is false while the past is still being read.
	CaughtUp bool
}

// AppendSummary appends the members of a summary, without the braces, so that a caller can add its own.
func AppendSummary(dst []byte, c *hub.Counts, f *Flow) []byte {
	dst = append(appendKey(dst, "machines"), '{')
	dst = appendInt(dst, "total", int64(c.Machines))
	for s, n := range c.States {
		if s != 0 {
			dst = appendInt(dst, stateName(queryv1.MachineState(s)), int64(n))
		}
	}
	dst = append(dst, '}')
	dst = appendInt(dst, "open_alerts", int64(c.OpenAlerts))
	dst = appendReal(dst, "windows_per_second", f.WindowsPerSecond)
	dst = appendReal(dst, "anomaly_reports_per_second", f.ReportsPerSecond)
	dst = appendInt(dst, "server_time_ms", f.ServerTimeMS)
	dst = appendInt(dst, "log_time_ms", f.LogTimeMS)
	if f.DelayMS >= 0 {
		dst = appendInt(dst, "pipeline_delay_ms", f.DelayMS)
	} else {
		dst = append(appendKey(dst, "pipeline_delay_ms"), "null"...)
	}
	return appendBool(dst, "caught_up", f.CaughtUp)
}
