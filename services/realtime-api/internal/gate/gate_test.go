package gate

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	ada = "0123456789abcdef"
	bo  = "fedcba9876543210"
)

func people() []Person {
	return []Person{{"ada", ada, []string{"*"}}, {"bo", bo, []string{"line-b-*"}}}
}

type world struct {
	t    *testing.T
	gate *Gate
	mux  *http.ServeMux
}

func open(t *testing.T, cfg Config) *world {
	t.Helper()
	if cfg.Lifetime == 0 {
		cfg.Lifetime = time.Hour
	}
	g, err := New(cfg, metrics.NewSet())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Close)
	about := About{Features: map[string]bool{"router": true}, Build: "b", Version: "v", Instance: "i"}
	mux := http.NewServeMux()
	mux.Handle("GET /v1/session", g.Show(about))
	mux.Handle("POST /v1/session", g.Begin(about))
	mux.Handle("DELETE /v1/session", g.End())
	mux.Handle("/thing", g.Guard(func(w http.ResponseWriter, _ *http.Request, who *Identity) {
		fmt.Fprintf(w, "%s|%s|%v", who.Name, who.Authorization, who.Machines.All())
	}))
	return &world{t, g, mux}
}

func (w *world) do(method, path, body string, change func(*http.Request)) *httptest.ResponseRecorder {
	w.t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Host = "127.0.0.1:8080"
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	if change != nil {
		change(r)
	}
	rec := httptest.NewRecorder()
	w.mux.ServeHTTP(rec, r)
	return rec
}

func (w *world) signIn(token string) *http.Cookie {
	w.t.Helper()
	rec := w.do("POST", "/v1/session", fmt.Sprintf(`{"token":%q}`, token), nil)
	if rec.Code != http.StatusCreated || len(rec.Result().Cookies()) != 1 {
		w.t.Fatalf("sign in: %d %s", rec.Code, rec.Body)
	}
	return rec.Result().Cookies()[0]
}

func with(c *http.Cookie) func(*http.Request) { return func(r *http.Request) { r.AddCookie(c) } }

func bearer(token string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token) }
}

func TestSession(t *testing.T) {
	w := open(t, Config{People: people()})
	if rec := w.do("GET", "/thing", "", nil); rec.Code != 401 || rec.Header().Get("WWW-Authenticate") == "" {
		t.Errorf("a stranger: %d", rec.Code)
	}
	var v view
	rec := w.do("GET", "/v1/session", "", nil)
	if err := json.Unmarshal(rec.Body.Bytes(), &v); err != nil || rec.Code != 200 || v.Authenticated || !v.Login || v.Version != "" || v.Build != "b" || len(v.Features) != 0 {
		t.Errorf("a stranger's session: %d %s", rec.Code, rec.Body)
	}
	c := w.signIn(bo)
	if !c.HttpOnly || c.SameSite != http.SameSiteStrictMode || c.Secure || c.Path != "/" || len(c.Value) < 43 || strings.Contains(c.Value, bo) {
		t.Errorf("cookie: %+v", c)
	}
	if rec := w.do("GET", "/thing", "", with(c)); rec.Code != 200 || rec.Body.String() != "bo|Bearer "+bo+"|false" {
		t.Errorf("bo: %d %s", rec.Code, rec.Body)
	}
	rec = w.do("GET", "/v1/session", "", with(c))
	v = view{}
	if err := json.Unmarshal(rec.Body.Bytes(), &v); err != nil || !v.Authenticated || v.Anonymous || v.Name != "bo" || v.AllMachines || len(v.Equipment) != 1 || v.ExpiresAtMS == 0 || v.Version != "v" {
		t.Errorf("bo's session: %s", rec.Body)
	}
	// Another's credentials beside the cookie count, and wrong ones are nobody's.
	if rec := w.do("GET", "/thing", "", func(r *http.Request) { r.AddCookie(c); bearer(ada)(r) }); !strings.HasPrefix(rec.Body.String(), "ada|") {
		t.Errorf("ada: %s", rec.Body)
	}
	if rec := w.do("GET", "/thing", "", func(r *http.Request) { r.AddCookie(c); bearer(ada + "x")(r) }); rec.Code != 401 {
		t.Errorf("wrong token beside a cookie: %d", rec.Code)
	}
	who := w.gate.bySession(func() *http.Request { r := httptest.NewRequest(http.MethodGet, "/", nil); r.AddCookie(c); return r }())
	if rec := w.do("DELETE", "/v1/session", "", with(c)); rec.Code != 204 || rec.Result().Cookies()[0].MaxAge != -1 {
		t.Errorf("sign out: %d", rec.Code)
	}
	select {
	case <-who.Ends:
	default:
		t.Error("the session's end is not told")
	}
	if rec := w.do("GET", "/thing", "", with(c)); rec.Code != 401 {
		t.Errorf("after the end: %d", rec.Code)
	}
	if rec := w.do("DELETE", "/v1/session", "", nil); rec.Code != 204 {
		t.Errorf("nobody signs out: %d", rec.Code)
	}
}

