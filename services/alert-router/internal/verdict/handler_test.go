package verdict

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type book struct {
	mu   sync.Mutex
	made map[string]Decision
	list []Decision
	err  error
	text string
}

func (b *book) Describe(context.Context, Action, string) (string, error) {
	if errors.Is(b.err, ErrUnknown) {
		return "", b.err
	}
	return b.text, nil
}

func (b *book) Decide(_ context.Context, d Decision) (Outcome, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return Outcome{}, b.err
	}
	if first, ok := b.made[d.ID]; ok {
		return Outcome{Repeated: true, At: first.At}, nil
	}
	b.made[d.ID] = d
	b.list = append(b.list, d)
	return Outcome{At: d.At}, nil
}

type fixture struct {
	*book
	h    *Handler
	logs *observer.ObservedLogs
	at   time.Time
}

func newFixture(t *testing.T) *fixture {
	core, logs := observer.New(zap.DebugLevel)
	f := &fixture{book: &book{made: make(map[string]Decision), text: "press-07: bearing_temp 92.4 °C, expected 61 to 68.5 °C"}, logs: logs, at: now}
	f.h = &Handler{Keys: ring(t, key("a")), Book: f.book, Now: func() time.Time { return f.at }, Log: zap.New(core)}
	return f
}

func (f *fixture) token(t *testing.T, a Action) string {
	c := claims()
	c.Action = a
	token, err := f.h.Keys.Sign(c)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func (f *fixture) do(method, token string, form url.Values, header ...string) (*http.Response, string) {
	req := httptest.NewRequest(method, "https://tocsin.example.com"+Path+token, strings.NewReader(form.Encode()))
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	rec := httptest.NewRecorder()
	f.h.ServeHTTP(rec, req)
	resp := rec.Result()
	body, _ := io.ReadAll(resp.Body)
	return resp, string(body)
}

// Mail scanners and previews follow every link, several times: nothing is recorded by it.
func TestFollowingALinkChangesNothing(t *testing.T) {
	f := newFixture(t)
	for a := Real; a <= Shelve; a++ {
		for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodGet, http.MethodOptions, http.MethodPut, http.MethodDelete} {
			resp, body := f.do(method, f.token(t, a), nil)
			if method == http.MethodGet && (resp.StatusCode != http.StatusOK || !strings.Contains(body, "press-07") || !strings.Contains(body, `<form method="post">`)) {
				t.Errorf("%s %s: %d %s", method, a, resp.StatusCode, body)
			}
			if method != http.MethodGet && method != http.MethodHead && resp.StatusCode != http.StatusMethodNotAllowed {
				t.Errorf("%s %s: %d", method, a, resp.StatusCode)
			}
			if method == http.MethodHead && body != "" {
				t.Errorf("HEAD has a body")
			}
		}
	}
	if len(f.list) != 0 {
		t.Errorf("recorded %+v", f.list)
	}
}

func TestPressingTheButtonIsRecordedOnce(t *testing.T) {
	f := newFixture(t)
	token := f.token(t, False)
	resp, body := f.do(http.MethodPost, token, url.Values{"note": {"checked on site\r\nall fine"}})
	if resp.StatusCode != http.StatusOK || !strings.Contains(body, "Recorded: false alarm") {
		t.Fatalf("%d %s", resp.StatusCode, body)
	}
	f.at = f.at.Add(time.Hour)
	for range 3 {
		if resp, body = f.do(http.MethodPost, token, nil); resp.StatusCode != http.StatusOK || !strings.Contains(body, "nothing has changed") {
			t.Fatalf("%d %s", resp.StatusCode, body)
		}
	}
	if len(f.list) != 1 {
		t.Fatalf("recorded %d times", len(f.list))
	}
	if d := f.list[0]; d.Action != False || d.By != "anna@example.com" || d.Subject != claims().Subject || !d.At.Equal(now) || d.Note != "checked on site all fine" {
		t.Errorf("%+v", d)
	}
}

