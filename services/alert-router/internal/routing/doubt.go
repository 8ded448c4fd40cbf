package routing

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http/httptrace"
	"slices"
	"sync/atomic"

	"github.com/prometheus/alertmanager/nflog"
	"github.com/prometheus/alertmanager/nflog/nflogpb"
	"github.com/prometheus/alertmanager/notify"
	"go.uber.org/zap"
)

// A receiver that was sent a notification and did not answer may know of the alerts in it. The notification log has no word for that: no entry means that nobody was
// told, and then nobody is told of the end either. So an alert in doubt is entered as firing under another name than its own. That group has an entry, so
// the end of its alerts is told; the alert itself is not in it, so it is still told of while it stands.
//
// An answer is believed, also one that refuses.

// inDoubt is the name of an alert in doubt, by its hash, and back.
func inDoubt(hash uint64) uint64 { return ^hash }

// attempt watches one notification on its way.
type attempt struct {
	spoken atomic.Bool // an HTTP connection was asked for
	sent   atomic.Bool // a request was on its way
}

func (a *attempt) watch(ctx context.Context) context.Context {
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn:      func(string) { a.spoken.Store(true) },
		WroteHeaders: func() { a.sent.Store(true) },
	})
}

// arrived tells whether the receiver may have what was sent, though it came to an error.
func (a *attempt) arrived(retry bool, err error) bool {
	var answer *notify.ErrorWithReason
	if errors.As(err, &answer) {
		switch answer.Reason {
		case notify.ClientErrorReason, notify.ServerErrorReason, notify.AuthErrorReason, notify.RateLimitedReason:
			return false
		}
	}
	if a.spoken.Load() {
		return a.sent.Load()
	}
	// Not by HTTP. What is not worth trying again was refused, or never left.
	var dial *net.OpError
	return retry && (!errors.As(err, &dial) || dial.Op != "dial")
}

// doubt enters the alerts of a notification that may have arrived, but for those that the receiver has been told of.
func (e *Engine) doubt(ctx context.Context, to *nflogpb.Receiver) {
	group, ok := notify.GroupKey(ctx)
	firing, listed := notify.FiringAlerts(ctx)
	if !ok || !listed || len(firing) == 0 {
		return
	}
	if err := e.enterDoubt(to, group, firing); err != nil {
		e.log.Warn("a notification that may have arrived is not noted: should its alerts end now, nobody is told", zap.String("receiver", to.GetGroupName()), zap.Error(err))
	}
}

func (e *Engine) enterDoubt(to *nflogpb.Receiver, group string, firing []uint64) error {
	entries, err := e.nflog.Query(nflog.QGroupKey(group), nflog.QReceiver(to))
	if err != nil && !errors.Is(err, nflog.ErrNotFound) {
		return fmt.Errorf("notification log: %w", err)
	}
	var was *nflogpb.Entry
	if len(entries) > 0 {
		was = entries[0]
	}
	now := slices.Clone(was.GetFiringAlerts())
	known := make(map[uint64]bool, len(now))
	for _, h := range now {
		known[h] = true
	}
	for _, h := range firing {
		if !known[h] && !known[inDoubt(h)] {
			now = append(now, inDoubt(h))
		}
	}
	if len(now) == len(known) {
		return nil
	}
	if err := e.nflog.Log(to, group, now, slices.Clone(was.GetResolvedAlerts()), nflog.NewStore(was), 0); err != nil {
		return fmt.Errorf("notification log: %w", err)
	}
	return nil
}
