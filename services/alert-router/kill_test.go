package alertrouter

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/pkg/kafka"
	"github.com/tocsin-io/tocsin/pkg/service"
)

// asRouter makes the test binary be an alert-router, so a test can kill one. routerLog is a file for what it logs; it may be missing.
const (
	asRouter  = "TOCSIN_TEST_ROUTER"
	routerLog = "TOCSIN_TEST_ROUTER_LOG"
)

type childConfig struct {
	Config Config
	Kafka  kafka.Config
}

func runAsRouter(text string) int {
	var c childConfig
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	d := service.Nop()
	d.Kafka = c.Kafka
	if path := os.Getenv(routerLog); path != "" {
		conf := zap.NewProductionConfig()
		conf.OutputPaths, conf.Sampling = []string{path}, nil
		log, err := conf.Build()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 2
		}
		d.Log = log
	}
	s, err := New(c.Config, d)
	if err == nil {
		err = s.Run(context.Background())
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// A router that is killed again and again loses nothing and records nothing twice; what it has told it tells again only
// when it died between the telling and the note of it.
func TestKill(t *testing.T) {
	const machines, kills = 60, 8
	k := broker(t, 3)
	h := newHook(t)
	cfg := configFor(t, t.TempDir())
	cfg.RoutingFile = routingTo(t, h.URL)
	text, err := json.Marshal(childConfig{cfg, k})
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	spawn := func() *exec.Cmd {
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), asRouter+"="+string(text))
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	child := spawn()
	stop := func() {
		_ = child.Process.Kill()
		_ = child.Wait()
	}
	defer func() { stop() }()

	p := newProducer(t, k)
	rng := rand.New(rand.NewPCG(1, 2)) // the moments are the scheduler's anyway; this only spreads them
	var want []string
	for round := range kills {
		for i := round * machines / kills; i < (round+1)*machines/kills; i++ {
			m := fmt.Sprintf("m-%d", i)
			p.anomalies(anomaly(m, "limit", 1, started, warning), anomaly(m, "limit", 1, ongoing, crit))
			want = append(want, m+"/limit/1/opened", m+"/limit/1/escalated-critical")
			if i%2 == 0 {
				p.anomalies(anomaly(m, "limit", 1, ended, crit))
				want = append(want, m+"/limit/1/closed")
			}
		}
		told := len(h.told()) + rng.IntN(3) // at least three machines of each round stay in trouble
		eventually(t, "a moment to kill at", func() error {
			if n := len(h.told()); n < told {
				return fmt.Errorf("%d told, waiting for %d", n, told)
			}
			return nil
		})
		stop()
		child = spawn()
	}
	once(t, k, want...)
	// Every machine that is still in trouble has been told of, though it was killed meanwhile.
	eventually(t, "all told", func() error {
		told := strings.Join(h.told(), "\n") + "\n"
		var err error
		for i := 1; i < machines; i += 2 {
			if !strings.Contains(told, fmt.Sprintf("firing m-%d/limit/1 critical\n", i)) {
				err = errors.Join(err, fmt.Errorf("m-%d not told", i))
			}
		}
		// Who was told of a fault is told of its end.
		for i := 0; i < machines; i += 2 {
			if strings.Contains(told, fmt.Sprintf("firing m-%d/limit/1 critical\n", i)) && !strings.Contains(told, fmt.Sprintf("resolved m-%d/limit/1 critical\n", i)) {
				err = errors.Join(err, fmt.Errorf("the end of m-%d not told", i))
			}
		}
		return err
	})
	twice := 0
	seen := map[string]bool{}
	for _, m := range h.messages() {
		for _, a := range m.Alerts {
			if key := m.Receiver + a.Status + a.Labels["alert_id"] + a.Labels["severity"]; m.Status == "firing" && a.Status == "firing" {
				if seen[key] {
					twice++
				}
				seen[key] = true
			}
		}
	}
	t.Logf("%d kills, %d events, %d alerts in firing messages more than once", kills, len(want), twice)
	if twice > machines {
		t.Errorf("%d alerts told more than once", twice)
	}
}
