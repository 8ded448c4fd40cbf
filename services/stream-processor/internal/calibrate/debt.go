package calibrate

import (
	"math"

	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine/codec"
)

// Debt holds a machine to its budget whatever its signals do: pages beyond the budget raise what is demanded of the next one, and a budget not spent lowers
// it a little. It is the integrator of adaptive conformal inference (Gibbs and Candes 2021, "Adaptive conformal inference under distribution shift"), which
// holds the long-run rate for any sequence, in the saturating form of conformal PID control (Angelopoulos, Candes and Tibshirani 2023): a page within
// the budget costs the next one little; pages in excess of it raise the demand by a good part of what it would take to make the likes of them usual, so that
// a machine in which something happens every day pages a few times for it, not every day.
//
// The price: a true fault, too, makes the next one of the same month a little harder to report. 8 bytes.
type Debt struct {
	pages  float32 // pages given beyond the budget; below 0: budget not spent
	strict float32 // logarithm of the factor that the demand has been raised by
}

const (
	pageCost    = 1.0  // surprise that a page adds to the demand on the next, while within the budget
	mostSaved   = 3.0  // pages of the budget that can be saved up
	mostOwed    = 20   // more pages than these are not paid for
	strictStep  = 0.25 // least by which a page in excess raises the logarithm of the demand
	strictShare = 0.25 // of what would make such a page usual
	maxStrict   = 5.0
)

// Demand is what a calibrated surprise must reach, where asked is enough for a machine without debt.
func (d *Debt) Demand(asked float64) float64 {
	return (asked + pageCost*min(float64(d.pages), 1)) * math.Exp(float64(d.strict))
}

// Paged takes a page of calibrated surprise t, asked as for Demand.
func (d *Debt) Paged(t, asked float64) {
	d.pages = min(d.pages+1, mostOwed)
	if d.pages <= 1 {
		return
	}
	far := math.Log(max(t/d.Demand(asked), 1))
	d.strict = float32(min(float64(d.strict)+max(strictStep, strictShare*far), maxStrict))
}

// Explained forgives most of the debt: it is known now why the machine paged. One page stays, so that the next one is in excess.
func (d *Debt) Explained() {
	d.pages = min(d.pages, 1)
	d.strict /= 2
}

// Passed takes the time of a window: months of 30 days.
func (d *Debt) Passed(months, budget float64) {
	d.pages = max(d.pages-float32(months*budget), -mostSaved)
	d.strict = max(0, d.strict-float32(months*budget*strictStep))
}

// DebtSize is the number of bytes that AppendState appends.
const DebtSize = 8

// AppendState appends the DebtSize bytes of d.
func (d *Debt) AppendState(dst []byte) []byte {
	return codec.AppendF32(codec.AppendF32(dst, d.pages), d.strict)
}

// RestoreState is the inverse of AppendState.
func (d *Debt) RestoreState(r *codec.Reader) {
	*d = Debt{pages: r.F32(), strict: r.F32()}
	if !(d.pages >= -mostSaved && d.pages <= mostOwed && d.strict >= 0 && d.strict <= maxStrict) {
		r.Fail("debt out of range")
	}
}
