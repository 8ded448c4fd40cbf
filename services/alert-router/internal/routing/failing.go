package routing

import (
	"context"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/prometheus/alertmanager/alert"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/services/alert-router/internal/notification"
)

// ReceiverFailing is the alertname of the alert that a receiver cannot be reached.
const ReceiverFailing = "TocsinReceiverFailing"

// failing makes an alert of each integration whose messages are given up, and ends it when one is taken again. The alert is routed like any other, so that people who
// can be reached hear of those who cannot.
type failing struct {
	put     func(context.Context, ...Alert) error
	log     *zap.Logger
	metrics *metrics.Set

	mu      sync.Mutex
	stands  map[destination]Alert
	changed []Alert
	kick    chan struct{}
}

type destination struct{ receiver, integration string }

func newFailing(put func(context.Context, ...Alert) error, log *zap.Logger, set *metrics.Set) *failing {
	return &failing{put: put, log: log, metrics: set, stands: make(map[destination]Alert), kick: make(chan struct{}, 1)}
}

// failed is called where the engine's locks may not be taken.
func (f *failing) failed(receiver, integration string, err *notification.Error, about []*alert.Alert) {
	f.metrics.GetOrCreateCounter(attempts(receiver, integration, "dead_letter", amReason(err).String())).Inc()
	own := true
	for _, a := range about {
		own = own && string(a.Labels["alertname"]) == ReceiverFailing
	}
	if own {
		return // it could not be told that it cannot be reached
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	key := destination{receiver, integration}
	if _, known := f.stands[key]; known {
		return
	}
	a := Alert{
		Labels: map[string]string{"alertname": ReceiverFailing, "receiver": receiver, "integration": integration, "severity": "critical"},
		Annotations: map[string]string{
			"summary":     "Messages to receiver " + receiver + " by " + integration + " do not arrive: " + err.Reason,
			"description": "People behind this receiver are not being told. Messages are kept and tried again at each group_interval.",
		},
		StartsAt: time.Now(),
	}
	f.stands[key] = a
	f.change(a)
}

func (f *failing) sent(receiver, integration string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	key := destination{receiver, integration}
	if a, known := f.stands[key]; known {
		delete(f.stands, key)
		a.EndsAt = time.Now()
		f.change(a)
	}
}

func (f *failing) change(a Alert) {
	f.changed = append(f.changed, a)
	select {
	case f.kick <- struct{}{}:
	default:
	}
}

// run puts what has changed until stop.
func (f *failing) run(stop <-chan struct{}) {
	for {
		select {
		case <-stop:
			return
		case <-f.kick:
		}
		f.mu.Lock()
		list := f.changed
		f.changed = nil
		f.mu.Unlock()
		if err := f.put(context.Background(), list...); err != nil {
			f.log.Warn("that a receiver fails is not told", zap.Error(err))
		}
	}
}