func TestShelveForAPeriodThatIsOffered(t *testing.T) {
	for form, want := range map[string]time.Duration{"8h": 8 * time.Hour, "24h": 24 * time.Hour, "9999h": time.Hour, "": time.Hour} {
		f := newFixture(t)
		if _, body := f.do(http.MethodPost, f.token(t, Shelve), url.Values{"for": {form}}); !strings.Contains(body, "Shelved") {
			t.Error(body)
		}
		if f.list[0].For != want {
			t.Errorf("%q: %s", form, f.list[0].For)
		}
	}
}

// A short message has room for one link: whoever has acknowledged can go on to say what it was.
func TestAcknowledgingOffersTheVerdicts(t *testing.T) {
	f := newFixture(t)
	_, body := f.do(http.MethodPost, f.token(t, Acknowledge), nil)
	for _, a := range []Action{Real, False, Known, Sensor} {
		if !strings.Contains(body, `href="`+f.token(t, a)+`"`) {
			t.Errorf("no link for %s in %s", a, body)
		}
	}
}

func TestAnswers(t *testing.T) {
	f := newFixture(t)
	token := f.token(t, Real)
	if resp, _ := f.do(http.MethodPost, token+"x", nil); resp.StatusCode != http.StatusNotFound {
		t.Errorf("forged: %d", resp.StatusCode)
	}
	f.at = claims().Expires
	if resp, _ := f.do(http.MethodPost, token, nil); resp.StatusCode != http.StatusGone {
		t.Errorf("expired: %d", resp.StatusCode)
	}
	f.at = now
	f.err = ErrUnknown
	for _, m := range []string{http.MethodGet, http.MethodPost} {
		if resp, _ := f.do(m, token, nil); resp.StatusCode != http.StatusNotFound {
			t.Errorf("unknown alert: %d", resp.StatusCode)
		}
	}
	f.err = errors.New("database is away")
	if resp, _ := f.do(http.MethodPost, token, nil); resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("no journal: %d", resp.StatusCode)
	}
	f.err = nil
	if resp, _ := f.do(http.MethodPost, token, url.Values{"note": {strings.Repeat("x", maxForm)}}); resp.StatusCode != http.StatusBadRequest {
		t.Errorf("large form: %d", resp.StatusCode)
	}
	if len(f.list) != 0 {
		t.Errorf("recorded %+v", f.list)
	}
	resp, body := f.do(http.MethodPost, token, nil, "Accept", "application/json")
	if resp.StatusCode != http.StatusOK || !strings.Contains(body, `"recorded":true`) {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
}

func TestHeaders(t *testing.T) {
	f := newFixture(t)
	resp, _ := f.do(http.MethodGet, f.token(t, Real), nil)
	for name, want := range map[string]string{
		"Cache-Control": "no-store", "Referrer-Policy": "no-referrer", "X-Content-Type-Options": "nosniff", "X-Robots-Tag": "noindex, nofollow",
		"Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
	} {
		if got := resp.Header.Get(name); got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// What a page shows may have been chosen by an attacker; and a log must not give the authority of a link to whoever reads it.
func TestPageAndLogHoldNothingHarmful(t *testing.T) {
	f := newFixture(t)
	f.text = "<script>alert(1)</script>\u202egnp.exe\r\nSet-Cookie: a=b"
	token := f.token(t, Acknowledge)
	for _, m := range []string{http.MethodGet, http.MethodPost} {
		resp, body := f.do(m, token, nil)
		if strings.Contains(body, "<script") || strings.Contains(body, "\u202e") || resp.Header.Get("Set-Cookie") != "" {
			t.Errorf("%s: %s", m, body)
		}
	}
	f.err = errors.New("away")
	f.do(http.MethodPost, token, nil)
	for _, e := range f.logs.All() {
		for _, field := range e.Context {
			if strings.Contains(field.String, token) {
				t.Errorf("the log holds the link: %s", e.Message)
			}
		}
	}
}
