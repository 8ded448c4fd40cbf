package grafana

import d "github.com/tocsin-io/tocsin/deploy/grafana/dashboard"

// detection is for who answers for the pages' quality.
func detection() d.Dashboard {
	return d.Dashboard{
		UID: "tocsin-detection", Title: "Tocsin / Detection quality", Description: "How much is found, how much of it pages, and what the detectors cost.", From: "now-6h",
		Rows: []d.Row{
			{Title: "Pages", Panels: []d.Panel{
				{
					Title: "Pages per machine and month", Kind: d.Stat, Width: 6, Unit: d.Records, Steps: plain(),
					Description: "Alerts that opened in the shown time, at that rate for 30 days, by the machines that are watched. Hold it against stream_processor.detection.calibrate.budget; true faults count too.",
					EmptyWhile:  "no alert has opened since the routers started",
					Queries:     []d.Query{{Expr: `sum(increase(tocsin_alert_transitions_total{transition="opened"}[$__range])) * 2592000 / $__range_s / max(tocsin_api_machines)`}},
				},
				{
					Title: "Transitions", Kind: d.TimeSeries, Width: 9, Unit: d.Records, Stacked: true, EmptyWhile: "no alert has opened since the routers started",
					Queries: []d.Query{{Expr: "sum(increase(tocsin_alert_transitions_total[5m])) by (transition)", Legend: "{{transition}}"}},
				},
				{
					Title: "Kept quiet", Kind: d.TimeSeries, Width: 9, Unit: d.Records, Description: "Reports that told nothing new of a known episode, and those that a cooldown or limit held back.",
					Queries: []d.Query{
						{Expr: "sum(increase(tocsin_alert_kept_quiet_total[5m]))", Legend: "held back"},
						{Expr: `sum(increase(tocsin_alert_anomalies_total{outcome="unchanged"}[5m]))`, Legend: "nothing new"},
					},
				},
			}},
			{Title: "Judging", Panels: []d.Panel{
				{Title: "Reports of anomalies", Kind: d.TimeSeries, Unit: d.PerSecond, Queries: []d.Query{{Expr: perSecond("tocsin_processor_anomalies_total", ""), Legend: "reports"}}},
				{Title: "Windows judged", Kind: d.TimeSeries, Unit: d.PerSecond, Queries: []d.Query{{Expr: perSecond("tocsin_processor_windows_total", ""), Legend: "windows"}}},
				{
					Title: "Machines' scores", Kind: d.TimeSeries, Unit: d.Percent, Min: at(0), Max: at(1), EmptyWhile: "every machine still learns",
					Description: "A healthy fleet's calibrated scores are spread evenly: half of the machines below 0.5, a hundredth above 0.99.",
					Queries: []d.Query{
						{Expr: "quantile(0.5, tocsin_machine_score)", Legend: "half of the machines below"},
						{Expr: "quantile(0.99, tocsin_machine_score)", Legend: "99 of 100 below"},
					},
				},
			}},
			{Title: "Detectors", Panels: []d.Panel{
				{
					Title: "Time to score a machine's window", Kind: d.TimeSeries, Unit: d.Seconds, Logarithmic: true, Width: 12,
					Description: "Of one window in some hundreds that is timed. 99 of 100 within.",
					Queries:     []d.Query{{Expr: quantile(0.99, "tocsin_processor_detector_score_seconds", "detector"), Legend: "{{detector}}"}},
				},
				{
					Title: "Failures", Kind: d.TimeSeries, Unit: d.PerSecond, Width: 12, EmptyWhile: "no detector has failed", Description: "A detector that keeps failing is left out until it has rested.",
					Queries: []d.Query{{Expr: perSecond("tocsin_processor_detector_failures_total", "detector, reason"), Legend: "{{detector}}: {{reason}}"}},
				},
			}},
			{Title: "Settings and models", Panels: []d.Panel{
				{
					Title: "Changes of settings", Kind: d.TimeSeries, Unit: d.Records, Width: 12, Description: "Partitions that another configuration came into force in, and what had to begin anew for it.",
					Queries: []d.Query{
						{Expr: "sum(increase(tocsin_processor_detection_switches_total[5m]))", Legend: "partitions"},
						{Expr: "sum(increase(tocsin_processor_detectors_begun_anew_total[5m]))", Legend: "detectors begun anew"},
						{Expr: "sum(increase(tocsin_processor_machines_begun_anew_total[5m]))", Legend: "machines begun anew"},
					},
				},
				{
					Title: "Models in force", Kind: d.TimeSeries, Unit: d.Records, Width: 12, EmptyWhile: "no model is released to the stream", Description: "Partitions that a model judges or shadows in.",
					Queries: []d.Query{{Expr: "sum(tocsin_processor_model_partitions) by (role, model)", Legend: "{{role}} {{model}}"}},
				},
				{
					Title: "Drift of models", Kind: d.TimeSeries, Unit: d.Records, Width: 12, Min: at(0), EmptyWhile: "no model that keeps a reference is released to the stream",
					Description: "Population stability index of what has changed most in the last day of what a model was given, less what chance gives. 0: nothing has changed beyond chance. From 0.25 on it is not what the model was trained on: tocsin models drift names the features.",
					Queries:     []d.Query{{Expr: "max(tocsin_model_drift_psi) by (model, version)", Legend: "{{model}}@{{version}}"}},
				},
				{
					Title: "Kept cases", Kind: d.TimeSeries, Unit: d.Records, Width: 12, Description: "Evidence that tocsin replay-alert judges anew.",
					Queries: []d.Query{{Expr: "sum(increase(tocsin_processor_cases_total[5m])) by (outcome)", Legend: "{{outcome}}"}},
				},
			}},
		},
	}
}
