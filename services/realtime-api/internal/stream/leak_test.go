package stream

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/coder/websocket"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/pkg/auth"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"

	"github.com/tocsin-io/tocsin/services/realtime-api/internal/gate"
	"github.com/tocsin-io/tocsin/services/realtime-api/internal/hub"
	"github.com/tocsin-io/tocsin/services/realtime-api/internal/live"
	"github.com/tocsin-io/tocsin/services/realtime-api/internal/places"
	"github.com/tocsin-io/tocsin/services/realtime-api/internal/wire"
)

// setupFor is setup for somebody, with machines at sites by their first letter.
func setupFor(t *testing.T, who *gate.Identity) *fixture {
	t.Helper()
	where, err := places.New(`^(?P<site>[a-z])`, nil)
	if err != nil {
		t.Fatal(err)
	}
	h := hub.New(hub.DefaultLimits())
	h.Locate(where)
	s := New(Config{Interval: 20 * time.Millisecond, Summary: 40 * time.Millisecond, WriteTimeout: patience, PingInterval: time.Minute, MaxClients: 64, Live: live.NewBoard()}, h, func() wire.Flow { return wire.Flow{DelayMS: -1} }, zap.NewNop(), metrics.NewSet())
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.Serve(w, r, who) }))
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.Run(ctx) })
	stop := sync.OnceFunc(func() { cancel(); wg.Wait() })
	t.Cleanup(func() { stop(); web.Close(); http.DefaultClient.CloseIdleConnections() })
	return &fixture{t, h, s, web.URL, stop}
}

// happen does something to a machine; everything of it bears its id.
func happen(t *testing.T, h *hub.Hub, rng *rand.Rand, id string, at int64) {
	t.Helper()
	var err error
	switch rng.IntN(3) {
	case 0:
		err = h.ApplyWindow(&eventv1.Window{EquipmentId: id, StartUs: at * 5, EndUs: at*5 + 5, Sensors: []*eventv1.SensorWindow{{Sensor: id + "-sensor"}}})
	case 1:
		err = h.ApplyAnomaly(&eventv1.Anomaly{AnomalyId: fmt.Sprint(id, at), EquipmentId: id, GatewayId: id + "-gateway", ObservedUs: at, Summary: id})
	default:
		err = h.ApplyAlert(&eventv1.AlertEvent{AlertId: fmt.Sprint(id, "/", at%5), EquipmentId: id, AtMs: at, Severity: 2, Transition: eventv1.AlertTransition(1 + rng.IntN(3)), Summary: id})
	}
	if err != nil {
		t.Error(err)
	}
}

