package alertrouter

import (
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"
	"testing"

	page "github.com/tocsin-io/tocsin/services/alert-router/internal/message"
)

// A page of several alerts acknowledges all that it tells of in one step, and nothing that has come since.
func TestPageOfSeveralIsAcknowledgedAtOnce(t *testing.T) {
	k, p := broker(t, 2), newPosted(t, "shared secret")
	cfg := configFor(t, t.TempDir())
	cfg.RoutingFile = writeRouting(t, filepath.Join(t.TempDir(), "r.yml"), "route: {receiver: people, group_by: [cause], group_wait: 2s, group_interval: 300ms}\nreceivers: [{name: people}]\n")
	cfg.ReceiversFile = receiversFile(t, "receivers: [{name: people, tocsin_webhook_configs: [{url: '"+p.URL+"', secrets: [shared secret]}]}]")
	r := run(t, k, cfg)
	in := newProducer(t, k)
	in.anomalies(anomaly("m-1", "limit", 1, started, crit), anomaly("m-2", "limit", 1, started, crit), anomaly("m-3", "limit", 1, started, crit))
	var link string
	eventually(t, "the page of all three", func() error {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, d := range p.list {
			if len(d.Alerts) == 3 && d.Links != nil {
				link = d.Links.All
				return allTold(d)
			}
		}
		return fmt.Errorf("not among %d", len(p.list))
	})
	in.anomalies(anomaly("m-4", "limit", 1, started, crit))
	eventually(t, "one that comes later", func() error { _, err := p.alert("m-4/limit/1", "firing"); return err })
	use := func(method, u string) (int, string) {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), method, u, strings.NewReader("note=on+my+way"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(b)
	}
	state := func(id string) (string, error) {
		var got struct {
			State string `json:"state"`
		}
		err := r.get("/v1/alerts/"+url.PathEscape(id), &got)
		return got.State, err
	}
	want := func(states ...string) error {
		for i, w := range states {
			if s, err := state(fmt.Sprintf("m-%d/limit/1", i+1)); err != nil || s != w {
				return fmt.Errorf("m-%d is %q, not %q (%w)", i+1, s, w, err)
			}
		}
		return nil
	}
	if status, body := use(http.MethodGet, link); status != http.StatusOK || !strings.Contains(body, "3 alerts, of which 3 stand: m-") {
		t.Fatalf("%d %s", status, body)
	}
	if err := want("unacknowledged", "unacknowledged", "unacknowledged", "unacknowledged"); err != nil {
		t.Errorf("following the link: %v", err)
	}
	if status, body := use(http.MethodPost, link); status != http.StatusOK || !strings.Contains(body, "they are yours") {
		t.Fatalf("%d %s", status, body)
	}
	eventually(t, "all three acknowledged, and no other", func() error { return want("acknowledged", "acknowledged", "acknowledged", "unacknowledged") })
	if status, body := use(http.MethodPost, link); status != http.StatusOK || !strings.Contains(body, "nothing has changed") {
		t.Errorf("again: %d %s", status, body)
	}
	if status, _ := use(http.MethodPost, link+"x"); status != http.StatusNotFound {
		t.Errorf("forged: %d", status)
	}
}

func allTold(d page.Document) error {
	if d.Links.All == "" {
		return fmt.Errorf("a page of %d alerts has no link for all", len(d.Alerts))
	}
	return nil
}
