// Package breaker keeps a detector that has failed from judging: one for each detector of a machine, made when it first fails.
//
//	closed --failure--> open --Wait windows--> trial --Trial windows without a failure--> closed
//	                     ^                       |
//	                     +-------failure, twice the wait, 64 times at most
//
// While it is open the detector is not asked (but for one that drifted, whose word does not count); on trial it is asked and taught, and its word does not count. What counts time is the machine's closed windows, so the same log opens and
// closes it at the same places. The pattern is Nygard's (2007, "Release It!").
//
// Nothing here does I/O or reads a clock. 32 bytes.
package breaker

import (
	"fmt"

	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine/codec"
)

// Cause is why a breaker opened.
type Cause uint8

// Causes. Their numbers stand in snapshots.
const (
	None      Cause = iota
	Panic           // the detector panicked
	NotFinite       // it said something that is no number
	Mute            // it had an opinion and has none any more, though all values are there
	Memory          // it would hold more than it may
	Drift           // by itself it would give more pages than the budget, and no other agrees
	causes
)

// String is the cause as it stands in records and metrics.
func (c Cause) String() string {
	if c >= causes {
		return "unknown"
	}
	return [causes]string{"none", "panic", "not_finite", "mute", "memory", "drift"}[c]
}

// Text says it to a human, after the detector's name.
func (c Cause) Text() string {
	if c >= causes {
		return "has failed"
	}
	return [causes]string{
		"is well", "has failed (it panicked)", "has failed (it computed something that is no number)", "has gone mute",
		"was refused (it would need more memory than a detector may have)", "was set aside (by itself it pages more than the budget, and no other agrees)",
	}[c]
}

// Config of all breakers.
type Config struct {
	Wait        int `mapstructure:"wait" doc:"closed windows of the machine for which a detector that failed is not asked; twice as many after each further failure, up to 64 times"`
	Trial       int `mapstructure:"trial" doc:"closed windows after that for which it is asked and taught, and its word does not count"`
	MuteWindows int `mapstructure:"mute_windows" doc:"windows in a row without an opinion, though it had one before and every sensor has values, after which a detector counts as failed; 0: never"`
	DriftPages  int `mapstructure:"drift_pages" doc:"a learned model (statistics are exempt) is set aside once it alone would have given this many pages beyond the machine's budget: 0: never, because sound machines of heavy tails reach 100 in a month"`
	MaxBytes    int `mapstructure:"max_detector_bytes" doc:"most memory that one detector of one machine may hold; one that would hold more for the machine's sensors is refused"`
	MachineMax  int `mapstructure:"max_machine_bytes" doc:"most memory that one machine may hold for its sensors; sensors beyond it are stored only"`
}

// DefaultConfig is what ships: an hour aside and ten minutes on trial, with windows of 5 s.
func DefaultConfig() Config {
	return Config{Wait: 720, Trial: 120, MuteWindows: 120, DriftPages: 0, MaxBytes: 64 << 20, MachineMax: 512 << 20}
}

// Validate names the field that is wrong.
func (c Config) Validate() error {
	for _, f := range []struct {
		name       string
		v, lo, top int
	}{
		{"wait", c.Wait, 1, 1_000_000},
		{"trial", c.Trial, 1, 1_000_000},
		{"mute_windows", c.MuteWindows, 0, 10_000},
		{"drift_pages", c.DriftPages, 0, 10_000},
		{"max_detector_bytes", c.MaxBytes, 1 << 10, 1 << 40},
		{"max_machine_bytes", c.MachineMax, 16 << 10, 1 << 40},
	} {
		if f.v < f.lo || f.v > f.top {
			return fmt.Errorf("%s: %d is not in %d..%d", f.name, f.v, f.lo, f.top)
		}
	}
	return nil
}

type phase uint8

const (
	closed phase = iota
	open
	trial
	phases
)

const mostDoublings = 6

// Breaker of one detector. The zero value is closed. A nil one is as well: most detectors never need more.
type Breaker struct {
	phase   phase
	cause   Cause
	trips   uint8   // failures since it was last trusted for as long as it was set aside
	inPage  bool    // in a stretch in which the detector alone would page
	mute    uint16  // windows in a row
	left    uint32  // windows until the next phase; closed: until the failures are forgotten
	sinceUS int64   // event time of the first of those failures
	alone   float32 // pages that it alone would have given, less what the budget allows
}

