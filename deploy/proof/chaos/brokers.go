package chaos

import (
	"context"
	"fmt"
	"syscall"
	"time"
)

func broker(node int) string { return fmt.Sprintf("kafka-%d", node) }

const brokerTarget = 45 * time.Second

// killBroker is kill -9 of a broker, which starts again at once.
func (w *world) killBroker(node int) fault {
	row := "broker hard restart"
	if w.cfg.Brokers > 1 {
		row = "broker hard restart, 1 of 3"
	}
	f := fault{row: row, what: "kill -9 " + broker(node), target: brokerTarget}
	f.inject = func(ctx context.Context) error {
		if err := w.stack.Kill(broker(node), syscall.SIGKILL); err != nil {
			return err
		}
		return w.stack.Start(ctx, broker(node))
	}
	f.recovered = func() []condition { return append(w.flows(), w.inSync()) }
	return f
}

// restartBroker is one step of a rolling restart: an orderly stop and start; the next one waits until replicas are in sync again.
func (w *world) restartBroker(node int) fault {
	f := fault{row: "rolling restart of 3 brokers, each", what: "restart " + broker(node), target: brokerTarget}
	f.inject = func(ctx context.Context) error {
		if err := w.stack.Stop(ctx, broker(node)); err != nil {
			return err
		}
		return w.stack.Start(ctx, broker(node))
	}
	f.recovered = func() []condition { return append(w.flows(), w.inSync()) }
	return f
}

// inSync holds when every partition has a leader and all its replicas.
func (w *world) inSync() condition {
	return func(ctx context.Context) string {
		ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
		defer cancel()
		meta, err := w.watch.adm.Metadata(ctx)
		if err != nil {
			return fmt.Sprintf("metadata: %v", err)
		}
		for _, t := range meta.Topics {
			for _, p := range t.Partitions {
				if p.Err != nil || p.Leader < 0 || len(p.ISR) < len(p.Replicas) {
					return fmt.Sprintf("%s/%d: leader %d, %d of %d replicas in sync", t.Topic, p.Partition, p.Leader, len(p.ISR), len(p.Replicas))
				}
			}
		}
		return ""
	}
}
