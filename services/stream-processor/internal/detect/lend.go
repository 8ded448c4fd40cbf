package detect

// Usual is what a detector holds to be usual of one statistic of one sensor.
type Usual struct {
	Mean, Variance float64
	Count          float64 // values in a window
}

// Lender is a detector whose idea of the usual others can begin with.
type Lender interface {
	// Usual is false while too little is known of the sensor.
	Usual(slot int) (Usual, bool)
	// Borrow begins a sensor of which nothing was learned with u, as if it had been learned from some windows: what the sensor does soon outweighs it.
	Borrow(slot int, u Usual)
}

// borrowed is the number of windows that a loan is worth: as many as make learning robust against outliers.
const borrowed = clipFrom

func (b *baseline) usual() (Usual, bool) {
	return Usual{Mean: b.mean(), Variance: b.variance(), Count: float64(b.count)}, b.n >= minMemory
}

func (b *baseline) borrow(u Usual) {
	*b = baseline{count: float32(u.Count), n: borrowed}
	b.set(u.Mean, u.Variance)
}

func (d *ewma) Usual(slot int) (Usual, bool) { return d.sensors[slot].base.usual() }

func (d *ewma) Borrow(slot int, u Usual) {
	e := &d.sensors[slot]
	if e.base.n > 0 {
		return
	}
	e.base.borrow(u)
	at := float32(u.Mean)
	e.chart, e.usual, e.last = doubled(u.Mean), at, [2]float32{at, at}
	// Where this machine lies among its sisters does not average out over windows.
	e.wander = float32(min(u.Variance, 1e30))
}

func (d *spread) Usual(slot int) (Usual, bool) { return d.sensors[slot].usual() }

func (d *spread) Borrow(slot int, u Usual) {
	if b := &d.sensors[slot]; b.n == 0 {
		b.borrow(u)
	}
}
