package grafana

import (
	"fmt"
	"strings"
	"time"
)

// A line is one series: a gauge at a level, or a counter that grows by so much a second; normally, and while there is trouble.
type line struct {
	series          string
	counter         bool
	normal, trouble float64
}

const step = 15 * time.Second

// write adds the line's samples in the text form that VictoriaMetrics imports.
func (l line) write(to *strings.Builder, from, until, begins, ends time.Time) {
	total := 0.0
	for at := from; at.Before(until); at = at.Add(step) {
		v := l.normal
		if !at.Before(begins) && at.Before(ends) {
			v = l.trouble
		}
		if l.counter {
			total += v * step.Seconds()
			v = total
		}
		fmt.Fprintf(to, "%s %g %d\n", l.series, v, at.UnixMilli())
	}
}

func gauge(series string, normal, trouble float64) line { return line{series, false, normal, trouble} }

func counter(series string, normal, trouble float64) line { return line{series, true, normal, trouble} }

// slow is a histogram whose events take a millisecond, and a minute while there is trouble.
func slow(name string) []line {
	return []line{
		counter(name+`_bucket{vmrange="8.799e-04...1.000e-03"}`, 10, 0),
		counter(name+`_bucket{vmrange="5.995e+01...6.813e+01"}`, 0, 10),
	}
}

// healthy is what rules compare with, and what must stay quiet.
func healthy() []line {
	return []line{
		gauge("tocsin_api_machines", 1000, 1000),
		gauge(`tocsin_processor_sensors{state="judged"}`, 10000, 10000),
		gauge(`tocsin_processor_machines{health="healthy"}`, 1000, 1000),
		counter(`tocsin_processor_transactions_total{outcome="committed"}`, 4, 4),
		counter(`tocsin_ingest_frames_total{outcome="retry",reason="rate_limited"}`, 0.1, 0.1),
	}
}

// troubles makes each rule fire.
func troubles() map[string][]line {
	return map[string][]line{
		"ServiceDown":          {gauge(`up{job="alert-router",instance="a"}`, 1, 0)},
		"NoFrames":             {counter(`tocsin_ingest_frames_total{outcome="acknowledged",reason=""}`, 1000, 0)},
		"IngestSlow":           slow("tocsin_ingest_produce_seconds"),
		"ProcessingSlow":       slow("tocsin_processor_delay_seconds"),
		"AlertSlow":            slow("tocsin_alert_notification_latency_seconds"),
		"TotalSlow":            slow("tocsin_alert_total_latency_seconds"),
		"FramesNotTaken":       {counter(`tocsin_ingest_frames_total{outcome="retry",reason="kafka"}`, 0, 500)},
		"ConsumerLag":          {gauge(`tocsin_kafka_lag_records{group="stream-processor",topic="telemetry.frames.v1"}`, 200, 90000)},
		"LakeBehind":           {gauge(`tocsin_lake_lag_seconds{table="readings"}`, 200, 4000)},
		"SensorsNotJudged":     {gauge(`tocsin_processor_sensors{state="silent"}`, 3, 4000)},
		"DetectorsFailed":      {gauge(`tocsin_processor_machines{health="failed"}`, 0, 2)},
		"DetectorsFailing":     {counter(`tocsin_processor_detector_failures_total{detector="pca",reason="panic"}`, 0, 1)},
		"ModelDrifted":         {gauge(`tocsin_model_drifted{model="press",version="4f1c22ab90de"}`, 0, 1)},
		"DeadLetters":          {counter("tocsin_processor_dead_letters_total", 0, 0.1), counter(`tocsin_alert_anomalies_total{outcome="dead_letter"}`, 0, 0), counter(`tocsin_lake_dead_letters_total{table="readings"}`, 0, 0)},
		"PagesGivenUp":         {counter(`tocsin_alert_letters_total{outcome="kept"}`, 0, 0.1)},
		"NotificationsFailing": {counter(`tocsin_alert_notifications_total{receiver="hall",outcome="retry",reason="serverError"}`, 0, 1), counter(`tocsin_alert_notifications_total{receiver="hall",outcome="sent",reason="first_notification"}`, 1, 0)},
		"RecordsLost":          {counter(`tocsin_lake_lost_records_total{table="readings"}`, 0, 1), counter("tocsin_processor_skipped_offsets_total", 0, 0), counter("tocsin_alert_data_loss_total", 0, 0)},
		"JournalFailing":       {counter("tocsin_alert_journal_failures_total", 0, 1)},
		"MetricsDropped":       {counter("tocsin_processor_export_dropped_bytes_total", 0, 1000)},
		"TransactionsAborting": {counter(`tocsin_processor_transactions_total{outcome="aborted"}`, 0.01, 4)},
		"RoutingRefused":       {counter(`tocsin_alert_routing_reloads_total{outcome="refused"}`, 0, 0.1)},
	}
}