func TestSignInRefuses(t *testing.T) {
	w := open(t, Config{People: people()})
	for body, want := range map[string]int{
		`{"token":"nobody's-token-at-all"}`: 401, `{"token":""}`: 400, `{}`: 400, `[`: 400, `{"token":7}`: 400,
		`{"token":"` + strings.Repeat("a", 9000) + `"}`: 413,
	} {
		if rec := w.do("POST", "/v1/session", body, nil); rec.Code != want || len(rec.Result().Cookies()) != 0 {
			t.Errorf("%.40s: %d %s", body, rec.Code, rec.Body)
		}
	}
	if rec := w.do("POST", "/v1/session", `{"token":"`+ada+`"}`, func(r *http.Request) { r.Header.Set("Content-Type", "text/plain") }); rec.Code != 415 {
		t.Errorf("a form: %d", rec.Code)
	}
}

// A browser that says that another page asks is refused whatever changes anything; programs say nothing of the kind.
func TestOtherPages(t *testing.T) {
	w := open(t, Config{People: people()})
	c := w.signIn(ada)
	for _, x := range []struct {
		method string
		header map[string]string
		want   int
	}{
		{"POST", nil, 200},
		{"POST", map[string]string{"Origin": "http://127.0.0.1:8080"}, 200},
		{"POST", map[string]string{"Sec-Fetch-Site": "same-origin", "Origin": "http://127.0.0.1:8080"}, 200},
		{"POST", map[string]string{"Origin": "http://127.0.0.1:9999"}, 403}, // the same site, another origin
		{"POST", map[string]string{"Origin": "null"}, 403},
		{"POST", map[string]string{"Origin": "https://evil.example"}, 403},
		{"POST", map[string]string{"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:8080"}, 403},
		{"DELETE", map[string]string{"Sec-Fetch-Site": "cross-site"}, 403},
		{"PUT", map[string]string{"Origin": "https://evil.example"}, 403},
		{"GET", map[string]string{"Origin": "https://evil.example"}, 200}, // reads nothing there: no CORS header is given
	} {
		rec := w.do(x.method, "/thing", "", func(r *http.Request) {
			r.AddCookie(c)
			for k, v := range x.header {
				r.Header.Set(k, v)
			}
		})
		if rec.Code != x.want || rec.Header().Get("Access-Control-Allow-Origin") != "" {
			t.Errorf("%s %v: %d", x.method, x.header, rec.Code)
		}
	}
	if rec := w.do("POST", "/v1/session", `{"token":"`+ada+`"}`, func(r *http.Request) { r.Header.Set("Origin", "https://evil.example") }); rec.Code != 403 {
		t.Errorf("signing in from another page: %d", rec.Code)
	}
}

// Without credentials a loopback listener serves this machine's names only: a name elsewhere can be made to mean our address.
func TestRebinding(t *testing.T) {
	w := open(t, Config{Anybody: true, Here: true})
	for host, want := range map[string]int{
		"127.0.0.1:8080": 200, "localhost:8080": 200, "LOCALHOST": 200, "[::1]:8080": 200, "::1": 200, "127.9.9.9": 200,
		"evil.example:8080": 421, "127.0.0.1.evil.example": 421, "10.0.0.1:8080": 421, "": 421,
	} {
		for _, path := range []string{"/thing", "/v1/session"} {
			if rec := w.do("GET", path, "", func(r *http.Request) { r.Host = host }); rec.Code != want {
				t.Errorf("%s of host %q: %d, want %d", path, host, rec.Code, want)
			}
		}
	}
	if rec := open(t, Config{Anybody: true}).do("GET", "/thing", "", func(r *http.Request) { r.Host = "tocsin.example" }); rec.Code != 200 || rec.Body.String() != "||true" {
		t.Errorf("anybody anywhere: %d %s", rec.Code, rec.Body)
	}
}

