package forward

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.yaml.in/yaml/v3"
	"pgregory.net/rapid"

	"github.com/tocsin-io/tocsin/pkg/auth"
	"github.com/tocsin-io/tocsin/pkg/network"

	"github.com/tocsin-io/tocsin/services/realtime-api/internal/gate"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// setup serves the whole table with answers of a made-up service.
func setup(t testing.TB, bases map[Service]string, who *gate.Identity) string {
	t.Helper()
	f := New(bases, nil, network.OS{}, zap.NewNop(), metrics.NewSet())
	mux := http.NewServeMux()
	for _, rt := range Table() {
		h := f.Handler(rt)
		mux.HandleFunc(rt.Method+" "+rt.Path, func(w http.ResponseWriter, r *http.Request) { h(w, r, who) })
	}
	web := httptest.NewServer(mux)
	t.Cleanup(func() { web.Close(); f.Close(); http.DefaultClient.CloseIdleConnections() })
	return web.URL
}

func backend(t testing.TB, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return s.URL
}

var (
	anybody = &gate.Identity{Machines: auth.Every()}
	ada     = &gate.Identity{Name: "ada", Machines: auth.Every(), Authorization: "Bearer adas-own-token-16"}
)

func ask(t testing.TB, method, url, body string, header map[string]string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range header {
		r.Header.Set(k, v)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(b)
}

func TestEachRouteIsTaken(t *testing.T) {
	var got *http.Request
	var sent string
	base := backend(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got, sent = r, string(b)
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("X-Rows", "7")
		w.Header().Set("Set-Cookie", "tocsin_session=stolen")
		w.Header().Set("Connection", "X-Secret")
		w.Header().Set("X-Secret", "s")
		w.Header().Set("Access-Control-Allow-Origin", "*")
		fmt.Fprint(w, `{"there":true}`)
	})
	url := setup(t, map[Service]string{Router: base, History: base + "/", Models: base, Tuning: base, Detection: base}, ada)
	for _, rt := range Table() {
		path, there := rt.Path, rt.There
		for _, n := range []string{"{id}", "{name}"} {
			path, there = strings.ReplaceAll(path, n, "m-1%2Flimit%2F7%20%3F"), strings.ReplaceAll(there, n, "m-1%2Flimit%2F7%20%3F")
		}
		body := ""
		if rt.Method == http.MethodPost || rt.Method == http.MethodPut {
			body = `{"comment":"x"}`
		}
		resp, answer := ask(t, rt.Method, url+path+"?b=2&a=%26", body, map[string]string{
			"Content-Type": "application/json", "Idempotency-Key": "k", "Cookie": "tocsin_session=c", "X-Forwarded-For": "1.2.3.4", "Authorization": "Bearer somebody-else", "Connection": "Idempotency-Key",
		})
		if resp.StatusCode != http.StatusOK || answer != `{"there":true}` || resp.Header.Get("X-Rows") != "7" {
			t.Fatalf("%s %s: %d %s", rt.Method, rt.Path, resp.StatusCode, answer)
		}
		if got.Method != rt.Method || got.URL.EscapedPath() != there || got.URL.RawQuery != "a=%26&b=2" || sent != body {
			t.Errorf("%s %s came as %s %s ? %s, %q", rt.Method, rt.Path, got.Method, got.URL.EscapedPath(), got.URL.RawQuery, sent)
		}
		for name, want := range map[string]string{"Authorization": ada.Authorization, "Cookie": "", "X-Forwarded-For": "", "Connection": ""} {
			if got.Header.Get(name) != want {
				t.Errorf("%s: %s is %q there", rt.Path, name, got.Header.Get(name))
			}
		}
		for _, name := range []string{"Set-Cookie", "X-Secret", "Access-Control-Allow-Origin"} {
			if resp.Header.Get(name) != "" {
				t.Errorf("%s: the answer has %s", rt.Path, name)
			}
		}
		if resp.Header.Get("Cache-Control") != "no-store" || resp.Header.Get("X-Content-Type-Options") != "nosniff" || !strings.Contains(resp.Header.Get("Content-Security-Policy"), "sandbox") {
			t.Errorf("%s: %v", rt.Path, resp.Header)
		}
	}
	if url := setup(t, map[Service]string{Router: base}, anybody); url != "" {
		ask(t, "GET", url+"/v1/router/alerts", "", map[string]string{"Authorization": "Bearer somebody-else"})
		if got.Header.Get("Authorization") != "" {
			t.Error("anybody's request has credentials there")
		}
	}
}