// Counts tells whether the detector's word counts.
func (b *Breaker) Counts() bool { return b == nil || b.phase == closed }

// Asked tells whether the detector is asked and taught. One that drifted is: it may find back by what it learns.
func (b *Breaker) Asked() bool { return b == nil || b.phase != open || b.cause == Drift }

// OnTrial tells whether it is asked and does not count.
func (b *Breaker) OnTrial() bool { return b != nil && b.phase == trial }

// Cause is why it does not count; None when it does.
func (b *Breaker) Cause() Cause {
	if b.Counts() {
		return None
	}
	return b.cause
}

// SinceUS is the event time of the failure.
func (b *Breaker) SinceUS() int64 { return b.sinceUS }

// Left is the number of closed windows until it is asked again or, on trial, trusted again.
func (b *Breaker) Left() uint32 { return b.left }

// Trip takes a failure, in the window that starts there.
func (b *Breaker) Trip(c *Config, why Cause, atUS int64) {
	if b.trips == 0 {
		b.sinceUS = atUS
	}
	b.phase, b.cause, b.mute, b.alone, b.inPage = open, why, 0, 0, false
	b.left = b.wait(c)
	b.trips = min(b.trips+1, mostDoublings+1)
}

func (b *Breaker) wait(c *Config) uint32 { return uint32(c.Wait) << min(b.trips, mostDoublings) }

// Passed takes a closed window in which nothing failed. begin says that a trial begins with the next one. It returns whether the breaker has nothing to remember any more.
func (b *Breaker) Passed(c *Config) (begin, done bool) {
	if b.left > 0 {
		b.left--
	}
	if b.left > 0 {
		return false, false
	}
	switch b.phase {
	case open:
		b.phase, b.left = trial, uint32(c.Trial)
		return true, false
	case trial:
		b.phase = closed
		b.left = b.wait(c) // what fails again within that was not mended
		return false, false
	}
	b.trips, b.cause = 0, None
	return false, b.alone == 0 && b.mute == 0
}

// Spoke takes whether the detector had an opinion in a window in which it should have; it is true when it has been mute for too long.
func (b *Breaker) Spoke(c *Config, spoke bool) bool {
	if spoke || c.MuteWindows == 0 {
		b.mute = 0
		return false
	}
	b.mute++
	return int(b.mute) >= c.MuteWindows
}

// Alone takes whether the detector by itself would page in a window while no other finds anything, and how many pages the budget allows for a window. A stretch of
// such windows is one page. It is true when that was too often.
func (b *Breaker) Alone(c *Config, pages bool, perWindow float64) bool {
	begins := pages && !b.inPage
	b.inPage = pages
	b.alone = max(0, b.alone-float32(perWindow))
	if begins {
		b.alone++
	}
	return c.DriftPages > 0 && b.alone >= float32(c.DriftPages)
}

// AppendState appends the state of b, which must not be nil.
func (b *Breaker) AppendState(dst []byte) []byte {
	dst = append(dst, byte(b.phase), byte(b.cause), b.trips)
	dst = codec.AppendBool(dst, b.inPage)
	dst = codec.AppendU32(dst, uint32(b.mute))
	dst = codec.AppendU32(dst, b.left)
	dst = codec.AppendI64(dst, b.sinceUS)
	return codec.AppendF32(dst, b.alone)
}

// StateSize is the number of bytes that AppendState appends.
const StateSize = 3 + 1 + 4 + 4 + 8 + 4

// RestoreState is the inverse of AppendState.
func (b *Breaker) RestoreState(r *codec.Reader) {
	*b = Breaker{phase: phase(r.U8()), cause: Cause(r.U8()), trips: r.U8(), inPage: r.Bool()}
	mute := r.U32()
	b.mute, b.left, b.sinceUS, b.alone = uint16(mute), r.U32(), r.I64(), r.F32()
	const far = 1 << 61
	if b.phase >= phases || b.cause >= causes || b.trips > mostDoublings+1 || mute > 1<<15 || !(b.alone >= 0 && b.alone <= 1e6) || b.sinceUS > far || b.sinceUS < -far {
		r.Fail("breaker out of range")
		*b = Breaker{}
	}
}
