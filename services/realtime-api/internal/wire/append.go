// Package wire writes what the REST endpoints and the stream send as JSON, by hand, because a fleet's rows are
// written many thousand times a second.
//
// Names are those of the tocsin.event.v1 and tocsin.query.v1 messages, enums go by name, times are integers, and a
// number that is not finite is null; so each answer is also accepted by a protobuf JSON parser for its message.
// All functions append to dst, allocate nothing but dst's growth, and may be called from any goroutine.
package wire

import (
	"math"
	"strconv"
	"unicode/utf8"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	queryv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/query/v1"

	"github.com/tocsin-io/tocsin/services/realtime-api/internal/hub"
	"github.com/tocsin-io/tocsin/services/realtime-api/internal/live"
	"github.com/tocsin-io/tocsin/services/realtime-api/internal/places"
)

const hex = "0123456789abcdef"

// AppendString appends s as a JSON string. What could end a script element, and the line separators that old
// JavaScript did not allow in strings, is escaped; bytes that are not UTF-8 become U+FFFD.
func AppendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); {
		c := s[i]
		if c < utf8.RuneSelf {
			if c >= 0x20 && c != '"' && c != '\\' && c != '<' && c != '>' && c != '&' {
				i++
				continue
			}
			dst = append(dst, s[start:i]...)
			switch c {
			case '"', '\\':
				dst = append(dst, '\\', c)
			case '\n':
				dst = append(dst, '\\', 'n')
			case '\t':
				dst = append(dst, '\\', 't')
			case '\r':
				dst = append(dst, '\\', 'r')
			default:
				dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
			}
			i++
			start = i
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		if (r == utf8.RuneError && n == 1) || r == '\u2028' || r == '\u2029' {
			dst = append(dst, s[start:i]...)
			switch r {
			case utf8.RuneError:
				dst = append(dst, "\ufffd"...)
			default:
				dst = append(dst, '\\', 'u', '2', '0', '2', hex[r&15])
			}
			i += n
			start = i
			continue
		}
		i += n
	}
	dst = append(dst, s[start:]...)
	return append(dst, '"')
}

// AppendFloat appends v in the shortest form that reads back as the same number of that many bits; null when it
// is not finite.
func AppendFloat(dst []byte, v float64, bits int) []byte {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return append(dst, "null"...)
	}
	return strconv.AppendFloat(dst, v, 'g', -1, bits)
}

func appendKey(dst []byte, name string) []byte {
	if c := dst[len(dst)-1]; c != '{' && c != '[' {
		dst = append(dst, ',')
	}
	dst = append(dst, '"')
	dst = append(dst, name...)
	return append(dst, '"', ':')
}

func appendText(dst []byte, name, v string) []byte { return AppendString(appendKey(dst, name), v) }

func appendInt(dst []byte, name string, v int64) []byte {
	return strconv.AppendInt(appendKey(dst, name), v, 10)
}

func appendNumber(dst []byte, v int64) []byte { return strconv.AppendInt(dst, v, 10) }

func appendReal(dst []byte, name string, v float64) []byte {
	return AppendFloat(appendKey(dst, name), v, 64)
}

func appendReal32(dst []byte, name string, v float32) []byte {
	return AppendFloat(appendKey(dst, name), float64(v), 32)
}

func appendBool(dst []byte, name string, v bool) []byte {
	return strconv.AppendBool(appendKey(dst, name), v)
}

// AppendMachine appends a tocsin.query.v1.Machine, with the worst severity of its open alerts besides.
func AppendMachine(dst []byte, r *hub.Row, sensors []string) []byte {
	dst = append(dst, '{')
	dst = appendText(dst, "equipment_id", r.ID)
	dst = appendText(dst, "gateway_id", r.GatewayID)
	dst = appendText(dst, "state", stateName(r.State))
	dst = appendReal(dst, "score", r.Score)
	if sensors != nil {
		dst = append(appendKey(dst, "sensors"), '[')
		for i, s := range sensors {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = AppendString(dst, s)
		}
		dst = append(dst, ']')
	}
	dst = appendInt(dst, "last_window_us", r.LastUS)
	dst = appendInt(dst, "open_alerts", int64(r.OpenAlerts))
	dst = appendText(dst, "severity", severityName(r.Severity))
	dst = appendPlace(dst, "site", "line", "group", r.Place)
	return append(dst, '}')
}

// appendPlace appends the members that say anything.
func appendPlace(dst []byte, site, line, group string, p places.Place) []byte {
	if p.Site != "" {
		dst = appendText(dst, site, p.Site)
	}
	if p.Line != "" {
		dst = appendText(dst, line, p.Line)
	}
	if p.Group != "" {
		dst = appendText(dst, group, p.Group)
	}
	return dst
}

