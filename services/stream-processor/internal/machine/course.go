package machine

import (
	"math"

	"github.com/tocsin-io/tocsin/services/stream-processor/internal/detect"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine/codec"
)

// course knows how fast a sensor's level usually moves: with the weather, the load, the age of a filter. While nothing is learned (an episode is open, the
// machine is silent) what was learned grows stale, and a deviation no larger than the sensor's usual course over that time is no evidence. Without it, the
// first fault that lasts for hours would never end: by then the afternoon is warmer than the morning was.
//
// The level is a running mean; every courseSteps windows its move is compared with the noise about it, and what is more than noise counts. The move
// grows in proportion to time, as smooth ones do, up to a quarter of a day, when a daily one turns. 20 bytes.
type course struct {
	level, noise float32 // running mean, and mean square about it
	anchor       float32 // the level courseSteps windows ago
	move         float32 // mean square of the level's moves, beyond noise
	n            uint16  // windows since the anchor
	moves        uint16  // moves seen, and the first anchor
}

const (
	courseSteps  = 256
	courseMemory = 1.0 / 32
	mostMoves    = 32
	// A running mean of that memory has a 32nd of the noise of independent windows; neighbours are not independent.
	courseNoise  = 0.5
	courseClip   = 4 // a jump to another load is not the course of a level
	quarterDayUS = 6 * 3600 * 1e6
)

func (c *course) learn(x float32) {
	if c.n == 0 && c.moves == 0 && c.level == 0 && c.noise == 0 {
		c.level, c.anchor = x, x
	}
	d := x - c.level
	c.level += d * courseMemory
	c.noise += (min(d*d, 1e30) - c.noise) * courseMemory
	if c.n++; c.n < courseSteps {
		return
	}
	if d = c.level - c.anchor; c.moves > 0 { // the first anchor was a single window, no level
		move := max(0, min(d*d, 1e30)-courseNoise*c.noise)
		if c.moves > 4 {
			move = min(move, courseClip*c.move+courseNoise*c.noise)
		}
		c.move += (move - c.move) / float32(c.moves)
	}
	c.moves = min(c.moves+1, mostMoves)
	c.anchor, c.n = c.level, 0
}

// variance is what the level may have moved by in that many windows.
func (c *course) variance(windows float64) float64 {
	w := windows / courseSteps
	return float64(c.move) * w * w
}

// followCourse lets every sensor's course take a window that is learned from.
func (m *Machine) followCourse(w *detect.Window) {
	for i := range w.Values {
		if v := &w.Values[i]; v.Count > 0 && math.Abs(v.Mean) < 1e15 {
			m.sensors[i].course.learn(float32(v.Mean))
		}
	}
}

// stale is the number of windows by which what is usual lags behind: those that could have been learned from and were not, and what the windows learned from
// since have not made up for. At most a quarter of a day's.
func (m *Machine) stale(startUS int64) float64 {
	if m.learned == 0 || m.periodUS == 0 {
		return 0
	}
	age := float64(startUS-m.learnedUS)/m.windowUS() - float64(m.cfg.KeptWindows+mostHeld)
	return max(0, min(m.behind+max(0, age), quarterDayUS/m.windowUS()))
}

// catchUp takes note of a window that is learned from. Baselines forget over some dozens of windows, not at once.
func (m *Machine) catchUp(startUS int64) {
	const makesUp = 1.0 / 32
	m.behind = m.stale(startUS) * (1 - makesUp)
	m.learnedUS = startUS
}

func (c *course) appendState(dst []byte) []byte {
	for _, v := range [...]float32{c.level, c.noise, c.anchor, c.move} {
		dst = codec.AppendF32(dst, v)
	}
	return codec.AppendU32(dst, uint32(c.n)<<16|uint32(c.moves))
}

func (c *course) restoreState(r *codec.Reader) {
	*c = course{level: r.F32(), noise: r.F32(), anchor: r.F32(), move: r.F32()}
	n := r.U32()
	c.n, c.moves = uint16(n>>16), uint16(n)
	if !(c.noise >= 0 && c.move >= 0 && c.move <= 1e30) || c.level-c.level != 0 || c.anchor-c.anchor != 0 {
		r.Fail("course out of range")
	}
}
