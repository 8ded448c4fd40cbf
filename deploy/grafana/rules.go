package grafana

import (
	"bytes"
	"fmt"
	"time"

	"go.yaml.in/yaml/v3"
)

// A Rule is one alert that vmalert raises about the fleet itself. Its runbook stands in docs/RUNBOOKS.md under its name.
type Rule struct {
	Name string
	// Expr is MetricsQL; the alert stands while it has a value.
	Expr string
	// For is how long Expr must hold.
	For      time.Duration
	Severity string
	// Summary is one sentence with the figure, as vmalert's template.
	Summary string
}

// A Group is evaluated together.
type Group struct {
	Name  string
	Rules []Rule
}

const (
	critical = "critical"
	warning  = "warning"
	runbooks = "https://github.com/tocsin-io/tocsin/blob/main/docs/RUNBOOKS.md#"
)

// p99 is the 99th percentile of a VictoriaMetrics histogram in five minutes.
func p99(histogram string) string {
	return fmt.Sprintf("histogram_quantile(0.99, sum(rate(%s_bucket[5m])) by (vmrange))", histogram)
}

// RuleGroups are the rules about the fleet's own health.
func RuleGroups() []Group {
	return []Group{
		{"services", []Rule{
			{"ServiceDown", "up == 0", 30 * time.Second, warning, "{{ $labels.job }} at {{ $labels.instance }} does not answer its scrape"},
			{
				"NoFrames", `sum(rate(tocsin_ingest_frames_total{outcome="acknowledged"}[2m])) == 0 and sum(tocsin_api_machines) > 0`, 2 * time.Minute, critical,
				"no frame has come from any gateway for four minutes, though machines are known",
			},
		}},
		{"promises", []Rule{
			{
				"IngestSlow", fmt.Sprintf("%s > %d", p99("tocsin_ingest_produce_seconds"), promiseIngest), 2 * time.Minute, warning,
				"one frame in a hundred waits {{ $value }} s at the gateway until Kafka has it; promised is 1 s",
			},
			{
				"ProcessingSlow", fmt.Sprintf("%s > %d", p99("tocsin_processor_delay_seconds"), promiseProcess), 2 * time.Minute, warning,
				"one frame in a hundred is judged {{ $value }} s after Kafka had it; promised are 5 s",
			},
			{
				"AlertSlow", fmt.Sprintf("histogram_quantile(0.99, sum(increase(tocsin_alert_notification_latency_seconds_bucket[10m])) by (vmrange)) > %d", promiseAlert), 0, critical,
				"one page in a hundred reached its receiver {{ $value }} s after the judgement; promised are 10 s",
			},
			{
				"TotalSlow", fmt.Sprintf("histogram_quantile(0.99, sum(increase(tocsin_alert_total_latency_seconds_bucket[10m])) by (vmrange)) > %d", promiseTotal), 0, critical,
				"one page in a hundred reached its receiver {{ $value }} s after the machine measured what it is about; promised are 30 s",
			},
			{
				"FramesNotTaken", `sum(rate(tocsin_ingest_frames_total{outcome="retry"}[5m])) > 0.05 * sum(rate(tocsin_ingest_frames_total[5m]))`, 2 * time.Minute, critical,
				"the gateway sends frames back to be sent again: {{ $value }} a second",
			},
			{
				"ConsumerLag", "sum(max(tocsin_kafka_lag_records) by (group, topic)) by (group) > 50000", 5 * time.Minute, warning,
				"{{ $labels.group }} is {{ $value }} records behind",
			},
			{
				"LakeBehind", "max(tocsin_lake_lag_seconds) by (table) > 1800", 5 * time.Minute, warning,
				"rows of {{ $labels.table }} have waited {{ $value }} s for their file",
			},
		}},
		{"coverage", []Rule{
			{
				"SensorsNotJudged", `sum(tocsin_processor_sensors{state!~"judged|learning|shelved"}) > 0.1 * sum(tocsin_processor_sensors)`, 2 * time.Minute, warning,
				"{{ $value }} sensors are not judged, more than a tenth of all: GET /v1/coverage says which and why",
			},
			{
				"DetectorsFailed", `sum(tocsin_processor_machines{health="failed"}) > 0`, time.Minute, warning,
				"{{ $value }} machines are judged by fixed limits only: their detectors have failed",
			},
			{
				"DetectorsFailing", "sum(increase(tocsin_processor_detector_failures_total[10m])) by (detector, reason) > 10", 0, warning,
				"detector {{ $labels.detector }} keeps failing ({{ $labels.reason }}): the stream-processor's log names machines",
			},
			{
				"ModelDrifted", "max(tocsin_model_drifted) by (model, version) > 0", 10 * time.Minute, warning,
				"what {{ $labels.model }}@{{ $labels.version }} was given in the last day is not what it was trained on: tocsin models drift {{ $labels.model }} names the sensors",
			},
		}},
		{"loss", []Rule{
			{
				"DeadLetters", `sum(increase(tocsin_processor_dead_letters_total[10m])) + sum(increase(tocsin_alert_anomalies_total{outcome="dead_letter"}[10m])) + sum(increase(tocsin_lake_dead_letters_total[10m])) > 0`,
				0, warning, "{{ $value }} records were set aside in ten minutes: tocsin dlq list says why",
			},
			{
				"PagesGivenUp", `sum(increase(tocsin_alert_letters_total[10m])) > 0`, 0, critical,
				"{{ $value }} notifications were given up in ten minutes: somebody was not told",
			},
			{
				"NotificationsFailing", `sum(rate(tocsin_alert_notifications_total{outcome!="sent"}[5m])) by (receiver) > sum(rate(tocsin_alert_notifications_total{outcome="sent"}[5m])) by (receiver) or sum(rate(tocsin_alert_notifications_total{outcome!="sent"}[5m])) by (receiver) > 0 unless sum(rate(tocsin_alert_notifications_total{outcome="sent"}[5m])) by (receiver) > 0`,
				time.Minute, critical, "most notifications to {{ $labels.receiver }} fail",
			},
			{
				"RecordsLost", `sum(increase(tocsin_lake_lost_records_total[1h])) + sum(increase(tocsin_processor_skipped_offsets_total[1h])) + sum(increase(tocsin_alert_data_loss_total[1h])) > 0`,
				0, critical, "{{ $value }} records were removed by Kafka's retention before they were read",
			},
			{"JournalFailing", "sum(increase(tocsin_alert_journal_failures_total[5m])) > 0", time.Minute, warning, "the journal's database refuses rows; they wait in memory"},
			{
				"MetricsDropped", "sum(rate(tocsin_processor_export_dropped_bytes_total[5m])) > 0", 2 * time.Minute, warning,
				"statistics for VictoriaMetrics are given up: {{ $value }} bytes a second",
			},
		}},
		{"transactions", []Rule{
			{
				"TransactionsAborting", `sum(rate(tocsin_processor_transactions_total{outcome="aborted"}[5m])) > 0.2 * sum(rate(tocsin_processor_transactions_total[5m]))`, 2 * time.Minute, warning,
				"the processor aborts {{ $value }} transactions a second and judges their frames again",
			},
			{
				"RoutingRefused", `sum(increase(tocsin_alert_routing_reloads_total{outcome="refused"}[10m])) > 0`, 0, warning,
				"a changed routing file was refused; the old one is in force",
			},
		}},
	}
}