// Whatever a path holds, what is asked for there is one of the table with one more segment, on the host of the configuration.
func TestNoPathLeavesTheTable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rt := rapid.SampledFrom(Table()).Draw(t, "route")
		v := rapid.OneOf(rapid.String(), rapid.SampledFrom([]string{
			"..", ".", "%2e%2e", "../../admin", "//evil.example/", "@evil.example", "a/../../b", "\\..\\", "?x=1", "#", "a\r\nHost: evil", ";a", "%00", "http://evil.example",
		})).Draw(t, "value")
		r := httptest.NewRequest(rt.Method, "http://ours.example/", nil)
		r.SetPathValue("id", v)
		r.SetPathValue("name", v)
		got, err := rt.target("http://backend.example:8083", r)
		if err != nil {
			return
		}
		req, err := http.NewRequest(rt.Method, got, nil)
		if err != nil {
			t.Fatalf("%q: %v", got, err)
		}
		want, have := strings.Split(rt.There, "/"), strings.Split(req.URL.EscapedPath(), "/")
		if req.URL.Host != "backend.example:8083" || req.URL.RawQuery != "" || req.URL.Fragment != "" || len(have) != len(want) {
			t.Fatalf("%q asks for %q", v, got)
		}
		for i := range want {
			if !strings.HasPrefix(want[i], "{") && want[i] != have[i] || have[i] == ".." || have[i] == "." {
				t.Fatalf("%q asks for %q", v, got)
			}
		}
	})
}

func TestOnlyTheTable(t *testing.T) {
	base := backend(t, func(w http.ResponseWriter, r *http.Request) { t.Errorf("%s %s came through", r.Method, r.URL) })
	url := setup(t, map[Service]string{Router: base, History: base, Models: base}, ada)
	for _, x := range []string{
		"GET /v1/router", "GET /v1/router/", "GET /v1/router/metrics", "GET /v1/router/../metrics", "GET /v1/router/alerts/%2e%2e", "GET /v1/router/alerts/%2e%2e/transitions", "GET /v1/router/alerts//transitions",
		"DELETE /v1/router/alerts", "POST /v1/router/alerts/a/destroy", "GET /v1/history/../../status/config", "GET /v1/history/status/config", "PUT /v1/history/sql", "DELETE /v1/models/a",
		"POST /v1/models/a/score", "GET /v1/router//evil.example/", "GET /v1/router/http://evil.example/",
	} {
		method, path, _ := strings.Cut(x, " ")
		r, err := http.NewRequest(method, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.URL.Opaque = strings.TrimPrefix(url, "http:") + path // as it is, not cleaned
		resp, err := (&http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}).Do(r)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode < 300 {
			t.Errorf("%s: %d", x, resp.StatusCode)
		}
	}
}