func TestCookieUnderTLS(t *testing.T) {
	w := open(t, Config{People: people(), Secure: true})
	c := w.signIn(ada)
	if !c.Secure || !strings.HasPrefix(c.Name, "__Host-") {
		t.Errorf("cookie: %+v", c)
	}
	if rec := w.do("GET", "/thing", "", with(&http.Cookie{Name: cookieName, Value: c.Value})); rec.Code != 401 {
		t.Errorf("under the name that anybody can set: %d", rec.Code)
	}
}

func TestLifetimeAndNumber(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, Config{People: people(), Lifetime: time.Minute})
		first := w.signIn(ada)
		<-time.After(time.Second) // of the bubble's clock
		for range maxOwn {
			w.signIn(ada)
		}
		if rec := w.do("GET", "/thing", "", with(first)); rec.Code != 401 {
			t.Errorf("%d sessions of one person", maxOwn+1)
		}
		last := w.signIn(bo)
		if rec := w.do("GET", "/thing", "", with(last)); rec.Code != 200 {
			t.Errorf("another's: %d", rec.Code)
		}
		<-time.After(time.Minute) // of the bubble's clock
		synctest.Wait()
		if rec := w.do("GET", "/thing", "", with(last)); rec.Code != 401 {
			t.Errorf("after its life: %d", rec.Code)
		}
		w.gate.mu.Lock()
		defer w.gate.mu.Unlock()
		if len(w.gate.sessions) != 0 {
			t.Errorf("%d sessions are kept", len(w.gate.sessions))
		}
	})
}

func TestGuessing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := open(t, Config{People: people()})
		from := func(addr string) func(*http.Request) { return func(r *http.Request) { r.RemoteAddr = addr } }
		wrong, right := `{"token":"wrong-wrong-wrong"}`, `{"token":"`+ada+`"}`
		for i := range guessBurst {
			if rec := w.do("POST", "/v1/session", wrong, from(fmt.Sprintf("10.0.0.1:%d", i))); rec.Code != 401 {
				t.Fatalf("guess %d: %d", i, rec.Code)
			}
		}
		// Even the right token is not looked at now: that would tell a guesser.
		if rec := w.do("POST", "/v1/session", right, from("10.0.0.1:9")); rec.Code != 429 || rec.Header().Get("Retry-After") != "6" {
			t.Errorf("%d, Retry-After %q", rec.Code, rec.Header().Get("Retry-After"))
		}
		if rec := w.do("POST", "/v1/session", right, from("10.0.0.2:9")); rec.Code != 201 {
			t.Errorf("from elsewhere: %d", rec.Code)
		}
		<-time.After(guessEvery) // of the bubble's clock
		if rec := w.do("POST", "/v1/session", right, from("10.0.0.1:9")); rec.Code != 201 {
			t.Errorf("after a while: %d", rec.Code)
		}
		for i := range maxGuessers + 100 {
			w.gate.guessed(address(fmt.Sprintf("[2001:db8:%x::1]:1", i)))
		}
		w.gate.mu.Lock()
		defer w.gate.mu.Unlock()
		if n := len(w.gate.guesses.by); n > maxGuessers {
			t.Errorf("%d addresses remembered", n)
		}
	})
	if address("[2001:db8::1]:7") != address("[2001:db8::ffff:1]:7") || address("[::ffff:10.0.0.1]:7") != "10.0.0.1" || address("nonsense") != unknownPlaces {
		t.Error("addresses")
	}
}

func TestNewNamesTheField(t *testing.T) {
	for want, p := range map[string][]Person{
		"people[0].name":      {{"", ada, []string{"*"}}},
		"people[0].token":     {{"ada", "short", []string{"*"}}},
		"people[0].equipment": {{"ada", ada, nil}},
		"people[1].token":     {{"ada", ada, []string{"*"}}, {"bo", ada, []string{"*"}}},
	} {
		if _, err := New(Config{People: p}, metrics.NewSet()); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
