package webhook

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"pgregory.net/rapid"

	"github.com/tocsin-io/tocsin/services/alert-router/internal/notification"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/receiver"
)

// payload is what appendStock writes, as encoding/json would.
type payload struct {
	Receiver           string            `json:"receiver"`
	Status             string            `json:"status"`
	Alerts             []alert           `json:"alerts"`
	NotificationReason string            `json:"notification_reason"`
	GroupLabels        map[string]string `json:"groupLabels"`
	CommonLabels       map[string]string `json:"commonLabels"`
	CommonAnnotations  map[string]string `json:"commonAnnotations"`
	RouteLabels        map[string]string `json:"routeLabels"`
	ExternalURL        string            `json:"externalURL"`
	Version            string            `json:"version"`
	GroupKey           string            `json:"groupKey"`
	TruncatedAlerts    int               `json:"truncatedAlerts"`
}

type alert struct {
	Status       string           `json:"status"`
	Labels       notification.Set `json:"labels"`
	Annotations  notification.Set `json:"annotations"`
	StartsAt     time.Time        `json:"startsAt"`
	EndsAt       time.Time        `json:"endsAt"`
	GeneratorURL string           `json:"generatorURL"`
	Fingerprint  string           `json:"fingerprint"`
}

func stock(n *notification.Notification, most int) *payload {
	out := &payload{
		Receiver: regexp.QuoteMeta(n.Receiver), Status: string(n.Status), NotificationReason: strings.ReplaceAll(string(n.Reason), "_", " "),
		GroupLabels: some(n.GroupLabels), CommonLabels: some(n.CommonLabels), CommonAnnotations: some(n.CommonAnnotations), RouteLabels: map[string]string{},
		ExternalURL: n.ExternalURL, Version: "4", GroupKey: n.GroupKey, Alerts: []alert{},
	}
	list := n.Alerts
	if most > 0 && len(list) > most {
		out.TruncatedAlerts = len(list) - most
		list = list[:most]
	}
	for i := range list {
		a := &list[i]
		out.Alerts = append(out.Alerts, alert{
			Status: string(a.Status), Labels: some(a.Labels), Annotations: some(a.Annotations), StartsAt: a.StartsAt, EndsAt: a.EndsAt,
			GeneratorURL: a.Links.Machine, Fingerprint: a.Labels.Fingerprint().String(),
		})
	}
	return out
}

func some[M ~map[K]V, K, V ~string](m M) M {
	if m == nil {
		return M{}
	}
	return m
}

var texts = rapid.OneOf(
	rapid.String(), rapid.StringMatching(`[ -~\n]{0,40}`), rapid.SampledFrom([]string{"", "<b>&", "a\"b\\c", "\x00\x1f\x7f", "92.4 \u00b0C", "\u2028\u2029", "\xff\xfe", "\ufffd", "line\nline", "tab\ttab"}),
)

func sets(t *rapid.T, name string) notification.Set {
	m := rapid.MapOfN(texts, texts, 0, 20).Draw(t, name)
	if len(m) == 0 {
		return nil
	}
	out := notification.Set{}
	for k, v := range m {
		out[model.LabelName(k)] = model.LabelValue(v)
	}
	return out
}

// What is written by hand is what encoding/json writes, byte for byte.
func TestStockIsWhatJSONWrites(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		plain := rapid.MapOfN(texts, texts, 0, 4)
		n := &notification.Notification{
			Receiver: texts.Draw(t, "receiver"), Status: notification.Firing, Reason: notification.NewAlerts, GroupKey: texts.Draw(t, "group"), ExternalURL: texts.Draw(t, "url"),
			GroupLabels: plain.Draw(t, "labels"), CommonLabels: plain.Draw(t, "common"),
		}
		for i := range rapid.IntRange(0, 4).Draw(t, "alerts") {
			a := notification.Alert{Status: notification.Resolved, Labels: sets(t, fmt.Sprint("labels ", i)), Annotations: sets(t, fmt.Sprint("annotations ", i))}
			a.StartsAt = time.Unix(rapid.Int64Range(0, 1<<32).Draw(t, "second"), rapid.Int64Range(0, 999_999_999).Draw(t, "nanosecond")).In(rapid.SampledFrom([]*time.Location{time.UTC, time.FixedZone("x", 5400)}).Draw(t, "zone"))
			a.Links.Machine = texts.Draw(t, "link")
			n.Alerts = append(n.Alerts, a)
		}
		most := rapid.IntRange(0, 3).Draw(t, "most")
		want, err := receiver.JSON(stock(n, most))
		if err != nil {
			t.Fatal(err)
		}
		if got := appendStock(nil, n, most); string(got) != string(want) {
			t.Fatalf("got\n%s\nwant\n%s", got, want)
		}
	})
}
