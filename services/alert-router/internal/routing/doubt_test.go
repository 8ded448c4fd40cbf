package routing

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"

	"github.com/prometheus/alertmanager/nflog/nflogpb"
	"google.golang.org/protobuf/types/known/timestamppb"
)

// newSilentSink is a webhook that takes what it is told of firing alerts and breaks the connection instead of answering. It is
// told of ends like any other.
func newSilentSink(t *testing.T) *sink {
	t.Helper()
	s := &sink{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var m struct {
			Alerts []struct {
				Status string            `json:"status"`
				Labels map[string]string `json:"labels"`
			} `json:"alerts"`
		}
		if err := json.NewDecoder(r.Body).Decode(&m); err != nil {
			t.Error(err)
		}
		broken := false
		s.mu.Lock()
		for _, a := range m.Alerts {
			s.told = append(s.told, a.Status+" "+a.Labels["alert_id"])
			broken = broken || a.Status == "firing"
		}
		s.mu.Unlock()
		if broken {
			panic(http.ErrAbortHandler)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

func newRefusingSink(t *testing.T) *sink {
	t.Helper()
	s := &sink{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		s.mu.Lock()
		s.told = append(s.told, "refused")
		s.mu.Unlock()
		rw.WriteHeader(http.StatusInternalServerError)
	}))
	t.Cleanup(s.Close)
	return s
}

func owes(e *Engine, want ...string) func() error {
	return func() error {
		owed, err := e.Owed([]Alert{closed("a"), closed("b")})
		if err != nil {
			return err
		}
		var got []string
		for _, a := range owed {
			got = append(got, a.Labels["alert_id"])
		}
		if !slices.Equal(got, want) {
			return fmt.Errorf("owed %q, want %q", got, want)
		}
		return nil
	}
}

// A receiver that has taken a notification and not answered may have woken somebody: who must hear of the end.
func TestTheEndOfWhatMayHaveArrivedIsTold(t *testing.T) {
	s := newSilentSink(t)
	o := options(t, hooked(t, s, "alert_id"))
	o.LogNotifications = false
	e := engine(t, o)
	e.Start()
	put(t, e, open("a"))
	eventually(t, s.has("firing a"))
	eventually(t, owes(e, "a"))
	told := s.count("firing a")
	eventually(t, func() error { // doubt does not keep it from being told again
		if s.count("firing a") <= told {
			return fmt.Errorf("not told again: %q", s.all())
		}
		return nil
	})
	put(t, e, closed("a"))
	eventually(t, s.has("resolved a"))
	eventually(t, owes(e))
}

func TestDoubtOutlivesTheProcess(t *testing.T) {
	s := newSilentSink(t)
	o := options(t, hooked(t, s, "alert_id"))
	o.LogNotifications = false
	first, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	first.Start()
	put(t, first, open("a"))
	eventually(t, owes(first, "a"))
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	next := engine(t, o)
	if err := owes(next, "a")(); err != nil {
		t.Fatal(err)
	}
	if err := next.PutOwed(t.Context(), closed("a")); err != nil {
		t.Fatal(err)
	}
	next.Start()
	eventually(t, s.has("resolved a"))
}

func TestDoubtMovesWithThePartition(t *testing.T) {
	s := newSilentSink(t)
	a, b := newInstance(t, s, "alert_id"), newInstance(t, s, "alert_id")
	a.Start()
	put(t, a.Engine, open("a"))
	eventually(t, a.hasSaid(1))
	if err := a.Drop(open("a")); err != nil {
		t.Fatal(err)
	}
	b.takesOver(t, a, closed("a"))
	eventually(t, s.has("resolved a"))
}

// What was refused, or never left, has not arrived.
func TestNoDoubtAboutWhatWasRefused(t *testing.T) {
	refusing := newRefusingSink(t)
	away := newSink(t)
	away.Close()
	for name, s := range map[string]*sink{"answers 500": refusing, "cannot be reached": away} {
		t.Run(name, func(t *testing.T) {
			o := options(t, hooked(t, s, "alert_id"))
			o.LogNotifications = false
			e := engine(t, o)
			e.Start()
			put(t, e, open("a"))
			eventually(t, func() error {
				if n := o.Metrics.GetOrCreateCounter(`tocsin_alert_notifications_total{receiver="h",integration="webhook",outcome="retry",reason="` + map[bool]string{true: "serverError", false: "other"}[s == refusing] + `"}`).Get(); n < 2 {
					return fmt.Errorf("%d attempts", n)
				}
				return nil
			})
			if err := owes(e)(); err != nil {
				t.Error(err)
			}
		})
	}
}

// The newest word on an alert stands alone, whatever was said before.
func TestWordsReplaceEachOther(t *testing.T) {
	const h = uint64(42)
	entries := map[string]*nflogpb.Entry{
		"nothing":  nil,
		"firing":   {FiringAlerts: []uint64{h}},
		"resolved": {ResolvedAlerts: []uint64{h}},
		"doubtful": {FiringAlerts: []uint64{inDoubt(h)}},
	}
	for before, entry := range entries {
		for after, said := range map[string]state{"firing": firing, "resolved": resolved, "doubtful": doubtful} {
			stand, ended, changed := words{h: word{said: said}}.applyTo(entry)
			want := entries[after]
			if !slices.Equal(stand, want.GetFiringAlerts()) || !slices.Equal(ended, want.GetResolvedAlerts()) {
				t.Errorf("%s, then %s: firing %x, resolved %x", before, after, stand, ended)
			}
			if changed != (before != after) {
				t.Errorf("%s, then %s: changed is %t", before, after, changed)
			}
		}
	}
	// And is heard as it was said.
	for name, said := range map[string]state{"firing": firing, "resolved": resolved, "doubtful": doubtful} {
		heard := &hearing{alerts: map[uint64]bool{h: true}, words: map[string]words{}, about: map[string]*nflogpb.Entry{}}
		entry := entries[name]
		heard.listen("k", &nflogpb.Entry{FiringAlerts: entry.GetFiringAlerts(), ResolvedAlerts: entry.GetResolvedAlerts(), Timestamp: timestamppb.Now()})
		if got := heard.words["k"][h].said; got != said {
			t.Errorf("%s is heard as %d", name, got)
		}
	}
}
