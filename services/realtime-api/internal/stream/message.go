package stream

import (
	"strconv"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"

	"github.com/tocsin-io/tocsin/services/realtime-api/internal/hub"
	"github.com/tocsin-io/tocsin/services/realtime-api/internal/live"
	"github.com/tocsin-io/tocsin/services/realtime-api/internal/wire"
)

// Sizes of one message: a client on a thin line sees progress, and one message never holds a whole fleet.
const (
	rowsPerMessage    = 2000
	alertsPerMessage  = 250
	windowsPerMessage = 60
	maxSensors        = 64
)

// head begins a message; more tells that the next message carries on, and that version holds only after the last.
func head(typ string, version uint64, reset, more bool) []byte {
	dst := append(make([]byte, 0, 4096), `{"type":"`...)
	dst = append(dst, typ...)
	dst = append(dst, `","version":`...)
	dst = strconv.AppendUint(dst, version, 10)
	if reset {
		dst = append(dst, `,"reset":true`...)
	}
	if more {
		dst = append(dst, `,"more":true`...)
	}
	return dst
}

func appendArray[E any](dst []byte, name string, list []E, one func([]byte, E) []byte) []byte {
	dst = append(dst, `,"`...)
	dst = append(dst, name...)
	dst = append(dst, `":[`...)
	for i, e := range list {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = one(dst, e)
	}
	return append(dst, ']')
}

// fleetMessages is nil when nothing changed.
func fleetMessages(d *hub.FleetDelta) [][]byte {
	if !d.Reset && len(d.Rows) == 0 && len(d.Removed) == 0 {
		return nil
	}
	var out [][]byte
	rows, reset := d.Rows, d.Reset
	for {
		n := min(len(rows), rowsPerMessage)
		more := n < len(rows)
		dst := head("fleet", d.Version, reset, more)
		dst = appendArray(dst, "rows", rows[:n], func(dst []byte, r hub.Row) []byte { return wire.AppendRow(dst, &r) })
		if !more && len(d.Removed) > 0 {
			dst = appendArray(dst, "removed", d.Removed, wire.AppendString)
		}
		out = append(out, append(dst, '}'))
		if !more {
			return out
		}
		rows, reset = rows[n:], false
	}
}

// alertMessages is nil when nothing changed.
func alertMessages(alerts []*eventv1.AlertEvent, version uint64, reset bool) [][]byte {
	if !reset && len(alerts) == 0 {
		return nil
	}
	var out [][]byte
	for {
		n := min(len(alerts), alertsPerMessage)
		more := n < len(alerts)
		dst := appendArray(head("alerts", version, reset, more), "alerts", alerts[:n], wire.AppendAlert)
		out = append(out, append(dst, '}'))
		if !more {
			return out
		}
		alerts, reset = alerts[n:], false
	}
}

// machineMessages tells what changed of one machine; only chooses among its sensors, nil: all.
func machineMessages(id string, d *hub.MachineDelta, reset bool, only map[string]bool) [][]byte {
	var keep func(string) bool
	if only != nil {
		keep = func(s string) bool { return only[s] }
	}
	var out [][]byte
	windows, first := d.Windows, true
	for {
		n := min(len(windows), windowsPerMessage)
		more := n < len(windows)
		dst := head("machine", d.Version, reset && first, more)
		dst = append(dst, `,"id":`...)
		dst = wire.AppendString(dst, id)
		if first {
			dst = append(dst, `,"machine":`...)
			if d.Known {
				dst = wire.AppendRow(dst, &d.Row)
			} else {
				dst = append(dst, "null"...)
			}
			dst = append(dst, `,"sensors_total":`...)
			dst = strconv.AppendInt(dst, int64(len(d.Sensors)), 10)
			dst = appendArray(dst, "anomalies", d.Anomalies, wire.AppendAnomaly)
			dst = appendArray(dst, "alerts", d.Alerts, wire.AppendAlert)
		}
		dst = appendArray(dst, "windows", windows[:n], func(dst []byte, w *hub.Window) []byte { return wire.AppendWindow(dst, w, keep) })
		out = append(out, append(dst, '}'))
		if !more {
			return out
		}
		windows, first = windows[n:], false
	}
}

// liveMessage tells the newest values of one machine.
func liveMessage(id string, samples []live.Sample) []byte {
	dst := wire.AppendString([]byte(`{"type":"live","id":`), id)
	dst = appendArray(dst, "samples", samples, func(dst []byte, s live.Sample) []byte { return wire.AppendSample(dst, &s) })
	return append(dst, '}')
}
