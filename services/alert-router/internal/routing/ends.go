package routing

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/prometheus/alertmanager/alert"
	"github.com/prometheus/alertmanager/dispatch"
	"github.com/prometheus/common/model"
	"go.uber.org/zap"
)

const (
	// confirmEvery is how often the ends of alerts are looked after, and so how long a lost one lasts.
	confirmEvery = 500 * time.Millisecond
	// confirmShare: where a hundred thousand have ended, looking takes a while; it is done so much more seldom than it takes, but for confirmMost.
	confirmShare = 20
	confirmMost  = 3 * time.Second
	// confirmFor is how long after its end an alert is looked after: longer than a worker can be held up.
	confirmFor = 30 * time.Second
)

// ends remembers alerts that have ended lately.
//
// The engine's dispatcher takes updates from one channel with several workers. An alert that opens and ends within moments (a
// short fault, or catching up after a restart) can have its opening inserted into its group after its end: the group
// would then call it firing for ever, though the store knows better. So ends are compared with the groups for a while,
// and put again where a group missed one.
// Memory: the alerts that ended within confirmFor. Safe for concurrent use.
type ends struct {
	mu   sync.Mutex
	list map[model.Fingerprint]ending
}

type ending struct {
	alert *alert.Alert
	until time.Time
}

func newEnds() *ends { return &ends{list: make(map[model.Fingerprint]ending)} }

func (s *ends) add(alerts []*alert.Alert, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range alerts {
		s.list[a.Fingerprint()] = ending{alert: a, until: now.Add(confirmFor)}
	}
}

// recent is a copy of the list without what has been looked after long enough.
func (s *ends) recent(now time.Time) map[model.Fingerprint]*alert.Alert {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[model.Fingerprint]*alert.Alert, len(s.list))
	for fp, e := range s.list {
		if now.After(e.until) {
			delete(s.list, fp)
			continue
		}
		out[fp] = e.alert
	}
	return out
}

func (e *Engine) confirmEnds() {
	next := time.NewTimer(confirmEvery)
	defer next.Stop()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for {
		select {
		case <-e.stop:
			return
		case now := <-next.C:
			began := time.Now()
			if err := e.confirm(ctx, now); err != nil {
				e.log.Warn("ends of alerts not confirmed", zap.Error(err))
			}
			next.Reset(min(max(confirmEvery, confirmShare*time.Since(began)), confirmMost))
		}
	}
}

// confirm puts again every recent end that some group has missed. Cost: one pass over the groups when anything ended lately.
func (e *Engine) confirm(ctx context.Context, now time.Time) error {
	list := e.ends.recent(now)
	if len(list) == 0 {
		return nil
	}
	e.mu.RLock()
	defer e.mu.RUnlock()
	if e.live == nil {
		return nil // groups are made anew from the store, in one go
	}
	// It is asked of every alert of every group: to make a fingerprint of each would be most of the work while many end.
	ids := make(map[model.LabelValue]bool, len(list))
	for _, a := range list {
		ids[a.Labels[labelAlertID]] = true
	}
	missed := make(map[model.Fingerprint]bool)
	_, _, err := e.live.dispatcher.Groups(ctx, func(*dispatch.Route) bool { return true }, func(a *alert.Alert, now time.Time) bool {
		if a.ResolvedAt(now) || !ids[a.Labels[labelAlertID]] {
			return false
		}
		if fp := a.Fingerprint(); list[fp] != nil {
			missed[fp] = true
		}
		return false
	})
	if err != nil {
		return err
	}
	for fp := range missed {
		// Standing again, by a post to the API: then it is not ours to end.
		if known, getErr := e.alerts.Get(fp); getErr == nil && !known.Resolved() {
			continue
		}
		again := *list[fp]
		again.UpdatedAt = time.Now()
		e.log.Info("an alert's end overtook its opening, ended again", zap.String("alert", again.String()))
		err = errors.Join(err, e.alerts.Put(ctx, &again))
	}
	return err
}
