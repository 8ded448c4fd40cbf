package history

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/tocsin-io/tocsin/pkg/topic"
)

// StallError says that nothing moved for too long: not that anything is lost.
type StallError struct {
	What      string
	Diagnosis []string
}

func (e *StallError) Error() string {
	return "stalled: " + e.What + "\n  " + strings.Join(e.Diagnosis, "\n  ")
}

// askEvery is how often Settle looks.
const askEvery = 200 * time.Millisecond

// Settle waits until what was written before the call, and what came of it, has gone through every group: frames through the processor, its anomalies
// through the router, and all that into the lake. It returns a *StallError when none of what is waited for moves for patience.
//
// Ticks need not be read. The lake holds what stands before the last closed chunk: chunks close as ticks go on, so patience must
// be longer than the chunks' interval, and a world whose processor has been stopped cannot settle its writer.
func Settle(ctx context.Context, w World, patience time.Duration) error {
	if w.Patience == 0 {
		w.Patience = patience
	}
	b, err := connect(&w)
	if err != nil {
		return err
	}
	defer b.close()
	for _, step := range []struct {
		group  string
		topics []string
	}{
		{w.Groups.Processor, []string{topic.Frames}},
		{w.Groups.Router, []string{topic.Anomalies}},
		{w.Groups.Writer, []string{topic.Readings, topic.Windows, topic.Anomalies, topic.Alerts, topic.Findings}},
	} {
		if step.group == "" {
			continue
		}
		for _, name := range step.topics {
			if err := settleTopic(ctx, &w, b, step.group, name, patience); err != nil {
				return err
			}
		}
	}
	return nil
}

func settleTopic(ctx context.Context, w *World, b *broker, group, name string, patience time.Duration) error {
	stalled := func(err error) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return &StallError{What: fmt.Sprintf("group %s on %s: %v", group, name, err), Diagnosis: diagnose(ctx, w, b)}
	}
	goal, err := goals(ctx, b, name)
	if err != nil {
		return stalled(err)
	}
	moved, last := time.Now(), int64(-1)
	var trouble error
	for {
		behind, sum := "", int64(0)
		at, err := b.committed(ctx, group)
		if err == nil {
			trouble = nil
			for id, end := range goal {
				p := at[name][id].at
				sum += min(p, end)
				if p < end {
					behind += fmt.Sprintf(" [%d] at %d of %d", id, p, end)
				}
			}
			if behind == "" {
				return nil
			}
		} else {
			trouble = err
		}
		if err == nil && sum != last {
			moved, last = time.Now(), sum
		}
		if time.Since(moved) >= patience {
			return stalled(errors.Join(fmt.Errorf("nothing moved for %s; behind:%s", patience, behind), trouble))
		}
		if err := pause(ctx, askEvery); err != nil {
			return err
		}
	}
}

// goals are the offsets after the last record of each partition that is no tick.
func goals(ctx context.Context, b *broker, name string) (map[int32]int64, error) {
	bounds, err := b.bounds(ctx, name)
	if err != nil {
		return nil, err
	}
	goal := map[int32]int64{}
	for id, in := range bounds {
		end, err := b.lastData(ctx, name, id, in)
		if err != nil {
			return nil, err
		}
		if end > in.from {
			goal[id] = end
		}
	}
	return goal, nil
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
