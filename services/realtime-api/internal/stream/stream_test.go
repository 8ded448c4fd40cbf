package stream

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/coder/websocket"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/pkg/auth"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"

	"github.com/tocsin-io/tocsin/services/realtime-api/internal/gate"
	"github.com/tocsin-io/tocsin/services/realtime-api/internal/hub"
	"github.com/tocsin-io/tocsin/services/realtime-api/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = time.Minute

type fixture struct {
	*testing.T
	hub  *hub.Hub
	srv  *Server
	url  string
	stop func()
}

func setup(t *testing.T, change func(*Config)) *fixture {
	t.Helper()
	cfg := Config{Interval: 20 * time.Millisecond, WriteTimeout: patience, PingInterval: time.Minute, MaxClients: 8}
	if change != nil {
		change(&cfg)
	}
	lim := hub.DefaultLimits()
	lim.Machines = 3000
	h := hub.New(lim)
	s := New(cfg, h, func() wire.Flow { return wire.Flow{DelayMS: -1} }, zap.NewNop(), metrics.NewSet())
	who := &gate.Identity{Machines: auth.Every()}
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { s.Serve(w, r, who) }))
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = s.Run(ctx) })
	stop := sync.OnceFunc(func() { cancel(); wg.Wait() })
	t.Cleanup(func() { stop(); web.Close(); http.DefaultClient.CloseIdleConnections() })
	return &fixture{t, h, s, web.URL, stop}
}

// reader is a client that keeps what the protocol says it should know.
type reader struct {
	f         *fixture
	conn      *websocket.Conn
	instance  string
	versions  map[string]uint64
	rows      map[string]string
	alerts    map[string]string
	windows   map[string]map[int64]int64
	resets    int
	last      map[string]map[string]any // latest message by type
	behind    float64
	summaries int
}

func (f *fixture) dial(opts *websocket.DialOptions) *reader {
	f.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	conn, _, err := websocket.Dial(ctx, f.url, opts)
	if err != nil {
		f.Fatalf("dial: %v", err)
	}
	conn.SetReadLimit(64 << 20)
	f.Cleanup(func() { conn.CloseNow() })
	return &reader{
		f: f, conn: conn, versions: map[string]uint64{}, rows: map[string]string{}, alerts: map[string]string{},
		windows: map[string]map[int64]int64{}, last: map[string]map[string]any{},
	}
}

func (r *reader) say(v any) {
	r.f.Helper()
	b, _ := json.Marshal(v)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := r.conn.Write(ctx, websocket.MessageText, b); err != nil {
		r.f.Fatalf("write: %v", err)
	}
}

func (r *reader) subscribe(channels ...string) {
	r.say(map[string]any{"type": "subscribe", "channels": channels})
}

// until reads messages until ok.
func (r *reader) until(what string, ok func() bool) {
	r.f.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for !ok() {
		_, data, err := r.conn.Read(ctx)
		if err != nil {
			r.f.Fatalf("waiting for %s: %v", what, err)
		}
		r.take(data)
	}
}

func (r *reader) take(data []byte) {
	var m struct {
		Type, ID, Instance string
		Version            uint64
		Reset, More        bool
		Rows, Alerts       []map[string]any
		Removed            []string
		Windows            []struct {
			Start    int64 `json:"start_us"`
			Revision int64
		}
		Behind float64 `json:"coalesced_ticks"`
	}
	if err := json.Unmarshal(data, &m); err != nil {
		r.f.Fatalf("%v: %.200s", err, data)
	}
	raw := map[string]any{}
	_ = json.Unmarshal(data, &raw)
	r.last[m.Type] = raw
	if m.Reset {
		r.resets++
	}
	switch m.Type {
	case "hello":
		r.instance = m.Instance
	case "summary":
		r.behind += m.Behind
		r.summaries++
	case "fleet":
		if m.Reset {
			clear(r.rows)
		}
		for _, row := range m.Rows {
			r.rows[row["id"].(string)] = fmt.Sprint(row)
		}
		for _, id := range m.Removed {
			delete(r.rows, id)
		}
	case "alerts":
		if m.Reset {
			clear(r.alerts)
		}
		for _, a := range m.Alerts {
			r.alerts[a["alert_id"].(string)] = a["transition"].(string)
		}
	case "machine":
		if m.Reset || r.windows[m.ID] == nil {
			r.windows[m.ID] = map[int64]int64{}
		}
		for _, w := range m.Windows {
			r.windows[m.ID][w.Start] = w.Revision
		}
	}
	if m.Version > 0 && !m.More {
		r.versions[m.Type] = m.Version
	}
}

