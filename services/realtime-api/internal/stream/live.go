package stream

import (
	"slices"

	"github.com/tocsin-io/tocsin/services/realtime-api/internal/hub"
	"github.com/tocsin-io/tocsin/services/realtime-api/internal/live"
)

// look is a client's look at a machine's newest values. The writer's goroutine owns it; nil is one that sees nothing.
type look struct {
	watch   *live.Watch
	since   uint64
	like    *channel // whose choice of sensors the watch has
	chosen  bool     // the watch has a choice
	samples []live.Sample
}

// lookAt begins a look; nil where there is nothing for this client to see.
func (c *client) lookAt(id string) *look {
	if see := c.who.Sees(); c.s.cfg.Live == nil || see != nil && !see(id) {
		return nil
	}
	return &look{watch: c.s.cfg.Live.Watch(id)}
}

func (l *look) stop() {
	if l != nil {
		l.watch.Stop()
	}
}

// liveNews is what has come of a machine since the last tick and lies in no window yet.
func (c *client) liveNews(id string, ch *channel) [][]byte {
	l := ch.live
	if l == nil {
		return nil
	}
	var latest *hub.Window
	if ws, _ := c.s.hub.Windows(id, 0, 1); len(ws) > 0 {
		latest = ws[0]
	}
	if m := c.channels[machineTag+id]; m != nil && m.keep != nil {
		if l.like != m {
			l.like, l.chosen = m, true
			l.watch.Keep(m.keep)
		}
	} else if !l.chosen && latest != nil && len(latest.Cells) > maxSensors {
		l.chosen = true
		l.watch.Keep(hub.TopSensors(latest, maxSensors))
	}
	l.samples, l.since = l.watch.Since(l.samples[:0], l.since)
	if latest != nil {
		l.samples = slices.DeleteFunc(l.samples, func(s live.Sample) bool { return s.TimeUS < latest.EndUS })
	}
	if len(l.samples) == 0 {
		return nil
	}
	return [][]byte{liveMessage(id, l.samples)}
}
