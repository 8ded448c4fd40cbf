package realtimeapi

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/coder/websocket"

	"github.com/tocsin-io/tocsin/pkg/kafka/kafkatest"
)

// From the sign-in to the stream and to another service, over one cookie; and what is not let in.
func TestPeople(t *testing.T) {
	k := kafkatest.Start(t, 3)
	f := newFixture(t, k)
	f.windows(f.window("line-1-pump", 0, 3, nil, false))
	f.windows(f.window("line-2-pump", 0, 3, nil, false))
	asked := make(chan string, 1)
	router := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/health/ready" {
			w.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprint(w, `{"reason":"reading the journal"}`)
			return
		}
		asked <- r.Method + " " + r.URL.EscapedPath() + " " + r.Header.Get("Authorization")
		fmt.Fprint(w, `{}`)
	}))
	t.Cleanup(router.Close)
	const token = "adas-token-0123456789"
	r := start(t, k, func(c *Config) {
		c.Auth.People = []Person{{Name: "ada", Token: token, Equipment: []string{"line-1-*"}}}
		c.Backends.AlertRouter = router.URL
	})
	for _, path := range []string{
		"/v1/machines", "/v1/machines/line-1-pump", "/v1/stream", "/v1/health/pipeline", "/v1/router/alerts", "/v1/history/tables", "/v1/models", "/v1/tuning/settings", "/v1/nothing", "/v1/coverage",
		"/v1/equipment/line-1-pump/coverage", "/v1/places", "/v1/summary", "/v1/alerts", "/v1/anomalies", "/v1/machines/line-1-pump/windows",
	} {
		if status, body := r.get(path); status != http.StatusUnauthorized {
			t.Errorf("GET %s of a stranger: %d %v", path, status, body)
		}
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	client := &http.Client{Jar: jar}
	t.Cleanup(client.CloseIdleConnections)
	do := func(method, path, body string) (int, string) {
		t.Helper()
		req, err := http.NewRequest(method, r.url+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b)
	}
	if status, body := do(http.MethodPost, "/v1/session", `{"token":"`+token+`"}`); status != http.StatusCreated || !strings.Contains(body, `"name":"ada"`) || !strings.Contains(body, `"router":true`) || !strings.Contains(body, `"history":false`) {
		t.Fatalf("sign in: %d %s", status, body)
	}
	for path, want := range map[string]int{"/v1/machines/line-1-pump": 200, "/v1/machines/line-2-pump": 404, "/v1/history/tables": 404, "/v1/nothing": 404} {
		if status, body := do(http.MethodGet, path, ""); status != want {
			t.Errorf("GET %s: %d %s", path, status, body)
		}
	}
	if status, _ := do(http.MethodPost, "/v1/router/alerts/line-1-pump%2Flimit%2F7/acknowledge", `{}`); status != http.StatusOK {
		t.Errorf("acknowledge: %d", status)
	}
	if got := <-asked; got != "POST /v1/alerts/line-1-pump%2Flimit%2F7/acknowledge Bearer "+token {
		t.Errorf("the router was asked %q", got)
	}
	_, body := do(http.MethodGet, "/v1/health/pipeline", "")
	var h struct {
		Services []struct {
			Service, Reason string
			Ready           bool
		}
		Hops []struct{ Hop string }
	}
	if err := json.Unmarshal([]byte(body), &h); err != nil || len(h.Hops) != 6 || len(h.Services) != 2 || !h.Services[0].Ready || h.Services[1].Ready || h.Services[1].Reason != "reading the journal" {
		t.Errorf("%v %s", err, body)
	}

	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	if _, resp, err := websocket.Dial(ctx, r.url+"/v1/stream", &websocket.DialOptions{HTTPClient: client, HTTPHeader: http.Header{"Origin": {"http://127.0.0.1:1"}}}); err == nil || resp.StatusCode != http.StatusForbidden {
		t.Errorf("another page's stream: %v", err)
	}
	conn, _, err := websocket.Dial(ctx, r.url+"/v1/stream", &websocket.DialOptions{HTTPClient: client})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.CloseNow()
	if err := conn.Write(ctx, websocket.MessageText, []byte(`{"type":"subscribe","channels":["fleet"]}`)); err != nil {
		t.Fatal(err)
	}
	for seen := ""; !strings.Contains(seen, `"type":"fleet"`); {
		_, data, err := conn.Read(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if seen = string(data); strings.Contains(seen, "line-2") {
			t.Errorf("another's machine: %s", seen)
		}
	}
	if status, _ := do(http.MethodDelete, "/v1/session", ""); status != http.StatusNoContent {
		t.Errorf("sign out: %d", status)
	}
	for err == nil {
		_, _, err = conn.Read(ctx)
	}
	if websocket.CloseStatus(err) != 4401 {
		t.Errorf("the stream after the session's end: %v", err)
	}
	at, err := url.Parse(r.url)
	if err != nil || len(jar.Cookies(at)) != 0 {
		t.Errorf("cookies are left: %v %v", jar.Cookies(at), err)
	}
}