func (f *fixture) window(id string, start int64, rev uint32) {
	f.Helper()
	if err := f.hub.ApplyWindow(&eventv1.Window{
		EquipmentId: id, StartUs: start, EndUs: start + 5, Revision: rev, Score: 0.5,
		Sensors: []*eventv1.SensorWindow{{Sensor: "temperature", Count: 5, Mean: 3}},
	}); err != nil {
		f.Fatal(err)
	}
}

func (f *fixture) alert(id string, tr eventv1.AlertTransition) {
	f.Helper()
	if err := f.hub.ApplyAlert(&eventv1.AlertEvent{AlertId: id, EquipmentId: "m1", Transition: tr, AtMs: int64(tr), Severity: 3}); err != nil {
		f.Fatal(err)
	}
}

// want is what a reader of the fleet should know.
func (f *fixture) want() map[string]string {
	out := map[string]string{}
	for _, row := range f.hub.FleetSince(0, nil).Rows {
		var v map[string]any
		_ = json.Unmarshal(wire.AppendRow(nil, &row), &v)
		out[row.ID] = fmt.Sprint(v)
	}
	return out
}

func equal(a, b map[string]string) bool { return fmt.Sprint(a) == fmt.Sprint(b) }

func TestSnapshotThenChanges(t *testing.T) {
	f := setup(t, nil)
	r := f.dial(nil)
	r.subscribe("fleet", "alerts", "machine:m1")
	r.until("empty snapshots", func() bool { return len(r.versions) == 3 })
	if r.resets != 3 || r.last["machine"]["machine"] != nil {
		t.Fatalf("%d resets; %v", r.resets, r.last["machine"])
	}
	for i := range int64(5) {
		f.window("m1", i*5, 0)
		f.window("m2", i*5, 0)
	}
	r.until("the windows", func() bool { return len(r.windows["m1"]) == 5 && equal(r.rows, f.want()) })
	f.window("m1", 10, 3)
	f.alert("a", eventv1.AlertTransition_ALERT_TRANSITION_OPENED)
	r.until("a revision and an alert", func() bool {
		return r.windows["m1"][10] == 3 && r.alerts["a"] == "ALERT_TRANSITION_OPENED" && strings.Contains(r.rows["m1"], "st:4")
	})
	f.alert("a", eventv1.AlertTransition_ALERT_TRANSITION_CLOSED)
	r.until("its end", func() bool { return r.alerts["a"] == "ALERT_TRANSITION_CLOSED" && equal(r.rows, f.want()) })
	// m1's channel began with "not known", and began anew when the machine came.
	if r.resets != 4 {
		t.Errorf("%d resets, want 4", r.resets)
	}
	r.until("a summary", func() bool { return r.last["summary"] != nil })
}

func TestLargeFleetComesInParts(t *testing.T) {
	f := setup(t, nil)
	for i := range 2*rowsPerMessage/2 + 500 {
		f.window(fmt.Sprint("m", i), 0, 0)
	}
	r := f.dial(nil)
	r.subscribe("fleet")
	r.until("all rows", func() bool { return r.versions["fleet"] > 0 })
	if !equal(r.rows, f.want()) || len(r.rows) != 2500 {
		t.Fatalf("%d rows", len(r.rows))
	}
}

