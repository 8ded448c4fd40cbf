package grafana

import d "github.com/tocsin-io/tocsin/deploy/grafana/dashboard"

// pipeline follows a frame from the gateway to the page, hop by hop, beside each hop's promise.
func pipeline() d.Dashboard {
	return d.Dashboard{
		UID: "tocsin-pipeline", Title: "Tocsin / Pipeline", Description: "Each hop's latency beside its promise, what was refused, and the services themselves.",
		Rows: []d.Row{
			{Title: "From sensor to page", Panels: []d.Panel{
				{
					Title: "Gateway to Kafka", Kind: d.TimeSeries, Unit: d.Seconds, Logarithmic: true, Limit: promiseIngest, Width: 8, Description: "From a frame's arrival to Kafka's acknowledgement.",
					Queries: latencies("tocsin_ingest_produce_seconds"),
				},
				{
					Title: "Kafka to judgement", Kind: d.TimeSeries, Unit: d.Seconds, Logarithmic: true, Limit: promiseProcess, Width: 8, Description: "From Kafka's time of the oldest frame of a transaction to that transaction's end.",
					Queries: latencies("tocsin_processor_delay_seconds"),
				},
				{
					Title: "Judgement to page", Kind: d.TimeSeries, Unit: d.Seconds, Logarithmic: true, Limit: promiseAlert, Width: 8, Description: "From the judgement to the receiver's acceptance of the first notification.",
					EmptyWhile: "nothing was told in the hour before",
					Queries:    rare("tocsin_alert_notification_latency_seconds"),
				},
				{
					Title: "Machine to page", Kind: d.TimeSeries, Unit: d.Seconds, Logarithmic: true, Limit: promiseTotal, Width: 12, Description: "From the event time that an alert is about to the receiver's acceptance: the window's length, a gateway's delay and wrong clocks are in it. Over an hour is left out.",
					EmptyWhile: "nothing was told in the hour before",
					Queries:    rare("tocsin_alert_total_latency_seconds"),
				},
				{
					Title: "Kafka to the web page's server", Kind: d.TimeSeries, Unit: d.Seconds, Logarithmic: true, Width: 12, Description: "99 of 100 records within, by topic.",
					Queries: []d.Query{{Expr: quantile(0.99, "tocsin_api_kafka_delay_seconds", "topic"), Legend: "{{topic}}"}},
				},
			}},
			{Title: "Throughput", Panels: []d.Panel{
				{Title: "Frames", Kind: d.TimeSeries, Unit: d.PerSecond, Queries: []d.Query{
					{Expr: `sum(rate(tocsin_ingest_frames_total{outcome="acknowledged"}[$__rate_interval]))`, Legend: "acknowledged"},
					{Expr: perSecond("tocsin_processor_frames_total", ""), Legend: "judged"},
				}},
				{
					Title: "Not taken", Kind: d.TimeSeries, Unit: d.PerSecond, Description: "Frames that the gateways were told to send again, to mend, or that they may not send.",
					Queries: []d.Query{{
						Expr:   `sum(rate(tocsin_ingest_frames_total{outcome!="acknowledged"}[$__rate_interval])) by (outcome, reason) > 0 or sum(rate(tocsin_ingest_frames_total{outcome!="acknowledged"}[$__rate_interval]))`,
						Legend: "{{outcome}} {{reason}}",
					}},
				},
				{Title: "Bytes of frames", Kind: d.TimeSeries, Unit: d.BytesSecond, Queries: []d.Query{{Expr: perSecond("tocsin_ingest_frame_bytes_total", ""), Legend: "accepted"}}},
			}},
			{Title: "What went wrong", Panels: []d.Panel{
				{
					Title: "Dead letters", Kind: d.TimeSeries, Unit: d.Records, Width: 6, Description: "Records set aside in ten minutes. `tocsin dlq list` shows them.",
					Queries: []d.Query{
						{Expr: "sum(increase(tocsin_processor_dead_letters_total[10m]))", Legend: "frames"},
						{Expr: `sum(increase(tocsin_alert_anomalies_total{outcome="dead_letter"}[10m]))`, Legend: "anomalies"},
						{Expr: "sum(increase(tocsin_lake_dead_letters_total[10m]))", Legend: "rows of the lake"},
						{Expr: "sum(increase(tocsin_alert_letters_total[10m]))", Legend: "notifications"},
					},
				},
				{Title: "Transactions", Kind: d.TimeSeries, Unit: d.PerSecond, Width: 6, Queries: []d.Query{
					{Expr: perSecond("tocsin_processor_transactions_total", "outcome"), Legend: "processor {{outcome}}"},
					{Expr: perSecond("tocsin_alert_transactions_total", "outcome"), Legend: "router {{outcome}}"},
				}},
				{
					Title: "Duplicates and gaps", Kind: d.TimeSeries, Unit: d.Records, Width: 6, Description: "Frames that were sent again are counted once. Skipped offsets are what retention took before it was read.",
					Queries: []d.Query{
						{Expr: "sum(increase(tocsin_processor_duplicate_frames_total[5m]))", Legend: "duplicates"},
						{Expr: "sum(increase(tocsin_processor_skipped_offsets_total[5m]))", Legend: "skipped offsets"},
					},
				},
				{
					Title: "Metrics not delivered", Kind: d.TimeSeries, Unit: d.BytesSecond, Width: 6, Description: "Statistics for this VictoriaMetrics that had to be given up.",
					Queries: []d.Query{{Expr: perSecond("tocsin_processor_export_dropped_bytes_total", ""), Legend: "dropped"}},
				},
			}},
			{Title: "Services", Panels: []d.Panel{
				{Title: "Up", Kind: d.Stat, Width: 24, Height: 5, Steps: []d.Step{{Color: "red"}, {From: 1, Color: "green"}}, Queries: []d.Query{{Expr: "min(up) by (job)", Legend: "{{job}}"}}},
				{Title: "Processor time", Kind: d.TimeSeries, Unit: d.Records, Description: "Cores.", Queries: []d.Query{{Expr: perSecond("process_cpu_seconds_total", "job"), Legend: "{{job}}"}}},
				{Title: "Memory", Kind: d.TimeSeries, Unit: d.Bytes, Queries: []d.Query{{Expr: "sum(process_resident_memory_bytes) by (job)", Legend: "{{job}}"}}},
				{Title: "Goroutines", Kind: d.TimeSeries, Unit: d.Records, Queries: []d.Query{{Expr: "sum(go_goroutines) by (job)", Legend: "{{job}}"}}},
				{
					Title: "Restores of the processor", Kind: d.TimeSeries, Unit: d.Seconds, Width: 12, Description: "From taking a partition to judging it.",
					Queries: []d.Query{{Expr: "max(tocsin_processor_restore_step_seconds) by (step)", Legend: "{{step}}"}},
				},
				{Title: "State of the processor", Kind: d.TimeSeries, Unit: d.Bytes, Width: 12, Queries: []d.Query{{Expr: "sum(tocsin_processor_restore_state_bytes)", Legend: "restored"}}},
			}},
		},
	}
}

