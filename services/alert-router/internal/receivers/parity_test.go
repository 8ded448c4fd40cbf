package receivers

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/notify"
	"github.com/prometheus/alertmanager/notify/webhook"
	"github.com/prometheus/alertmanager/template"
	"github.com/prometheus/common/model"
	"github.com/prometheus/common/promslog"

	"github.com/tocsin-io/tocsin/services/alert-router/internal/notification"
)

// alertmanagers is what Alertmanager's own integration posts of the same alerts.
func alertmanagers(t *testing.T, n *notification.Notification) []byte {
	t.Helper()
	var body []byte
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { body, _ = io.ReadAll(r.Body) }))
	defer srv.Close()
	conf := load(t, "route: {receiver: a}\nreceivers: [{name: a, webhook_configs: [{url: '"+srv.URL+"'}]}]")
	tmpl, err := template.FromGlobs(nil)
	if err != nil {
		t.Fatal(err)
	}
	if tmpl.ExternalURL, err = url.Parse(n.ExternalURL); err != nil {
		t.Fatal(err)
	}
	hook, err := webhook.New(conf.Receivers[0].WebhookConfigs[0], tmpl, promslog.NewNopLogger())
	if err != nil {
		t.Fatal(err)
	}
	set := func(m map[string]string) model.LabelSet {
		out := make(model.LabelSet)
		for k, v := range m {
			out[model.LabelName(k)] = model.LabelValue(v)
		}
		return out
	}
	ctx := notify.WithGroupKey(t.Context(), n.GroupKey)
	ctx = notify.WithReceiverName(ctx, n.Receiver)
	ctx = notify.WithGroupLabels(ctx, set(n.GroupLabels))
	ctx = notify.WithNotificationReason(ctx, notify.ReasonFirstNotification)
	var alerts []*alert.Alert
	for i := range n.Alerts {
		a := &alert.Alert{}
		a.Labels, a.Annotations = n.Alerts[i].Labels, n.Alerts[i].Annotations
		a.StartsAt, a.GeneratorURL = n.Alerts[i].StartsAt, n.Alerts[i].Links.Machine
		alerts = append(alerts, a)
	}
	if _, err := hook.Notify(ctx, alerts...); err != nil {
		t.Fatal(err)
	}
	// What is common is the engine's to say: here as Alertmanager finds it.
	data := tmpl.Data(n.Receiver, set(n.GroupLabels), nil, "", alerts...)
	n.CommonLabels, n.CommonAnnotations = data.CommonLabels, data.CommonAnnotations
	return body
}
