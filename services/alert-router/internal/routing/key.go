package routing

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"slices"

	"github.com/prometheus/alertmanager/nflog"
	"github.com/prometheus/alertmanager/nflog/nflogpb"
	"github.com/prometheus/alertmanager/notify"
)

// messageKey is the idempotency key of what is about to be said: the same for every attempt at it, also after a restart and on another instance, because it is made of who is
// told, of which group, and of what fires and has ended. A reminder says the same once more on purpose: the time of the last message tells it from that one.
func (e *Engine) messageKey(ctx context.Context, to *nflogpb.Receiver) string {
	h := sha256.New()
	put := func(s string) {
		_, _ = h.Write(binary.AppendUvarint(nil, uint64(len(s))))
		_, _ = h.Write([]byte(s))
	}
	group, _ := notify.GroupKey(ctx)
	put(to.GetGroupName())
	put(to.GetIntegration())
	_, _ = h.Write(binary.AppendUvarint(nil, uint64(to.GetIdx())))
	put(group)
	firing, _ := notify.FiringAlerts(ctx)
	resolved, _ := notify.ResolvedAlerts(ctx)
	for _, list := range [][]uint64{firing, resolved} {
		list = slices.Sorted(slices.Values(list))
		_, _ = h.Write(binary.AppendUvarint(nil, uint64(len(list))))
		for _, v := range list {
			_, _ = h.Write(binary.BigEndian.AppendUint64(nil, v))
		}
	}
	if r, ok := notify.NotificationReason(ctx); ok && r == notify.ReasonRepeatIntervalElapsed {
		if entries, err := e.nflog.Query(nflog.QGroupKey(group), nflog.QReceiver(to)); err == nil && len(entries) == 1 {
			_, _ = h.Write(binary.BigEndian.AppendUint64(nil, uint64(entries[0].GetTimestamp().AsTime().UnixMilli())))
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:16])
}
