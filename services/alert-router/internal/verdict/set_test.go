package verdict

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

func ids(n int) (out []string) {
	for i := range n {
		out = append(out, fmt.Sprintf("press-%02d/silence/1795226590000000", i))
	}
	return out
}

func TestASetNamesItsAlertsAndNoOthers(t *testing.T) {
	of := ids(MaxSet)
	set, ok := NewSet(of)
	if !ok || len(set) > maxSubject {
		t.Fatalf("%d bytes, %t", len(set), ok)
	}
	refs := Refs(set)
	for _, id := range of {
		if !refs[Ref(id)] {
			t.Errorf("%s is missing", id)
		}
	}
	if len(refs) != MaxSet || refs[Ref("press-99/silence/1")] {
		t.Errorf("%d refs", len(refs))
	}
	slices.Reverse(of)
	if again, _ := NewSet(of); again != set {
		t.Error("another order is another link")
	}
	for name, of := range map[string][]string{"none": nil, "too many": ids(MaxSet + 1)} {
		if _, ok := NewSet(of); ok {
			t.Error(name)
		}
	}
	for _, s := range []string{"", "short", set + "half"} { // never panics, never reads beyond
		if got := Refs(s); len(got) != len(s)/refSize {
			t.Errorf("%d refs of %d bytes", len(got), len(s))
		}
	}
}

func TestLinkForSeveralAlerts(t *testing.T) {
	f := newFixture(t)
	l := &Links{Keys: f.h.Keys, Base: "https://tocsin.example.com/", Lifetime: time.Hour}
	u := l.All(ids(MaxSet), "ada@example.com", now)
	token, ok := strings.CutPrefix(u, "https://tocsin.example.com"+Path)
	if !ok || len(token) > maxToken {
		t.Fatal(u)
	}
	if got := l.All(ids(MaxSet+1), "ada@example.com", now); got != "" {
		t.Errorf("more than fit: %s", got)
	}
	if l.All(ids(2), "bo@example.com", now) == l.All(ids(2), "ada@example.com", now) || l.All(ids(2), "ada@example.com", now) == l.All(ids(3), "ada@example.com", now) {
		t.Error("links of others, or of other alerts, are the same")
	}
	if resp, body := f.do(http.MethodGet, token, nil); resp.StatusCode != http.StatusOK || !strings.Contains(body, "Take all of these alerts?") || !strings.Contains(body, `<form method="post">`) {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	if len(f.list) != 0 {
		t.Errorf("following the link recorded %+v", f.list)
	}
	// A link for one alert is none for several, nor the other way: the action is signed.
	for i := range len(token) {
		other := []byte(token)
		other[i] ^= 1
		if resp, _ := f.do(http.MethodPost, string(other), nil); resp.StatusCode != http.StatusNotFound {
			t.Fatalf("forged at %d: %d", i, resp.StatusCode)
		}
	}
	if resp, body := f.do(http.MethodPost, token, nil); resp.StatusCode != http.StatusOK || !strings.Contains(body, "they are yours") || strings.Contains(body, "What is it?") {
		t.Errorf("%d %s", resp.StatusCode, body)
	}
	if len(f.list) != 1 || f.list[0].Action != AcknowledgeAll || f.list[0].By != "ada@example.com" || len(Refs(f.list[0].Subject)) != MaxSet {
		t.Errorf("recorded %+v", f.list)
	}
	f.at = now.Add(3 * time.Hour)
	if resp, _ := f.do(http.MethodPost, token, nil); resp.StatusCode != http.StatusGone || len(f.list) != 1 {
		t.Errorf("expired: %d", resp.StatusCode)
	}
}
