package grafana

import d "github.com/tocsin-io/tocsin/deploy/grafana/dashboard"

// fleet is the page for the wall: is everybody watched, and who needs somebody.
func fleet() d.Dashboard {
	toMachine := &d.Link{Title: "Machine", URL: "/d/tocsin-machine?var-equipment_id=${__field.labels.equipment_id}&${__url_time_range}"}
	return d.Dashboard{
		UID: "tocsin-fleet", Title: "Tocsin / Fleet", Description: "Who is watched, who is odd, what was told.",
		Rows: []d.Row{
			{Title: "Now", Panels: []d.Panel{
				{
					Title: "Machines", Kind: d.Stat, Unit: d.Records, Steps: plain(), Description: "Machines of which the real-time API holds something.",
					Queries: []d.Query{{Expr: "max(tocsin_api_machines)"}},
				},
				{
					Title: "Open alerts", Kind: d.Stat, Unit: d.Records, Steps: []d.Step{{Color: "green"}, {From: 1, Color: "orange"}, {From: 20, Color: "red"}},
					Queries: []d.Query{{Expr: "sum(tocsin_alerts_open)"}},
				},
				{
					Title: "Unacknowledged", Kind: d.Stat, Unit: d.Records, Steps: zero(),
					Queries: []d.Query{{Expr: `sum(tocsin_alert_states{state="unacknowledged"})`}},
				},
				{
					Title: "Sensors judged or learning", Kind: d.Stat, Unit: d.Percent, Steps: []d.Step{{Color: "red"}, {From: 0.9, Color: "orange"}, {From: 0.99, Color: "green"}},
					Description: "Of all sensors: those that are judged in time, still learn what is normal, or were shelved on purpose. GET /v1/coverage names the others.",
					Queries:     []d.Query{{Expr: `sum(tocsin_processor_sensors{state=~"judged|learning|shelved"}) / sum(tocsin_processor_sensors)`}},
				},
				{
					Title: "Machines on fixed limits", Kind: d.Stat, Unit: d.Records, Steps: zero(), Description: "Their detectors have failed; only given limits judge them.",
					Queries: []d.Query{{Expr: `sum(tocsin_processor_machines{health="failed"})`}},
				},
				{Title: "Frames", Kind: d.Stat, Unit: d.PerSecond, Steps: plain(), Queries: []d.Query{{Expr: perSecond("tocsin_processor_frames_total", "")}}},
			}},
			{Title: "Alerts", Panels: []d.Panel{
				{
					Title: "Alerts by state", Kind: d.TimeSeries, Unit: d.Records, Stacked: true, Width: 12, Description: "States after ISA-18.2.",
					Queries: []d.Query{{Expr: `sum(tocsin_alert_states{state!="closed"}) by (state)`, Legend: "{{state}}"}},
				},
				{
					Title: "Opened, by cause", Kind: d.TimeSeries, Unit: d.Records, Stacked: true, Width: 12, Description: "Alerts that opened in the five minutes before.",
					EmptyWhile: "no alert has opened since the routers started",
					Queries:    []d.Query{{Expr: `sum(increase(tocsin_alert_transitions_total{transition="opened"}[5m])) by (cause)`, Legend: "{{cause}}"}},
				},
			}},
			{Title: "Machines", Panels: []d.Panel{
				{
					Title: "Oddest machines", Kind: d.TimeSeries, Unit: d.Percent, Min: at(0), Max: at(1), Width: 12, Height: 10, LinkTo: toMachine,
					Description: "The ten highest calibrated scores: the share of a machine's windows that were less odd than this one.",
					EmptyWhile:  "every machine still learns",
					Queries:     []d.Query{{Expr: "topk(10, tocsin_machine_score)", Legend: "{{equipment_id}}"}},
				},
				{
					Title: "Sensors by coverage", Kind: d.TimeSeries, Unit: d.Records, Stacked: true, Width: 12, Height: 10,
					Description: "Each sensor is judged, or there is a reason why not.",
					Queries:     []d.Query{{Expr: "sum(tocsin_processor_sensors) by (state)", Legend: "{{state}}"}},
				},
				{
					Title: "Machines that score high", Kind: d.Table, Unit: d.Percent, Width: 12, LinkTo: toMachine, EmptyWhile: "no machine scores above 0.99",
					Queries: []d.Query{{Expr: "sort_desc(tocsin_machine_score > 0.99)", Instant: true}},
				},
				{
					Title: "Machines by health of their detectors", Kind: d.TimeSeries, Unit: d.Records, Stacked: true, Width: 12,
					Queries: []d.Query{{Expr: "sum(tocsin_processor_machines) by (health)", Legend: "{{health}}"}},
				},
			}},
		},
	}
}

// machine is one machine's page, for whom a link of Fleet or a page led here.
func machine() d.Dashboard {
	one := `{equipment_id="$equipment_id", sensor=~"$sensor"}`
	sensors := func(metric string) []d.Query { return []d.Query{{Expr: metric + one, Legend: "{{sensor}}"}} }
	return d.Dashboard{
		UID: "tocsin-machine", Title: "Tocsin / Machine", Description: "One machine's windows and scores. Values are statistics of windows, by event time.",
		Refresh: "5s", From: "now-30m",
		Variables: []d.Variable{
			{Name: "equipment_id", Label: "Machine", Query: "label_values(tocsin_window_mean, equipment_id)"},
			{Name: "sensor", Label: "Sensor", Query: `label_values(tocsin_window_mean{equipment_id="$equipment_id"}, sensor)`, Several: true},
		},
		Rows: []d.Row{
			{Title: "How odd", Panels: []d.Panel{
				{
					Title: "Machine's score", Kind: d.TimeSeries, Unit: d.Percent, Min: at(0), Max: at(1), Width: 12,
					Description: "The share of this machine's windows that were less odd.", EmptyWhile: "the machine still learns",
					Queries: []d.Query{{Expr: `tocsin_machine_score{equipment_id="$equipment_id"}`, Legend: "score"}},
				},
				{
					Title: "Sensors' scores", Kind: d.TimeSeries, Unit: d.Percent, Min: at(0), Max: at(1), Width: 12, EmptyWhile: "the machine still learns",
					Queries: sensors("tocsin_sensor_score"),
				},
			}},
			{Title: "What it measured", Panels: []d.Panel{
				{Title: "Mean", Kind: d.TimeSeries, Width: 24, Height: 10, Queries: sensors("tocsin_window_mean")},
				{Title: "Smallest", Kind: d.TimeSeries, Queries: sensors("tocsin_window_min")},
				{Title: "Largest", Kind: d.TimeSeries, Queries: sensors("tocsin_window_max")},
				{Title: "Standard deviation", Kind: d.TimeSeries, EmptyWhile: "windows hold one value", Queries: sensors("tocsin_window_stddev")},
			}},
		},
	}
}
