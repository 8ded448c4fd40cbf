package coverage

import (
	"fmt"
	"strconv"
	"time"
)

// Heard is when a machine was last heard of, in log time.
type Heard struct {
	LastMS     int64
	IntervalMS int64 // its usual interval; 0: not known
	Known      bool  // its rhythm is
}

// burstMS is how far apart the last signs of life of machines behind one gateway may be beside their rhythm.
const burstMS = 1000

// duePatienceMS is how long after its last frame something should have come from the machine.
func (h *Heard) duePatienceMS(minMS int64) int64 { return max(2*h.IntervalMS+burstMS, minMS/2) }

// Gateway is what the machines behind one gateway say of it together: whether it fell silent, or only some of them did. Give it all machines whose newest frame it
// brought, first to Hear and then to Count. The judgement is about one partition of the log and one moment.
//
// A gateway is silent when machines stopped together that should have been heard by now, and since then nothing came from anybody behind it. Two are needed: of a single
// machine nobody can tell.
type Gateway struct {
	machines, stopped int
	lastMS            int64 // its last sign of life
	quietMS           int64 // shortest patience of those that stopped
}

// Hear takes one machine's last sign of life.
func (g *Gateway) Hear(h Heard) {
	if g.machines == 0 || h.LastMS > g.lastMS {
		g.lastMS = h.LastMS
	}
	g.machines++
}

// Count takes the same machine again, once all were heard.
func (g *Gateway) Count(h Heard, nowMS, minMS int64) {
	if g.With(h, nowMS, minMS) {
		g.stopped++
		if due := h.duePatienceMS(minMS); g.quietMS == 0 || due < g.quietMS {
			g.quietMS = due
		}
	}
}

// With tells whether a machine stopped when the gateway did.
func (g *Gateway) With(h Heard, nowMS, minMS int64) bool {
	due := h.duePatienceMS(minMS)
	return h.Known && nowMS-h.LastMS >= due && g.lastMS-h.LastMS <= due
}

// Silent tells whether the gateway is, and how many machines fell silent with it.
func (g *Gateway) Silent(nowMS int64) (machines int, ok bool) {
	return g.stopped, g.stopped >= 2 && nowMS-g.lastMS >= g.quietMS
}

// Machines is the number of machines behind it.
func (g *Gateway) Machines() int { return g.machines }

// LastMS is its last sign of life in log time.
func (g *Gateway) LastMS() int64 { return g.lastMS }

// SilentText says it to a human.
func (g *Gateway) SilentText(id string, nowMS int64) string {
	text := fmt.Sprintf("gateway %s is silent: %d machines behind it", strconv.Quote(id), g.stopped)
	if g.machines > g.stopped {
		text += fmt.Sprintf(" (of %d)", g.machines)
	}
	return text + ", nothing heard for " + (time.Duration(nowMS-g.lastMS) * time.Millisecond).Round(time.Second).String() + "; nothing about them can be judged"
}
