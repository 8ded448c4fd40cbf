package access_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/tocsin-io/tocsin/services/model-trainer/internal/access"
)

const (
	reader = "0123456789abcdef"
	master = "fedcba9876543210"
)

func clients() []access.Client {
	return []access.Client{{Name: "dashboard", Token: reader, Rights: "score"}, {Name: "analyst", Token: master, Rights: "train"}}
}

func TestGuard(t *testing.T) {
	for _, anonymous := range []bool{false, true} {
		k, err := access.New(clients(), anonymous)
		if err != nil {
			t.Fatal(err)
		}
		open := http.StatusUnauthorized
		if anonymous {
			open = http.StatusOK
		}
		for _, c := range []struct {
			authorization string
			score, train  int
		}{
			{"", open, open},
			{"Bearer " + reader, 200, 403},
			{"bearer " + master, 200, 200},
			{"Bearer " + reader + "x", 401, 401},
			{"Bearer ", 401, 401},
			{"Basic " + master, 401, 401},
			{master, 401, 401},
		} {
			for need, want := range map[access.Right]int{access.Score: c.score, access.Train: c.train} {
				w := httptest.NewRecorder()
				r := httptest.NewRequest(http.MethodGet, "/", nil)
				if c.authorization != "" {
					r.Header.Set("Authorization", c.authorization)
				}
				k.Guard(need, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})).ServeHTTP(w, r)
				if w.Code != want {
					t.Errorf("anonymous %v, %q asks for %v: %d, want %d", anonymous, c.authorization, need, w.Code, want)
				}
				if w.Code == 401 && !strings.HasPrefix(w.Header().Get("WWW-Authenticate"), "Bearer") {
					t.Error("401 does not say how")
				}
			}
		}
	}
}

func TestRefusals(t *testing.T) {
	for want, c := range map[string]access.Client{
		"name":   {Name: "a b", Token: reader, Rights: "score"},
		"token":  {Name: "a", Token: "short", Rights: "score"},
		"rights": {Name: "a", Token: reader, Rights: "all"},
	} {
		if err := c.Validate(); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	for _, c := range clients() {
		if err := c.Validate(); err != nil {
			t.Error(err)
		}
	}
	twice := clients()
	twice[1].Token = twice[0].Token
	if _, err := access.New(twice, false); err == nil || !strings.HasPrefix(err.Error(), "clients[1].token") {
		t.Error(err)
	}
}
