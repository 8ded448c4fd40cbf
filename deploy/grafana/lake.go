package grafana

import d "github.com/tocsin-io/tocsin/deploy/grafana/dashboard"

// lake is for who keeps history: files, rows, and who asks.
func lake() d.Dashboard {
	return d.Dashboard{
		UID: "tocsin-lake", Title: "Tocsin / Lake", Description: "What is written to the lake, how late, and how it is asked.", From: "now-6h",
		Rows: []d.Row{
			{Title: "Writing", Panels: []d.Panel{
				{Title: "Rows", Kind: d.TimeSeries, Unit: d.PerSecond, Queries: []d.Query{{Expr: perSecond("tocsin_lake_rows_total", "table"), Legend: "{{table}}"}}},
				{
					Title: "Bytes of a row", Kind: d.TimeSeries, Unit: d.Bytes, EmptyWhile: "no file was written in the last half hour",
					Queries: []d.Query{{Expr: "sum(increase(tocsin_lake_bytes_total[30m])) by (table) / (sum(increase(tocsin_lake_rows_total[30m])) by (table) > 0)", Legend: "{{table}}"}},
				},
				{Title: "Files", Kind: d.TimeSeries, Unit: d.Records, Description: "Files written in five minutes.", Queries: []d.Query{{Expr: "sum(increase(tocsin_lake_files_total[5m])) by (table)", Legend: "{{table}}"}}},
				{Title: "Behind the log", Kind: d.TimeSeries, Unit: d.Seconds, Limit: 900, Queries: []d.Query{{Expr: "max(tocsin_lake_lag_seconds) by (table)", Legend: "{{table}}"}}},
				{
					Title: "Time to put a file", Kind: d.TimeSeries, Unit: d.Seconds, Logarithmic: true, EmptyWhile: "no file was written in the hour before",
					Queries: []d.Query{{Expr: recent(0.99, "tocsin_lake_put_duration_seconds", "table"), Legend: "{{table}}"}},
				},
				{Title: "Held in memory", Kind: d.TimeSeries, Unit: d.Bytes, Queries: []d.Query{{Expr: "sum(tocsin_lake_held_bytes)", Legend: "rows"}}},
			}},
			{Title: "What went wrong", Panels: []d.Panel{
				{Title: "Lost", Kind: d.Stat, Width: 6, Unit: d.Records, Steps: zero(), Description: "Records that retention took before they were written.", Queries: []d.Query{{Expr: "sum(tocsin_lake_lost_records_total)"}}},
				{Title: "Dead letters", Kind: d.Stat, Width: 6, Unit: d.Records, Steps: zero(), Queries: []d.Query{{Expr: "sum(tocsin_lake_dead_letters_total)"}}},
				{Title: "Tried again", Kind: d.TimeSeries, Width: 12, Unit: d.PerSecond, EmptyWhile: "the store has answered every request", Queries: []d.Query{{Expr: perSecond("tocsin_lake_retries_total", "reason"), Legend: "{{reason}}"}}},
			}},
			{Title: "Asking", Panels: []d.Panel{
				{
					Title: "Queries", Kind: d.TimeSeries, Unit: d.Records, EmptyWhile: "nobody has asked in this time", Description: "In five minutes.",
					Queries: []d.Query{{Expr: "sum(increase(tocsin_history_queries_total[5m])) by (result)", Legend: "{{result}}"}},
				},
				{Title: "Time of a query", Kind: d.TimeSeries, Unit: d.Seconds, Logarithmic: true, EmptyWhile: "nobody has asked in the hour before", Queries: rare("tocsin_history_query_seconds")},
				{Title: "Memory of a query", Kind: d.TimeSeries, Unit: d.Bytes, EmptyWhile: "nobody has asked in the hour before", Queries: rare("tocsin_history_query_peak_bytes")},
				{Title: "Running", Kind: d.Stat, Width: 6, Unit: d.Records, Steps: plain(), Queries: []d.Query{{Expr: "sum(tocsin_history_queries_running)"}}},
				{Title: "Answers kept", Kind: d.Stat, Width: 6, Unit: d.Bytes, Steps: plain(), Queries: []d.Query{{Expr: "sum(tocsin_history_cache_bytes)"}}},
				{Title: "Files kept beside", Kind: d.Stat, Width: 6, Unit: d.Bytes, Steps: plain(), Description: "Copies of an object store's files.", Queries: []d.Query{{Expr: "sum(tocsin_history_copies_bytes)"}}},
				{Title: "Answered from what is kept", Kind: d.Stat, Width: 6, Unit: d.Records, Steps: plain(), Queries: []d.Query{{Expr: "sum(tocsin_history_cache_hits_total)"}}},
			}},
		},
	}
}