func TestResume(t *testing.T) {
	f := setup(t, nil)
	f.window("m1", 0, 0)
	f.window("m2", 0, 0)
	r := f.dial(nil)
	r.subscribe("fleet")
	r.until("the snapshot", func() bool { return r.versions["fleet"] > 0 })
	_ = r.conn.CloseNow()
	f.window("m2", 5, 0)

	again := f.dial(nil)
	again.say(map[string]any{"type": "subscribe", "channels": []string{"fleet"}, "resume": map[string]any{"instance": r.instance, "version": r.versions["fleet"]}})
	again.until("the change", func() bool { return again.rows["m2"] != "" })
	if again.resets != 0 || len(again.rows) != 1 {
		t.Errorf("resumed with %d resets, rows %v", again.resets, again.rows)
	}
	for name, resume := range map[string]map[string]any{
		"another instance":        {"instance": "x", "version": 1},
		"a version of the future": {"instance": r.instance, "version": 1 << 40},
	} {
		c := f.dial(nil)
		c.say(map[string]any{"type": "subscribe", "channels": []string{"fleet", "alerts"}, "resume": resume})
		c.until(name, func() bool { return len(c.versions) == 2 })
		if c.resets != 2 || len(c.rows) != 2 {
			t.Errorf("%s: %d resets, rows %v", name, c.resets, c.rows)
		}
	}
}

// A client that does not read while the fleet changes thousandfold loses steps, not the end, and is not cut off.
func TestSlowClientGetsTheLatest(t *testing.T) {
	f := setup(t, nil)
	for i := range 3000 {
		f.window(fmt.Sprint("machine-with-a-rather-long-name-", i), 0, 0)
	}
	narrow := &http.Transport{DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
		var d net.Dialer
		conn, err := d.DialContext(ctx, network, addr)
		if err == nil {
			err = conn.(*net.TCPConn).SetReadBuffer(32 << 10)
		}
		return conn, err
	}}
	t.Cleanup(narrow.CloseIdleConnections)
	r := f.dial(&websocket.DialOptions{HTTPClient: &http.Client{Transport: narrow}})
	r.subscribe("fleet")
	at := int64(0)
	change := func() {
		at += 5
		for i := range 3000 {
			f.window(fmt.Sprint("machine-with-a-rather-long-name-", i), at, 0)
		}
	}
	// stall makes changes until three ticks bring the client, the only one so far, nothing: its line is full. (On a busy machine it may
	// only be late; then the caller finds that nothing was left out, and tries again.)
	stall := func() {
		for {
			change()
			sent, from := f.srv.sent.Get(), f.srv.current().number
			for n := f.srv.current(); n.number < from+3; n = f.srv.current() {
				<-n.next
			}
			if f.srv.sent.Get() == sent {
				return
			}
		}
	}
	latest := func() bool { return r.versions["fleet"] == f.hub.Version() }
	for deadline := time.Now().Add(patience); r.behind == 0; {
		if time.Now().After(deadline) {
			t.Fatal("no tick was coalesced")
		}
		stall()
		r.until("the latest version", latest)
		summaries := r.summaries
		r.until("two summaries", func() bool { return r.summaries >= summaries+2 })
	}
	// And once more with a quick client beside it, which gets everything meanwhile.
	stall()
	quick := f.dial(nil)
	quick.subscribe("fleet")
	quick.until("the snapshot", func() bool { return len(quick.rows) == 3000 })
	for range 3 {
		change()
		quick.until("the change", func() bool { return quick.versions["fleet"] == f.hub.Version() })
	}
	r.until("the latest version", latest)
	for name, c := range map[string]*reader{"slow": r, "quick": quick} {
		if !equal(c.rows, f.want()) {
			t.Errorf("the %s client's end is not the hub's", name)
		}
	}
}

