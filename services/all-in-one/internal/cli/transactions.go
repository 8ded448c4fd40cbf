package cli

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/tocsin-io/tocsin/pkg/kafka"
	"github.com/tocsin-io/tocsin/pkg/topic"
)

// orphanAge is how old an open transaction is at least that is said to hang: older than any time-out of Tocsin's by far.
const orphanAge = time.Minute

// hangingTransactions looks for transactions that stand open in a partition although their coordinator has long ended them. Everybody who reads committed
// records waits behind one for ever, and a group whose offsets are in it cannot go on. A broker whose disk was full while it ended transactions may
// leave them (KIP-664). found is what to say when there is none.
func hangingTransactions(ctx context.Context, adm *kadm.Client, now time.Time) (found string, err error) {
	names := []string{"__consumer_offsets"}
	for _, s := range topic.All() {
		names = append(names, s.Name)
	}
	open, err := kafka.OpenTransactions(ctx, adm, names...)
	if errors.Is(err, kerr.UnsupportedVersion) {
		return "the broker cannot tell", nil
	}
	if err != nil {
		return "", err
	}
	coordinated, err := adm.ListTransactions(ctx, nil, []string{"Ongoing", "PrepareCommit", "PrepareAbort"})
	if err != nil {
		return "", err
	}
	alive := map[int64]bool{}
	for _, t := range coordinated {
		alive[t.ProducerID] = true
	}
	var hanging []string
	for _, p := range open {
		if since := time.UnixMilli(p.LastTimestamp); !alive[p.ProducerID] && now.Sub(since) > orphanAge {
			hanging = append(hanging, fmt.Sprintf("%s[%d] from offset %d on, since %s", p.Topic, p.Partition, p.CurrentTxnStartOffset, since.UTC().Format(time.RFC3339)))
		}
	}
	if len(hanging) > 0 {
		slices.Sort(hanging)
		return "", fmt.Errorf("their coordinator has ended them, the partitions have not: %s", strings.Join(hanging, "; "))
	}
	return fmt.Sprintf("%d open, none hangs", len(open)), nil
}
