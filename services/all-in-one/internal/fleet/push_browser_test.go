package fleet_test

import (
	"context"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"google.golang.org/protobuf/proto"

	"github.com/tocsin-io/tocsin/pkg/browsertest"
	"github.com/tocsin-io/tocsin/pkg/kafka/kafkatest"
	"github.com/tocsin-io/tocsin/pkg/topic"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	realtimeapi "github.com/tocsin-io/tocsin/services/realtime-api"

	"github.com/tocsin-io/tocsin/services/all-in-one/internal/fleet/fleettest"
)

// From an anomaly in Kafka to a notification in a real browser: somebody subscribes in the page, the router encrypts and sends to a push service (the script's), which decrypts with the
// subscription's keys and hands those bytes to the page's service worker. The notification's click leads to the machine, its button to the alert's acknowledgement.
func TestPushInABrowser(t *testing.T) {
	b := browsertest.Find(t, "../../../realtime-api/web")
	const token = "adas-token-0123456789"
	write := func(name, text string) string {
		path := filepath.Join(t.TempDir(), name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	// The page needs the router's address and the router the page's: one of them goes by way of this.
	var router atomic.Pointer[url.URL]
	way := httptest.NewServer(&httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		if to := router.Load(); to != nil {
			r.SetURL(to)
		}
	}})
	t.Cleanup(way.Close)

	dir := t.TempDir()
	page := fleettest.Config(dir)
	page.Realtime.Backends.AlertRouter = way.URL
	page.Realtime.Auth.People = []realtimeapi.Person{{Name: "ada", Token: token, Equipment: []string{"press-*"}}}
	shown := fleettest.Start(t, page, dir, "realtime-api")
	at := "http://" + shown.Addrs["realtime-api"]

	alerts := fleettest.Config(t.TempDir())
	alerts.Broker.Mode, alerts.Process.Kafka.Brokers = "external", shown.Kafka.Brokers
	c := &alerts.Router
	c.RoutingFile = write("routing.yml", "route: {receiver: people, group_by: [equipment_id, cause], group_wait: 0s}\nreceivers: [{name: people}]\n")
	c.ReceiversFile = write("receivers.yml", "receivers: [{name: people, webpush_configs: [{subject: 'mailto:ops@example.com'}]}]")
	c.MachineURL, c.LiveURL, c.EgressAllow = at+"/#/machine/{equipment_id}", "", []string{"127.0.0.1"}
	c.Auth.People = slices.Grow(c.Auth.People, 1)[:1]
	ada := &c.Auth.People[0]
	ada.Name, ada.Token, ada.Role, ada.Equipment = "ada", token, "operator", []string{"press-*"}
	told := fleettest.Start(t, alerts, t.TempDir(), "alert-router")
	to, err := url.Parse("http://" + told.Addrs["alert-router"])
	if err != nil {
		t.Fatal(err)
	}
	router.Store(to)

	producer := kafkatest.Client(t, shown.Kafka)
	fault := func(machine, what string) func() {
		return func() {
			us := time.Now().UnixMicro()
			a := &eventv1.Anomaly{
				AnomalyId: machine + "/limit/1/started", EpisodeId: machine + "/limit/1", EquipmentId: machine, Cause: "limit", Phase: eventv1.Phase_PHASE_STARTED,
				Severity: eventv1.Severity_SEVERITY_CRITICAL, Score: 0.99, Confidence: 0.9, StartedUs: us, ObservedUs: us, JudgedAtMs: us / 1000, Summary: what,
				Contributions: []*eventv1.Contribution{{Sensor: "bearing_temperature_c", Share: 1, Observed: 91, ExpectedLow: 58, ExpectedHigh: 64, Detector: "limits"}},
			}
			value, err := proto.Marshal(a)
			if err != nil {
				t.Error(err)
				return
			}
			ctx, cancel := context.WithTimeout(t.Context(), fleettest.Patience)
			defer cancel()
			record := &kgo.Record{Topic: topic.Anomalies, Key: []byte(machine), Value: value, Headers: []kgo.RecordHeader{{Key: topic.HeaderType, Value: []byte(topic.TypeAnomaly)}}}
			if err := producer.ProduceSync(ctx, record).FirstErr(); err != nil {
				t.Error(err)
			}
		}
	}
	b.Run(t, 5*time.Minute, map[string]func(){
		"fault of another's": fault("mill-1", "The mill is hot."),
		"fault":              fault("press-7", "Bearing temperature is 91 °C; <b>limit</b> is 64 °C."),
	}, "e2e/push.mjs", at, b.Chromium, t.TempDir(), token)
}
