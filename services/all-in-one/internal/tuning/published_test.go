package tuning_test

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/tocsin-io/tocsin/pkg/kafka/kafkatest"
	"github.com/tocsin-io/tocsin/pkg/service"
	"github.com/tocsin-io/tocsin/services/all-in-one/internal/tuning"
	streamprocessor "github.com/tocsin-io/tocsin/services/stream-processor"
)

// Trials are held against what the fleet is judged under, not against the file of the process: what was applied counts, and the result says which revision it was.
func TestTrialsAreHeldAgainstWhatIsInForce(t *testing.T) {
	deps := service.Nop()
	deps.Kafka = kafkatest.Start(t, 1)
	run := func(s service.Runner, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- s.Run(ctx) }()
		t.Cleanup(func() {
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
			http.DefaultClient.CloseIdleConnections()
		})
	}
	c := streamprocessor.DefaultConfig()
	c.HTTP.Listen, c.Revision = "127.0.0.1:0", 3
	processor, err := streamprocessor.New(c, deps)
	run(processor, err)
	cfg := tuning.DefaultConfig()
	cfg.HTTP.Listen = "127.0.0.1:0"
	dir := t.TempDir()
	cfg.Lake.URL = "file://" + dir
	fill(t, dir, "press-1")
	deps.Metrics = service.Nop().Metrics
	bench, err := tuning.New(cfg, streamprocessor.DefaultConfig(), deps)
	run(bench, err)
	base := "http://" + bench.Addr()
	type settings struct {
		ID     string
		Budget float64
	}
	holds := func(want settings) {
		t.Helper()
		var got settings
		for until := time.Now().Add(2 * time.Minute); time.Now().Before(until); {
			if ask(t, http.MethodGet, base+"/v1/tuning/settings", "", nil, &got); got == want {
				return
			}
			<-time.After(10 * time.Millisecond)
		}
		t.Fatalf("%+v, want %+v", got, want)
	}
	holds(settings{"3.0", 1})
	change := map[string]any{"base": "3.0", "detection": map[string]any{"calibrate": map[string]any{"budget": 2}}, "by": "ada", "why": "tried"}
	var applied struct{ ID string }
	if p := ask(t, http.MethodPost, "http://"+processor.Addr()+"/v1/detection/changes", "", change, &applied); p.Status != http.StatusCreated || applied.ID != "3.1" {
		t.Fatalf("%+v %+v", p, applied)
	}
	holds(settings{"3.1", 2})
	var begun answer
	if p := ask(t, http.MethodPost, base+"/v1/tuning/trials", "", request(`{"calibrate": {"budget": 4}}`), &begun); p.Status != http.StatusAccepted {
		t.Fatalf("%+v", p)
	}
	if a := end(t, base, begun.ID, ""); a.State != "done" || a.Result.Base != "3.1" || len(a.Result.Changes) != 1 || a.Result.Changes[0].Current != "2" || a.Result.Changes[0].Proposed != "4" {
		t.Errorf("%+v %+v", a, a.Result)
	}
}
