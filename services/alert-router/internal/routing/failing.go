package routing

import (
	"context"
	"strconv"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/prometheus/alertmanager/alert"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/services/alert-router/internal/receiver"
)

// ReceiverFailing is the alertname of the alert that a receiver cannot be reached.
const ReceiverFailing = "TocsinReceiverFailing"

// Letter is a message that a receiver would not take, or could not.
type Letter struct {
	receiver.Dead
	Integration string
	Index       int
}

// maxLetters bounds the messages of one destination that are remembered as set aside. Beyond it a message may be set aside twice, under the same key.
const maxLetters = 10_000

// failing makes an alert of each integration whose messages are given up, and ends it when one is taken again. The alert is routed like any other, so that people who
// can be reached hear of those who cannot. Each message that is given up is set aside once.
type failing struct {
	put     func(context.Context, ...Alert) error
	dead    func(Letter, func(kept bool)) // may be nil
	log     *zap.Logger
	metrics *metrics.Set

	mu      sync.Mutex
	stands  map[destination]Alert
	letters map[destination]map[string]bool // by the message's key
	changed []Alert
	kick    chan struct{}
}

type destination struct {
	receiver, integration string
	index                 int
}

func newFailing(put func(context.Context, ...Alert) error, dead func(Letter, func(bool)), log *zap.Logger, set *metrics.Set) *failing {
	return &failing{
		put: put, dead: dead, log: log, metrics: set, stands: make(map[destination]Alert), letters: make(map[destination]map[string]bool), kick: make(chan struct{}, 1),
	}
}

// labels of the alert that a destination fails.
func (d destination) labels() map[string]string {
	return map[string]string{
		"alertname": ReceiverFailing, "receiver": d.receiver, "integration": d.integration, "index": strconv.Itoa(d.index), "severity": "critical",
	}
}

// failed is called where the engine's locks may not be taken.
func (f *failing) failed(to destination, d receiver.Dead, about []*alert.Alert) {
	f.metrics.GetOrCreateCounter(attempts(to.receiver, to.integration, "dead_letter", amReason(d.Err).String())).Inc()
	f.setAside(to, d)
	own := true
	for _, a := range about {
		own = own && string(a.Labels["alertname"]) == ReceiverFailing
	}
	if own {
		return // it could not be told that it cannot be reached
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, known := f.stands[to]; known {
		return
	}
	a := Alert{
		Labels: to.labels(),
		Annotations: map[string]string{
			"summary":     "Messages to receiver " + to.receiver + " by " + to.integration + " do not arrive: " + d.Err.Reason,
			"description": "People behind this receiver are not being told. Messages are kept and tried again at each group_interval.",
		},
		StartsAt: time.Now(),
	}
	f.stands[to] = a
	f.change(a)
}

// setAside hands the message out, unless it has been since the destination began to fail.
func (f *failing) setAside(to destination, d receiver.Dead) {
	if f.dead == nil {
		return
	}
	key := d.Notification.Key
	f.mu.Lock()
	known := f.letters[to][key]
	if !known {
		if len(f.letters[to]) >= maxLetters || f.letters[to] == nil {
			f.letters[to] = make(map[string]bool)
		}
		f.letters[to][key] = true
	}
	f.mu.Unlock()
	if known {
		return
	}
	f.dead(Letter{Dead: d, Integration: to.integration, Index: to.index}, func(kept bool) {
		if !kept {
			f.mu.Lock()
			delete(f.letters[to], key)
			f.mu.Unlock()
		}
	})
}

func (f *failing) sent(to destination) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.letters, to)
	if a, known := f.stands[to]; known {
		delete(f.stands, to)
		a.EndsAt = time.Now()
		f.change(a)
	}
}

// resume takes up again what an earlier process told of a destination: it stands until a message is taken.
func (f *failing) resume(to destination, at time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, known := f.stands[to]; known {
		return
	}
	a := Alert{
		Labels:      to.labels(),
		Annotations: map[string]string{"summary": "Messages to receiver " + to.receiver + " by " + to.integration + " did not arrive before the last restart; none has been sent since"},
		StartsAt:    at,
	}
	f.stands[to] = a
	f.change(a)
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

// resumeFailing takes up the alerts of failing receivers that people have been told of, so that they are told of the end.
func (e *Engine) resumeFailing(p *plan) {
	told, err := e.believedFiring()
	if err != nil {
		e.log.Warn("notification log", zap.Error(err))
		return
	}
	for name, list := range p.receivers {
		for i := range list {
			to := destination{name, list[i].Name(), list[i].Index()}
			if h := alertHash(to.labels()); told[h] || told[inDoubt(h)] {
				e.failing.resume(to, time.Now())
			}
		}
	}
}
