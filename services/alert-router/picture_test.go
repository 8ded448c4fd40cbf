package alertrouter

import (
	"net/http"
	"net/http/httptest"
	"testing"
)

// Where the realtime-api lists people, the router is one of them: without its token a page would silently go without its picture.
func TestPictureFromARealtimeAPIWithPeople(t *testing.T) {
	const token = "0123456789abcdef0123456789abcdef"
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer "+token {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		_, _ = w.Write([]byte(`{"windows": [{"end_us": 5000000, "sensors": [{"sensor": "flow", "mean": 2.5}]}]}`))
	}))
	defer srv.Close()
	for given, want := range map[string]int{token: 1, "": 0, token + "x": 0} {
		p := &pager{cfg: Config{LiveURL: srv.URL, LiveToken: given}, live: srv.Client()}
		if got := p.series(t.Context(), "m-1", "flow"); len(got) != want {
			t.Errorf("with token %q the page has %d points, want %d", given, len(got), want)
		}
	}
}
