package routing

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/eventrecorder"
	"github.com/prometheus/alertmanager/featurecontrol"
	"github.com/prometheus/alertmanager/provider"
	"github.com/prometheus/alertmanager/provider/mem"
	"github.com/prometheus/alertmanager/silence"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
)

// resolvedGC is how often the store drops alerts that have ended.
const resolvedGC = 5 * time.Minute

// store is the engine's alert store, replaceable as a whole: the engine's own has no way to forget an alert
// that has not ended, as is needed when its partition moves to another instance.
// Safe for concurrent use; replace must not run beside put (Engine holds a lock).
type store struct {
	cur      atomic.Pointer[mem.Alerts]
	silencer *silence.Silencer
	log      *slog.Logger
}

func newStore(silencer *silence.Silencer, log *slog.Logger) (*store, error) {
	s := &store{silencer: silencer, log: log}
	return s, s.replace(nil)
}

// replace starts an empty store and fills it with what keep (nil: nothing) keeps of the old one.
func (s *store) replace(keep func(*alert.Alert) bool) error {
	// Each store has a registry of its own: the engine's metrics may be registered once only, and those of the
	// store (its unused limit, writes to subscribers) are of no interest.
	next, err := mem.NewAlerts(context.Background(), resolvedGC, 0, s.silencer, s.log,
		eventrecorder.Recorder{}, prometheus.NewRegistry(), featurecontrol.NoopFlags{})
	if err != nil {
		return err
	}
	old := s.cur.Load()
	if old != nil {
		it := old.GetPending()
		for a := range it.Next() {
			if keep(a.Data) {
				if err := next.Put(context.Background(), a.Data); err != nil {
					it.Close()
					next.Close()
					return err
				}
			}
		}
		it.Close()
	}
	s.cur.Store(next)
	if old != nil {
		old.Close()
	}
	return nil
}

func (s *store) close() { s.cur.Load().Close() }

func (s *store) Subscribe(name string) provider.AlertIterator { return s.cur.Load().Subscribe(name) }

func (s *store) SlurpAndSubscribe(name string) ([]*alert.Alert, provider.AlertIterator) {
	return s.cur.Load().SlurpAndSubscribe(name)
}

func (s *store) GetPending() provider.AlertIterator { return s.cur.Load().GetPending() }

func (s *store) Get(fp model.Fingerprint) (*alert.Alert, error) { return s.cur.Load().Get(fp) }

func (s *store) Put(ctx context.Context, alerts ...*alert.Alert) error {
	return s.cur.Load().Put(ctx, alerts...)
}
