package chaos

import (
	"context"
	"fmt"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
)

// stormEvery is the time between a member's coming and its leaving.
const stormEvery = 3 * time.Second

// storm lets the second instance of a service leave its group and come back every few seconds, the given number of times. Static members do not
// leave when they stop, so the operator removes them, as with `kafka-consumer-groups --delete-members`: partitions really move, each time.
func (w *world) storm(service string, times int) fault {
	second := pair(service)[1]
	f := fault{row: "members leave and join every 3 s", what: fmt.Sprintf("%d x leave and join %s", times, second), times: 2 * times, target: 20 * time.Second}
	f.inject = func(ctx context.Context) error {
		tick := time.NewTicker(stormEvery)
		defer tick.Stop()
		for range times {
			release, err := w.super.hold(second, syscall.SIGTERM)
			if err != nil {
				return err
			}
			err = w.leave(ctx, service, second)
			if err == nil {
				<-tick.C
			}
			release()
			if err != nil {
				return err
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-tick.C:
			}
		}
		return nil
	}
	f.recovered = func() []condition { return append(w.serves(service), w.watch.isReady(second, w.stack.Addr(second))) }
	f.fromInjected = true
	return f
}

// leave waits until the instance has stopped and removes it from its group.
func (w *world) leave(ctx context.Context, group, instance string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if err := w.stack.Wait(ctx, instance); err != nil {
		return err
	}
	// Removing a member that a time-out has removed already is no error that matters.
	_, err := w.watch.adm.LeaveGroup(ctx, kadm.LeaveGroup(group).InstanceIDs(group+"-1"))
	if err != nil {
		return fmt.Errorf("remove %s from its group: %w", instance, err)
	}
	return nil
}
