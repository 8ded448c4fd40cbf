package simulation

import (
	"context"
	"fmt"
	"time"
)

// incidentScenarios are those of pages that stand for several alerts, and of a receiver that is away for long.
func incidentScenarios() []Scenario {
	return []Scenario{
		{
			Name: "gateway-dies", Load: 9 * time.Minute, Shape: plant,
			What: "the machines behind a gateway fall silent together and come back one by one, and one of them does not: one page, then another of the one that is missing",
			Run: func(ctx context.Context, w *World) error {
				return w.darken(ctx, func() {})
			},
			Show: func(r *Result) error {
				if n := r.Counts["incident_members_told"]; n > 0 {
					return fmt.Errorf("people were told of %d machines by themselves whose incident they knew of", n)
				}
				return together(r)
			},
		},
		{
			Name: "gateway-dies-routers-killed", Load: 9 * time.Minute, What: "the same while routers are killed", Shape: func(o *Options) { plant(o); quick(o) },
			Run: func(ctx context.Context, w *World) error {
				n := 0
				return w.darken(ctx, func() {
					w.routers[n%2].kill()
					n++
				})
			},
			Show: together,
		},
		{
			Name: "pager-away-for-an-hour", Load: 66 * time.Minute, Long: true,
			What: "the receiver is away for an hour, in which routers are killed 50 times: all that stands then is told, and what is tried again carries the same key",
			Shape: func(o *Options) {
				quick(o)
				o.Machines, o.Gateways, o.Processors, o.Writers, o.LakeInterval = 4, 1, 1, 1, 2*time.Minute
			},
			Run: func(ctx context.Context, w *World) error {
				if wait(ctx, 3*time.Minute) != nil {
					return ctx.Err()
				}
				const away, kills = time.Hour, 50
				w.injected("pager_500")
				w.pager.refuse(away)
				n := 0
				repeatedly(ctx, kills, away/kills, func(i int) {
					if w.routers[i%2].kill() {
						n++
					}
				})
				if n < kills {
					return fmt.Errorf("%d kills of %d: %w", n, kills, errNeverCame)
				}
				return nil
			},
		},
	}
}

// plant is a dozen sound machines behind two gateways, so that some share a gateway and a partition.
func plant(o *Options) {
	o.Machines, o.EdgeGateways, o.Sound, o.GroupWait = 12, 2, true, 2*time.Second
}

// together says that no alert was told of by its incident's page alone.
func together(r *Result) error {
	if r.Counts["alerts_told_with_others"] == 0 {
		return fmt.Errorf("an incident: %w", errNeverCame)
	}
	return nil
}

// darken kills a gateway of the plant for two minutes. Its machines come back half a minute after one another, the last of them long after. meanwhile is called every now and then.
func (w *World) darken(ctx context.Context, meanwhile func()) error {
	if wait(ctx, 90*time.Second) != nil { // their rhythm is known
		return ctx.Err()
	}
	w.injected("gateway_dark")
	var dark []*edge
	for _, e := range w.edges {
		if e.gateway == "edge-0" {
			e.cut.Store(true)
			dark = append(dark, e)
		}
	}
	for i := range 14 {
		if wait(ctx, 30*time.Second) != nil {
			return ctx.Err()
		}
		meanwhile()
		if back := i - 4; back >= 0 && back < len(dark)-1 {
			dark[back].cut.Store(false)
		}
	}
	return nil
}