// Nothing of a machine that somebody may not see is ever sent to them, whatever they ask for.
func TestNothingOfOthersIsSent(t *testing.T) {
	f := setupFor(t, &gate.Identity{Name: "ada", Machines: auth.NewEquipment([]string{"a-*"})})
	rng := rand.New(rand.NewPCG(7, 7))
	ids := []string{"a-1", "a-2", "hidden-1", "hidden-2"}
	for at := range int64(200) {
		happen(t, f.hub, rng, ids[rng.IntN(len(ids))], at)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	instance, version := "", uint64(0)
	at := int64(1000)
	for _, ask := range []string{
		`"channels":["fleet","alerts"]`, `"channels":["fleet","alerts","machine:hidden-1","live:hidden-1"]`, `"channels":["machine:hidden-1","machine:a-1"]`,
		`"channels":["fleet","alerts"],"filter":{"site":"h"}`, `"channels":["fleet","alerts"],"filter":{"site":"a"}`, `"channels":["fleet","alerts"],"filter":{"group":""}`,
	} {
		for _, resume := range []bool{false, true} {
			conn, _, err := websocket.Dial(ctx, f.url, nil)
			if err != nil {
				t.Fatal(err)
			}
			conn.SetReadLimit(64 << 20)
			msg := `{"type":"subscribe",` + ask
			if resume {
				msg += fmt.Sprintf(`,"resume":{"instance":%q,"version":%d}`, instance, version)
			}
			if err := conn.Write(ctx, websocket.MessageText, []byte(msg+"}")); err != nil {
				t.Fatal(err)
			}
			for summaries := 0; summaries < 2; {
				at++
				happen(t, f.hub, rng, ids[rng.IntN(len(ids))], at)
				_, data, err := conn.Read(ctx)
				if err != nil {
					t.Fatal(err)
				}
				text := strings.ReplaceAll(string(data), `"id":"hidden-1","machine":null`, "")
				if strings.Contains(text, "hidden") {
					t.Fatalf("%s: %s", msg, data)
				}
				var m struct {
					Type, Instance string
					Version        uint64
					Machines       map[string]int
				}
				if err := json.Unmarshal(data, &m); err != nil {
					t.Fatal(err)
				}
				switch m.Type {
				case "hello":
					instance = m.Instance
				case "fleet":
					version = m.Version
				case "summary":
					summaries++
					if m.Machines["total"] > 2 {
						t.Fatalf("%s: %s", msg, data)
					}
				}
			}
			if err := conn.Close(websocket.StatusNormalClosure, ""); err != nil {
				t.Log(err) // it may have been sending
			}
		}
	}
}

// A filter bounds fleet, alerts and summary, and another one starts them anew.
func TestFilter(t *testing.T) {
	f := setupFor(t, &gate.Identity{Machines: auth.Every()})
	for _, id := range []string{"a-1", "a-2", "b-1"} {
		if err := f.hub.ApplyWindow(&eventv1.Window{EquipmentId: id, EndUs: 5}); err != nil {
			t.Fatal(err)
		}
		if err := f.hub.ApplyAlert(&eventv1.AlertEvent{AlertId: id + "/x", EquipmentId: id, Transition: 1, Severity: 2}); err != nil {
			t.Fatal(err)
		}
	}
	r := f.dial(nil)
	total := func() float64 {
		m, _ := r.last["summary"]["machines"].(map[string]any)
		n, _ := m["total"].(float64)
		return n
	}
	for _, x := range []struct {
		filter   map[string]any
		machines int
	}{{nil, 3}, {map[string]any{"site": "a"}, 2}, {map[string]any{"site": "b"}, 1}, {map[string]any{"site": ""}, 0}, {map[string]any{"line": ""}, 3}} {
		resets := r.resets
		r.say(map[string]any{"type": "subscribe", "channels": []string{"fleet", "alerts"}, "filter": x.filter})
		r.until(fmt.Sprint(x), func() bool {
			return r.resets >= resets+2 && len(r.rows) == x.machines && len(r.alerts) == x.machines && total() == float64(x.machines)
		})
	}
	// What the filter leaves out does not come later either.
	r.say(map[string]any{"type": "subscribe", "channels": []string{"fleet", "alerts"}, "filter": map[string]any{"site": "a"}})
	r.until("site a", func() bool { return len(r.rows) == 2 && len(r.alerts) == 2 })
	for _, id := range []string{"b-1", "b-2", "a-3"} {
		if err := f.hub.ApplyWindow(&eventv1.Window{EquipmentId: id, StartUs: 5, EndUs: 10}); err != nil {
			t.Fatal(err)
		}
	}
	r.until("a-3", func() bool { return r.rows["a-3"] != "" })
	if len(r.rows) != 3 {
		t.Errorf("%v", r.rows)
	}
}

// When a session ends its streams do, and say why.
func TestSessionEnds(t *testing.T) {
	ends := make(chan struct{})
	f := setupFor(t, &gate.Identity{Machines: auth.Every(), Ends: ends})
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, f.url, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	if _, _, err := conn.Read(ctx); err != nil {
		t.Fatal(err)
	}
	close(ends)
	for err == nil {
		_, _, err = conn.Read(ctx)
	}
	if websocket.CloseStatus(err) != statusOver {
		t.Errorf("%v", err)
	}
}