// AppendPlace appends a place with how many machines stand there.
func AppendPlace(dst []byte, p *hub.PlaceCount) []byte {
	dst = append(dst, '{')
	dst = appendText(dst, "site", p.Site)
	dst = appendText(dst, "line", p.Line)
	dst = appendText(dst, "group", p.Group)
	dst = appendInt(dst, "machines", int64(p.Machines))
	dst = appendInt(dst, "open_alerts", int64(p.OpenAlerts))
	return append(dst, '}')
}

// AppendRow appends a machine in the stream's short form: id, st (MachineState's number), sv (Severity's number),
// sc (score, six decimals), t (end of the last window, us), al (open alerts), gw (gateway),
// si, li, gr (site, line, group, where known).
func AppendRow(dst []byte, r *hub.Row) []byte {
	dst = append(dst, '{')
	dst = appendText(dst, "id", r.ID)
	dst = appendInt(dst, "st", int64(r.State))
	if r.Severity != 0 {
		dst = appendInt(dst, "sv", int64(r.Severity))
	}
	dst = appendReal(dst, "sc", math.Round(r.Score*1e6)/1e6)
	dst = appendInt(dst, "t", r.LastUS)
	if r.OpenAlerts != 0 {
		dst = appendInt(dst, "al", int64(r.OpenAlerts))
	}
	if r.GatewayID != "" {
		dst = appendText(dst, "gw", r.GatewayID)
	}
	dst = appendPlace(dst, "si", "li", "gr", r.Place)
	return append(dst, '}')
}

// AppendWindow appends a tocsin.event.v1.Window with the sensors that keep allows; nil allows all.
func AppendWindow(dst []byte, w *hub.Window, keep func(sensor string) bool) []byte {
	dst = append(dst, '{')
	dst = appendText(dst, "equipment_id", w.EquipmentID)
	dst = appendInt(dst, "start_us", w.StartUS)
	dst = appendInt(dst, "end_us", w.EndUS)
	dst = appendInt(dst, "revision", int64(w.Revision))
	dst = append(appendKey(dst, "sensors"), '[')
	for i := range w.Cells {
		if keep != nil && !keep(w.Sensors[i]) {
			continue
		}
		c := &w.Cells[i]
		if dst[len(dst)-1] != '[' {
			dst = append(dst, ',')
		}
		dst = append(dst, '{')
		dst = appendText(dst, "sensor", w.Sensors[i])
		dst = appendInt(dst, "count", int64(c.Count))
		dst = appendReal32(dst, "mean", c.Mean)
		dst = appendReal32(dst, "stddev", c.StdDev)
		dst = appendReal32(dst, "min", c.Min)
		dst = appendReal32(dst, "max", c.Max)
		dst = appendReal32(dst, "last", c.Last)
		dst = appendInt(dst, "unusable", int64(c.Unusable))
		dst = appendReal32(dst, "score", c.Score)
		dst = appendReal32(dst, "expected_low", c.ExpectedLow)
		dst = appendReal32(dst, "expected_high", c.ExpectedHigh)
		dst = append(dst, '}')
	}
	dst = append(dst, ']')
	dst = appendReal(dst, "score", w.Score)
	dst = appendBool(dst, "learning", w.Learning)
	dst = appendInt(dst, "closed_at_ms", w.ClosedAtMS)
	dst = appendText(dst, "regime", w.Regime)
	return append(dst, '}')
}

// AppendSample appends the newest value of one sensor; value is null where there is none to show.
func AppendSample(dst []byte, s *live.Sample) []byte {
	dst = append(dst, '{')
	dst = appendText(dst, "sensor", s.Sensor)
	dst = appendInt(dst, "time_us", s.TimeUS)
	v := s.Value
	if !s.Usable() {
		v = float32(math.NaN())
	}
	dst = appendReal32(dst, "value", v)
	dst = appendText(dst, "quality", enumName(eventv1.Quality_name, int32(s.Quality)))
	return append(dst, '}')
}