func TestErrors(t *testing.T) {
	gone, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	away := "http://" + gone.Addr().String()
	gone.Close()
	says := backend(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Query().Get("do") {
		case "401":
			w.Header().Set("WWW-Authenticate", "Bearer")
			w.WriteHeader(http.StatusUnauthorized)
		case "302":
			http.Redirect(w, r, "http://127.0.0.1:1/", http.StatusFound)
		case "404":
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, `{"status":404}`)
		case "hang-up":
			c, _, _ := http.NewResponseController(w).Hijack()
			c.Close()
		}
	})
	url := setup(t, map[Service]string{Router: says, History: away}, ada)
	for path, want := range map[string]int{
		"/v1/router/figures?do=401": 403, "/v1/router/figures?do=302": 502, "/v1/router/figures?do=404": 404, "/v1/router/figures?do=hang-up": 502,
		"/v1/history/tables": 502, "/v1/models": 404, "/v1/router/figures?a=%zz": 400, "/v1/router/figures?" + strings.Repeat("a", maxQuery+1): 400,
		"/v1/router/alerts/" + strings.Repeat("a", maxSegment+1): 400, "/v1/router/alerts/%00": 400,
	} {
		resp, body := ask(t, "GET", url+path, "", nil)
		if resp.StatusCode != want || resp.Header.Get("Content-Type") != "application/problem+json" || !strings.Contains(body, fmt.Sprint(want)) || resp.Header.Get("Location") != "" || resp.Header.Get("WWW-Authenticate") != "" {
			t.Errorf("%.60s: %d %s", path, resp.StatusCode, body)
		}
		if strings.Contains(body, "127.0.0.1") {
			t.Errorf("%.60s tells where the service is: %s", path, body)
		}
	}
	for _, declared := range []bool{true, false} {
		r, err := http.NewRequest(http.MethodPost, url+"/v1/router/routes/test", io.LimitReader(zeros{}, maxRequest+1))
		if err != nil {
			t.Fatal(err)
		}
		if declared {
			r.ContentLength = maxRequest + 1
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			continue // cut off while it was still sending
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusRequestEntityTooLarge {
			t.Errorf("a body too large, declared %v: %d", declared, resp.StatusCode)
		}
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

// A service that has taken all places keeps nobody waiting; when they are free again it is asked again.
func TestBusy(t *testing.T) {
	enter, leave := make(chan struct{}, MaxAtOnce), make(chan struct{})
	base := backend(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/oncall" {
			enter <- struct{}{}
			<-leave
		}
	})
	url := setup(t, map[Service]string{Router: base}, ada)
	done := make(chan int, MaxAtOnce)
	for range MaxAtOnce {
		go func() {
			resp, err := http.Get(url + "/v1/router/oncall")
			if err != nil {
				done <- 0
				return
			}
			resp.Body.Close()
			done <- resp.StatusCode
		}()
	}
	for range MaxAtOnce {
		select {
		case <-enter:
		case <-time.After(time.Minute):
			t.Fatal("not all came through")
		}
	}
	if resp, _ := ask(t, "GET", url+"/v1/router/figures", "", nil); resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("one more: %d", resp.StatusCode)
	}
	close(leave)
	for range MaxAtOnce {
		if s := <-done; s != 200 {
			t.Errorf("one of those: %d", s)
		}
	}
	if resp, _ := ask(t, "GET", url+"/v1/router/figures", "", nil); resp.StatusCode != http.StatusOK {
		t.Errorf("afterwards: %d", resp.StatusCode)
	}
}

// An answer that is too large or breaks off must not look whole.
func TestCutAnswer(t *testing.T) {
	base := backend(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if r.URL.Path == "/v1/figures" {
			chunk := make([]byte, 1<<20)
			for range maxAnswer>>20 + 1 {
				if _, err := w.Write(chunk); err != nil {
					return
				}
			}
			return
		}
		_, _ = w.Write([]byte(`{"half":`))
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	url := setup(t, map[Service]string{Router: base}, ada)
	for _, path := range []string{"/v1/router/figures", "/v1/router/oncall"} {
		resp, err := http.Get(url + path)
		if err != nil {
			continue // cut before its head
		}
		if _, err := io.Copy(io.Discard, resp.Body); err == nil && resp.StatusCode == http.StatusOK {
			t.Errorf("%s looks whole", path)
		}
		resp.Body.Close()
	}
}

func TestCheckBase(t *testing.T) {
	for s, fine := range map[string]bool{
		"": true, "http://h:1": true, "https://h.example/path": true,
		"h:1": false, "ftp://h": false, "http://": false, "http://u:p@h": false, "http://h?x=1": false, "http://h#f": false, "file:///etc/passwd": false, "http://[": false,
	} {
		if err := CheckBase(s); (err == nil) != fine {
			t.Errorf("%q: %v", s, err)
		}
	}
}

// What the table asks for is there, says each service's own contract.
func TestTableIsWhatServicesHave(t *testing.T) {
	for s, file := range map[Service]string{
		Router: "../../../alert-router/internal/alertapi/openapi.yaml", History: "../../../historical-api/internal/api/openapi.yaml",
		Tuning: "../../../all-in-one/internal/tuning/openapi.yaml", Detection: "../../../stream-processor/internal/revise/openapi.yaml",
	} {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var doc struct {
			Paths map[string]map[string]yaml.Node
		}
		if err := yaml.Unmarshal(b, &doc); err != nil {
			t.Fatal(err)
		}
		for _, rt := range Table() {
			if rt.To != s {
				continue
			}
			if _, ok := doc.Paths[rt.There][strings.ToLower(rt.Method)]; !ok {
				t.Errorf("%s has no %s %s", s, rt.Method, rt.There)
			}
		}
	}
}