// The file's form.
type (
	ruleFile struct {
		Groups []ruleGroup `yaml:"groups"`
	}
	ruleGroup struct {
		Name  string     `yaml:"name"`
		Rules []ruleYAML `yaml:"rules"`
	}
	ruleYAML struct {
		Alert       string            `yaml:"alert"`
		Expr        string            `yaml:"expr"`
		For         string            `yaml:"for,omitempty"`
		Labels      map[string]string `yaml:"labels"`
		Annotations map[string]string `yaml:"annotations"`
	}
)

// Rules is the file that vmalert reads.
func Rules() ([]byte, error) {
	var f ruleFile
	for _, g := range RuleGroups() {
		one := ruleGroup{Name: g.Name}
		for _, r := range g.Rules {
			y := ruleYAML{
				Alert: r.Name, Expr: r.Expr, Labels: map[string]string{"severity": r.Severity},
				Annotations: map[string]string{"summary": r.Summary, "runbook_url": runbooks + anchor(r.Name)},
			}
			if r.For > 0 {
				y.For = r.For.String()
			}
			one.Rules = append(one.Rules, y)
		}
		f.Groups = append(f.Groups, one)
	}
	var b bytes.Buffer
	b.WriteString("# Written by `make dashboards` from deploy/grafana/rules.go.\n")
	e := yaml.NewEncoder(&b)
	e.SetIndent(2)
	if err := e.Encode(f); err != nil {
		return nil, fmt.Errorf("rules: %w", err)
	}
	return b.Bytes(), nil
}

// anchor is the anchor that a heading of a rule's name has on a page.
func anchor(name string) string { return string(bytes.ToLower([]byte(name))) }
