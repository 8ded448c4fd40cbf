package grafana

import d "github.com/tocsin-io/tocsin/deploy/grafana/dashboard"

// onCall is for who leads those who are called.
func onCall() d.Dashboard {
	return d.Dashboard{
		UID: "tocsin-oncall", Title: "Tocsin / On-call", Description: "What was told to whom, how fast, and what could not be told. Figures by person and shift: tocsin alerts figures.", From: "now-24h",
		Rows: []d.Row{
			{Title: "Now", Panels: []d.Panel{
				{Title: "Unacknowledged", Kind: d.Stat, Unit: d.Records, Steps: zero(), Queries: []d.Query{{Expr: `sum(tocsin_alert_states{state="unacknowledged"})`}}},
				{Title: "Acknowledged", Kind: d.Stat, Unit: d.Records, Steps: plain(), Queries: []d.Query{{Expr: `sum(tocsin_alert_states{state="acknowledged"})`}}},
				{Title: "Returned, not acknowledged", Kind: d.Stat, Unit: d.Records, Steps: plain(), Queries: []d.Query{{Expr: `sum(tocsin_alert_states{state="returned"})`}}},
				{Title: "Shelved", Kind: d.Stat, Unit: d.Records, Steps: plain(), Queries: []d.Query{{Expr: `sum(tocsin_alert_states{state="shelved"})`}}},
				{Title: "Out of service", Kind: d.Stat, Unit: d.Records, Steps: plain(), Queries: []d.Query{{Expr: `sum(tocsin_alert_states{state="out_of_service"})`}}},
				{Title: "Suppressed by design", Kind: d.Stat, Unit: d.Records, Steps: plain(), Queries: []d.Query{{Expr: `sum(tocsin_alert_states{state="suppressed"})`}}},
			}},
			{Title: "Told", Panels: []d.Panel{
				{
					Title: "Notifications", Kind: d.TimeSeries, Unit: d.Records, Stacked: true, Width: 12, EmptyWhile: "nothing was told in the hour before", Description: "In five minutes.",
					Queries: []d.Query{{Expr: `sum(increase(tocsin_alert_notifications_total{outcome="sent"}[5m])) by (receiver)`, Legend: "{{receiver}}"}},
				},
				{
					Title: "Judgement to page", Kind: d.TimeSeries, Unit: d.Seconds, Logarithmic: true, Limit: promiseAlert, Width: 12, EmptyWhile: "nothing was told in the hour before", Description: "99 of 100 within, by the way it went.",
					Queries: []d.Query{{Expr: recent(0.99, "tocsin_alert_notification_latency_seconds", "integration"), Legend: "{{integration}}"}},
				},
				{Title: "Groups", Kind: d.TimeSeries, Unit: d.Records, Queries: []d.Query{{Expr: "sum(alertmanager_dispatcher_aggregation_groups)", Legend: "open groups"}}},
				{
					Title: "Alerts from elsewhere", Kind: d.TimeSeries, Unit: d.PerSecond, Description: "Posted to the Alertmanager API, such as vmalert's.",
					Queries: []d.Query{{Expr: perSecond("alertmanager_alerts_received_total", "status"), Legend: "{{status}}"}},
				},
				{Title: "Routing file", Kind: d.TimeSeries, Unit: d.Records, Description: "Reloads; a refused one leaves the old routing in force.", Queries: []d.Query{{Expr: "sum(increase(tocsin_alert_routing_reloads_total[5m])) by (outcome)", Legend: "{{outcome}}"}}},
			}},
			{Title: "Not told", Panels: []d.Panel{
				{
					Title: "Failed attempts", Kind: d.TimeSeries, Unit: d.PerSecond, Stacked: true, EmptyWhile: "every receiver has taken what it was sent",
					Queries: []d.Query{{Expr: `sum(rate(tocsin_alert_notifications_total{outcome!="sent"}[$__rate_interval])) by (receiver, reason)`, Legend: "{{receiver}}: {{reason}}"}},
				},
				{
					Title: "Given up", Kind: d.TimeSeries, Unit: d.Records, EmptyWhile: "no notification was given up", Description: "Dead letters of pages in ten minutes; each raises an alert of its own.",
					Queries: []d.Query{{Expr: "sum(increase(tocsin_alert_letters_total[10m])) by (outcome)", Legend: "{{outcome}}"}},
				},
				{Title: "Journal", Kind: d.TimeSeries, Unit: d.Records, Queries: []d.Query{
					{Expr: "sum(tocsin_alert_journal_waiting)", Legend: "waiting"},
					{Expr: "sum(increase(tocsin_alert_journal_failures_total[5m]))", Legend: "failures"},
					{Expr: "sum(increase(tocsin_alert_journal_dropped_total[5m]))", Legend: "dropped"},
				}},
			}},
		},
	}
}
