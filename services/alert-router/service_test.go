package alertrouter

import (
	"fmt"
	"slices"
	"testing"

	"github.com/tocsin-io/tocsin/pkg/kafka/kafkatest"
)

// An anomaly becomes one alert in the API, one firing and one resolved message at the webhook.
func TestAnomalyToAlertToWebhook(t *testing.T) {
	k := kafkatest.Start(t, 3)
	h := newHook(t)
	cfg := configFor(t, t.TempDir())
	cfg.RoutingFile = routingTo(t, h.URL)
	r := run(t, k, cfg)
	p := newProducer(t, k)

	p.anomalies(anomaly("press-1", "behaviour", 1_000_000, started, crit))
	eventually(t, "alert in the API", func() error {
		as, err := r.alerts(t)
		if err != nil {
			return err
		}
		if len(as) != 1 || as[0].Labels["alert_id"] != "press-1/behaviour/1000000" || as[0].Labels["severity"] != "critical" {
			return fmt.Errorf("alerts: %+v", as)
		}
		return nil
	})
	want := []string{"firing press-1/behaviour/1000000 critical"}
	eventually(t, "firing at the webhook", func() error { return same(h.told(), want) })

	p.anomalies(
		anomaly("press-1", "behaviour", 1_000_000, ongoing, crit),
		anomaly("press-1", "behaviour", 1_000_000, ended, crit))
	want = append(want, "resolved press-1/behaviour/1000000 critical")
	eventually(t, "resolved at the webhook", func() error { return same(h.told(), want) })
	eventually(t, "no alert in the API", func() error {
		as, err := r.alerts(t)
		if err == nil && len(as) != 0 {
			err = fmt.Errorf("alerts: %+v", as)
		}
		return err
	})
	if err := r.stop(); err != nil {
		t.Fatalf("Run: %v", err)
	}
	if err := same(h.told(), want); err != nil {
		t.Fatal(err)
	}
}

func same(got, want []string) error {
	if !slices.Equal(got, want) {
		return fmt.Errorf("got %q, want %q", got, want)
	}
	return nil
}