// AppendAnomaly appends a tocsin.event.v1.Anomaly.
func AppendAnomaly(dst []byte, a *eventv1.Anomaly) []byte {
	dst = append(dst, '{')
	dst = appendText(dst, "anomaly_id", a.AnomalyId)
	dst = appendText(dst, "episode_id", a.EpisodeId)
	dst = appendText(dst, "equipment_id", a.EquipmentId)
	dst = appendText(dst, "cause", a.Cause)
	dst = appendText(dst, "phase", phaseName(a.Phase))
	dst = appendText(dst, "severity", severityName(a.Severity))
	dst = appendReal(dst, "score", a.Score)
	dst = appendReal(dst, "confidence", a.Confidence)
	dst = appendInt(dst, "started_us", a.StartedUs)
	dst = appendInt(dst, "observed_us", a.ObservedUs)
	dst = appendInt(dst, "judged_at_ms", a.JudgedAtMs)
	dst = appendContributions(dst, a.Contributions)
	dst = appendText(dst, "summary", a.Summary)
	dst = appendText(dst, "gateway_id", a.GatewayId)
	dst = appendText(dst, "origin", enumName(eventv1.Origin_name, int32(a.Origin)))
	dst = appendInt(dst, "machines", int64(a.Machines))
	dst = appendText(dst, "regime", a.Regime)
	dst = appendInt(dst, "cohort", int64(a.Cohort))
	dst = appendInt(dst, "received_at_ms", a.ReceivedAtMs)
	dst = append(appendKey(dst, "detectors"), '[')
	for i, d := range a.Detectors {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = AppendString(dst, d)
	}
	dst = append(dst, ']')
	if e := a.Earlier; e != nil {
		dst = append(appendKey(dst, "earlier"), '{')
		dst = appendText(dst, "episode_id", e.EpisodeId)
		dst = appendInt(dst, "started_us", e.StartedUs)
		dst = appendInt(dst, "ended_us", e.EndedUs)
		dst = append(appendReal(dst, "similarity", e.Similarity), '}')
	}
	return append(dst, '}')
}

// AppendAlert appends a tocsin.event.v1.AlertEvent.
func AppendAlert(dst []byte, a *eventv1.AlertEvent) []byte {
	dst = append(dst, '{')
	dst = appendText(dst, "event_id", a.EventId)
	dst = appendText(dst, "alert_id", a.AlertId)
	dst = appendText(dst, "equipment_id", a.EquipmentId)
	dst = appendText(dst, "cause", a.Cause)
	dst = appendText(dst, "transition", transitionName(a.Transition))
	dst = appendText(dst, "severity", severityName(a.Severity))
	dst = appendReal(dst, "score", a.Score)
	dst = appendInt(dst, "started_us", a.StartedUs)
	dst = appendInt(dst, "ended_us", a.EndedUs)
	dst = appendInt(dst, "at_ms", a.AtMs)
	dst = appendText(dst, "summary", a.Summary)
	dst = appendPairs(dst, "labels", a.Labels)
	dst = appendPairs(dst, "annotations", a.Annotations)
	dst = appendContributions(dst, a.Contributions)
	dst = appendReal(dst, "confidence", a.Confidence)
	dst = appendText(dst, "actor", a.Actor)
	dst = appendText(dst, "comment", a.Comment)
	dst = appendInt(dst, "until_ms", a.UntilMs)
	dst = appendText(dst, "verdict", enumName(eventv1.AlertVerdict_name, int32(a.Verdict)))
	dst = appendText(dst, "origin", enumName(eventv1.Origin_name, int32(a.Origin)))
	dst = appendInt(dst, "machines", int64(a.Machines))
	dst = appendInt(dst, "observed_us", a.ObservedUs)
	dst = appendInt(dst, "received_at_ms", a.ReceivedAtMs)
	dst = appendInt(dst, "anomaly_at_ms", a.AnomalyAtMs)
	return append(dst, '}')
}

func appendPairs(dst []byte, name string, m map[string]string) []byte {
	dst = append(appendKey(dst, name), '{')
	for k, v := range m {
		if dst[len(dst)-1] != '{' {
			dst = append(dst, ',')
		}
		dst = append(AppendString(dst, k), ':')
		dst = AppendString(dst, v)
	}
	return append(dst, '}')
}

func appendContributions(dst []byte, cs []*eventv1.Contribution) []byte {
	dst = append(appendKey(dst, "contributions"), '[')
	for i, c := range cs {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, '{')
		dst = appendText(dst, "sensor", c.GetSensor())
		dst = appendReal(dst, "share", c.GetShare())
		dst = appendReal(dst, "observed", c.GetObserved())
		dst = appendReal(dst, "expected_low", c.GetExpectedLow())
		dst = appendReal(dst, "expected_high", c.GetExpectedHigh())
		dst = appendText(dst, "detector", c.GetDetector())
		dst = appendText(dst, "statistic", c.GetStatistic())
		dst = append(dst, '}')
	}
	return append(dst, ']')
}

// Enum numbers that this build does not know become UNSPECIFIED: a parser would refuse an unknown name.
func stateName(v queryv1.MachineState) string { return enumName(queryv1.MachineState_name, int32(v)) }
func severityName(v eventv1.Severity) string  { return enumName(eventv1.Severity_name, int32(v)) }
func phaseName(v eventv1.Phase) string        { return enumName(eventv1.Phase_name, int32(v)) }
func transitionName(v eventv1.AlertTransition) string {
	return enumName(eventv1.AlertTransition_name, int32(v))
}

func enumName(names map[int32]string, v int32) string {
	if n, ok := names[v]; ok {
		return n
	}
	return names[0]
}