// What a client has not read does not pile up in buffers between: it would get it all, late.
func TestLittleIsUnderWay(t *testing.T) {
	f := setup(t, nil)
	change := func(at int64) {
		for i := range 2000 {
			f.window(fmt.Sprint("machine-with-a-rather-long-name-", i), at, 0)
		}
	}
	change(0)
	r := f.dial(nil)
	r.subscribe("fleet")
	r.until("the fleet", func() bool { return len(r.rows) == 2000 })
	from := f.srv.bytes.Get()
	set := 0 // bytes of a set of changes, at most
	for at := range int64(14) {
		change(at*5 + 5)
		before, n := f.srv.bytes.Get(), f.srv.current()
		<-n.next
		set = max(set, int(f.srv.bytes.Get()-before))
	}
	if sent := int(f.srv.bytes.Get() - from); sent > 2*window+3*set {
		t.Errorf("%d bytes are under way to a client that reads nothing; a set of changes has %d", sent, set)
	}
	r.until("the latest", func() bool { return r.versions["fleet"] == f.hub.Version() })
	if r.behind == 0 {
		summaries := r.summaries
		r.until("a summary", func() bool { return r.summaries > summaries+1 })
	}
	if r.behind == 0 {
		t.Error("no tick was coalesced")
	}
}

func TestBadRequestsAreAnswered(t *testing.T) {
	f := setup(t, nil)
	r := f.dial(nil)
	for _, bad := range []any{
		"text", 1,
		map[string]any{"type": "shout"},
		map[string]any{"type": "subscribe", "channels": []string{"everything"}},
		map[string]any{"type": "subscribe", "channels": []string{"machine:"}},
		map[string]any{"type": "subscribe", "channels": make([]string, 17)},
		map[string]any{"type": "subscribe", "channels": []string{"machine:" + strings.Repeat("x", 700)}},
	} {
		delete(r.last, "error")
		r.say(bad)
		r.until(fmt.Sprint("an error for ", bad), func() bool { return r.last["error"] != nil })
	}
	r.subscribe("fleet")
	r.until("service all the same", func() bool { return r.versions["fleet"] > 0 })
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for { // who goes on is cut off
		if err := r.conn.Write(ctx, websocket.MessageText, []byte("{")); err != nil {
			break
		}
	}
	if ctx.Err() != nil {
		t.Error("a client that sends nothing but nonsense was never cut off")
	}
}

func TestForeignPagesAreRefused(t *testing.T) {
	f := setup(t, func(c *Config) { c.AllowedOrigins = []string{"*.example.com"} })
	try := func(origin string) int {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		conn, resp, err := websocket.Dial(ctx, f.url, &websocket.DialOptions{HTTPHeader: http.Header{"Origin": {origin}}})
		if err == nil {
			conn.CloseNow()
		}
		return resp.StatusCode
	}
	for origin, want := range map[string]int{
		"https://evil.test": 403, "null": 403, "https://example.com.evil.test": 403, f.url: 101, "https://wall.example.com": 101,
	} {
		if got := try(origin); got != want {
			t.Errorf("origin %s: %d, want %d", origin, got, want)
		}
	}
}

func TestTooManyClients(t *testing.T) {
	f := setup(t, func(c *Config) { c.MaxClients = 1 })
	r := f.dial(nil)
	r.until("hello", func() bool { return r.instance != "" })
	resp, err := http.Get(f.url)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("%d %v", resp.StatusCode, resp.Header)
	}
	_ = r.conn.CloseNow()
	for deadline := time.Now().Add(patience); ; { // its place becomes free
		resp, err := http.Get(f.url)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode == http.StatusUpgradeRequired {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("still %d", resp.StatusCode)
		}
	}
}

// The end does not wait for clients that take nothing.
func TestEndIsQuick(t *testing.T) {
	f := setup(t, nil)
	for i := range 3000 {
		f.window(fmt.Sprint("m", i), 0, 0)
	}
	r := f.dial(nil)
	r.until("hello", func() bool { return r.instance != "" })
	asleep := f.dial(nil)
	asleep.subscribe("fleet")
	began := time.Now()
	f.stop()
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("the end took %s", took)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for {
		if _, _, err := r.conn.Read(ctx); err != nil {
			break
		}
	}
	if ctx.Err() != nil {
		t.Error("the client was not told")
	}
}
