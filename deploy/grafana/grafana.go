// Package grafana is what operators of Tocsin import first: Grafana's dashboards, and vmalert's rules about the fleet's own health, both
// written in Go so that names, units and promises stand once. `make dashboards` writes them as files:
//
//	helm/tocsin/files/dashboards/*.json   provisioned by docker-compose.yml and the Helm chart, or imported by hand
//	helm/tocsin/files/rules/*.yaml        read by vmalert in the local stack, docker-compose.yml and the Helm chart
//
// Queries are MetricsQL: histograms are VictoriaMetrics' own (label vmrange).
package grafana

import (
	"fmt"

	d "github.com/tocsin-io/tocsin/deploy/grafana/dashboard"
)

// The promises that the fleet is held against, in seconds (docs/RUNBOOKS.md). The gateway's is of the 99th percentile of single
// frames, the processor's beyond the window's own length.
const (
	promiseIngest  = 1
	promiseProcess = 5
	promiseAlert   = 10
	promiseTotal   = 30
)

// Dashboards are all of them, in the order of the folder. Their uids never change.
func Dashboards() []d.Dashboard {
	return []d.Dashboard{fleet(), machine(), detection(), pipeline(), kafka(), lake(), onCall()}
}

// quantile is the q-quantile over a rate window of a VictoriaMetrics histogram, apart by labels.
func quantile(q float64, histogram, by string) string {
	if by != "" {
		by += ", "
	}
	return fmt.Sprintf("histogram_quantile(%g, sum(rate(%s_bucket[$__rate_interval])) by (%svmrange))", q, histogram, by)
}

// recent is the q-quantile of what happened in the last hour, for what is too rare for a rate, apart by a label.
func recent(q float64, histogram, by string) string {
	if by != "" {
		by += ", "
	}
	return fmt.Sprintf("histogram_quantile(%g, sum(increase(%s_bucket[1h])) by (%svmrange))", q, histogram, by)
}

// rare asks for the median and the 99th percentile of the hour before.
func rare(histogram string) []d.Query {
	return []d.Query{
		{Expr: recent(0.5, histogram, ""), Legend: "half within"},
		{Expr: recent(0.99, histogram, ""), Legend: "99 of 100 within"},
	}
}

// latencies asks for the median and the 99th percentile of a histogram.
func latencies(histogram string) []d.Query {
	return []d.Query{
		{Expr: quantile(0.5, histogram, ""), Legend: "half within"},
		{Expr: quantile(0.99, histogram, ""), Legend: "99 of 100 within"},
	}
}

// perSecond is the rate of a counter, apart by a label, or one sum where by is empty.
func perSecond(counter, by string) string {
	if by == "" {
		return fmt.Sprintf("sum(rate(%s[$__rate_interval]))", counter)
	}
	return fmt.Sprintf("sum(rate(%s[$__rate_interval])) by (%s)", counter, by)
}

// Colours of a figure that ought to be zero.
func zero() []d.Step { return []d.Step{{Color: "green"}, {From: 1, Color: "red"}} }

// plain colours a figure that is neither good nor bad.
func plain() []d.Step { return []d.Step{{Color: "text"}} }

func at(v float64) *float64 { return &v }

// Where the files lie below helm/tocsin/files.
const (
	DashboardFiles = "dashboards/*.json"
	RuleFile       = "rules/health.yaml"
)

// Files are all files by their names below helm/tocsin/files.
func Files() (map[string][]byte, error) {
	out := map[string][]byte{}
	for _, one := range Dashboards() {
		b, err := one.JSON()
		if err != nil {
			return nil, err
		}
		out["dashboards/"+one.UID+".json"] = b
	}
	b, err := Rules()
	if err != nil {
		return nil, err
	}
	out[RuleFile] = b
	return out, nil
}