// kafka is about the log between the services.
func kafka() d.Dashboard {
	return d.Dashboard{
		UID: "tocsin-kafka", Title: "Tocsin / Kafka", Description: "Consumers' lag and transactions, as the services see them.",
		Rows: []d.Row{
			{Title: "Lag", Panels: []d.Panel{
				{
					Title: "Records behind", Kind: d.TimeSeries, Unit: d.Records, Width: 12, Height: 10, Description: "Records that stand in a topic and that a consumer group has not committed. Asked of the brokers, so it also shows a group that nobody works for.",
					Queries: []d.Query{{Expr: "max(tocsin_kafka_lag_records) by (group, topic)", Legend: "{{group}} of {{topic}}"}},
				},
				{
					Title: "Lake behind the log", Kind: d.TimeSeries, Unit: d.Seconds, Width: 12, Height: 10, Description: "Age of the oldest record that is not in a file yet.",
					Queries: []d.Query{{Expr: "max(tocsin_lake_lag_seconds) by (table)", Legend: "{{table}}"}},
				},
			}},
			{Title: "Records", Panels: []d.Panel{
				{Title: "Read by the real-time API", Kind: d.TimeSeries, Unit: d.PerSecond, Queries: []d.Query{{Expr: perSecond("tocsin_api_records_total", "topic"), Legend: "{{topic}}"}}},
				{Title: "Errors of fetches", Kind: d.TimeSeries, Unit: d.PerSecond, Queries: []d.Query{
					{Expr: perSecond("tocsin_processor_fetch_errors_total", ""), Legend: "processor"},
					{Expr: perSecond("tocsin_alert_fetch_errors_total", ""), Legend: "router"},
				}},
				{Title: "On their way to Kafka", Kind: d.TimeSeries, Unit: d.Bytes, Queries: []d.Query{{Expr: "sum(tocsin_ingest_in_flight_bytes)", Legend: "gateway"}}},
			}},
			{Title: "Transactions", Panels: []d.Panel{
				{Title: "Length of the processor's transactions", Kind: d.TimeSeries, Unit: d.Seconds, Width: 12, Queries: latencies("tocsin_processor_transaction_seconds")},
				{
					Title: "Left open by Kafka and ended here", Kind: d.TimeSeries, Unit: d.Records, Width: 12, Description: "Transactions that the coordinator called complete and whose markers were missing in a partition (docs/EXACTLY_ONCE.md).",
					Queries: []d.Query{{Expr: "sum(increase(tocsin_kafka_unended_transactions_total[1h]))", Legend: "in an hour"}},
				},
			}},
		},
	}
}
