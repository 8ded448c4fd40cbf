// Package detect holds the detectors: what each believes of a machine's sensors, behind one interface.
//
// The order is always score, then learn: a detector says what it thinks of a window before it may learn from it, and it learns with a lag, so
// that what leads up to a fault is not learned either. Detectors are deterministic (no clock, no random source, no map order), own their memory, and are used by one goroutine at a time.
//
// To add one: write a file with a type that implements Detector and a doc comment that names the paper or
// textbook, and add its line to Builtin. Tests over Builtin hold it to the rules above.
package detect

import (
	"slices"

	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine/codec"
)

// Value is one sensor in a closed window. Count is 0 when it had no usable value; the statistics are then NaN.
type Value struct {
	Mean, Stddev, Min, Max float64
	// Resolution is the smallest difference ever seen between two neighbouring values of the sensor, 0 while it never changed. No
	// statistic of the sensor can be known better than that.
	Resolution float64
	// Drift is the variance by which the mean may have wandered off since the sensor was last learned from, for what is normal moves on while
	// learning is frozen; 0 while it is not. Deviations from what was learned are to be held against it as well.
	Drift float64
	Count uint32
}

// Window is one machine's closed window: the observation vector of all its sensors, by slot. A sensor keeps its slot for ever.
type Window struct {
	StartUS, EndUS int64
	Values         []Value

	scratch []float64
}

// floats are n numbers of any value, for as long as the detector works on w.
func (w *Window) floats(n int) []float64 {
	if n > cap(w.scratch) {
		w.scratch = make([]float64, n)
	}
	return w.scratch[:n]
}

// Level is how far a value is beyond a fixed limit.
type Level uint8

// Levels of Scores.Level.
const (
	Within Level = iota
	Warning
	Critical
)

// Scores is what one detector says of one window, by slot. The slices have the length of Window.Values.
type Scores struct {
	// Surprise is -ln of the p-value that the detector's own model gives: 0 is usual, 7 happens once in
	// a thousand windows if the model is right. The calibration corrects it by what really happened. NaN: no opinion.
	Surprise []float32
	// Low and High are the band the detector expected its feature in; NaN: none.
	Low, High []float32
	// Level is for detectors of fixed limits only; others leave it at Within.
	Level []Level
	// Joint is the surprise of the vector as a whole, for multivariate detectors; NaN: no opinion.
	Joint float32
	// Share is how much each sensor contributed to Joint: they sum to 1, or are all 0 when that cannot be told. Detectors whose Surprise tells of
	// each sensor leave it alone. It has no length when nobody asks.
	Share []float32
}

// Detector is one way to find the unusual. Implementations are bound to one machine.
type Detector interface {
	// Grow tells the names of all sensors, by slot, whenever there are new ones. It never shrinks.
	Grow(sensors []string)
	// Score judges w against what is known so far and changes nothing. It fills s, whose slices are sized and preset to "no opinion";
	// it must not keep w or s, and must not allocate.
	Score(w *Window, s *Scores)
	// Follow moves on past w, right after Score: once for every window, in order. It must not change what the detector holds to be usual, only what
	// follows the signal whatever happens, such as a chart's running mean. It must not allocate.
	Follow(w *Window)
	// Learn takes w into what is usual. It comes some windows later than Score and Follow, when it is known that w did not lead up to an episode; for a window
	// that did it never comes. Sensors without usable values are not learned from. It must not allocate.
	Learn(w *Window)
	// AppendState appends all that Score, Follow and Learn depend on, except the configuration and the sensors' names.
	AppendState(dst []byte) []byte
	// RestoreState is its inverse, into a new detector that was told all sensors. It leaves errors in r.
	RestoreState(r *codec.Reader)
}

// Spec describes a detector.
type Spec struct {
	Name string
	// Feature is what Low, High and an observed value of this detector mean: the window's mean or its stddev.
	Feature Feature
	// Fixed detectors speak by Level and need neither learning nor calibration.
	Fixed bool
	// Yields: what it says of a sensor does not count while a detector has an opinion of all sensors together, which says the same and more; evidence must not
	// count twice.
	Yields bool
	// Narrow: its opinion of sensors together is of some of them, and no finer than it was made; nobody yields to it.
	Narrow bool
	// Together: it has an opinion of all sensors together only; each has a share in it.
	Together bool
	// Shadow: what it says is calibrated and counted, and has no part in any judgement.
	Shadow bool
	New    func(*Config) Detector
}

// Sensors tells whether its opinions of single sensors are calibrated.
func (s *Spec) Sensors() bool { return !s.Fixed && !s.Together }

// Feature names a statistic of a window.
type Feature uint8

// Features that detectors judge.
const (
	Mean Feature = iota
	Stddev
)

// Of returns the feature of v.
func (f Feature) Of(v *Value) float64 {
	if f == Stddev {
		return v.Stddev
	}
	return v.Mean
}

// builtin is a constant table.
var builtin = [...]Spec{
	{Name: "limits", Feature: Mean, Fixed: true, New: newLimits},
	{Name: "ewma", Feature: Mean, Yields: true, New: newEWMA},
	{Name: "robust_z", Feature: Mean, Yields: true, New: newRobustZ},
	{Name: "spread", Feature: Stddev, New: newSpread},
	{Name: "pca", Feature: Mean, New: newPCA},
	{Name: "cusum", Feature: Mean, New: newCUSUM},
	{Name: "seasonal", Feature: Mean, New: newSeasonal},
	{Name: "iforest", Feature: Mean, New: newIsolation},
	{Name: "knn", Feature: Mean, New: newKNN},
	{Name: "lof", Feature: Mean, New: newLOF},
	{Name: "halfspace", Feature: Mean, New: newHalfSpace},
	{Name: "one_class", Feature: Mean, New: newOneClass},
	{Name: "rrcf", Feature: Mean, New: newCutForest},
	{Name: "day_shape", Feature: Mean, New: newDayShape},
	{Name: CohortName, Feature: Mean, Narrow: true, Together: true, New: newSisters},
	{Name: Champion, Feature: Mean, Narrow: true, New: newChampion},
	{Name: Shadow, Feature: Mean, Shadow: true, New: newShadow},
}

// Builtin lists every detector there is. The order is that of the configuration reference; Config.Detectors chooses.
func Builtin() []Spec { return slices.Clone(builtin[:]) }

func specOf(name string) (*Spec, bool) {
	for i := range builtin {
		if builtin[i].Name == name {
			return &builtin[i], true
		}
	}
	return nil, false
}

// Names are the detectors that there are.
func Names() []string {
	out := make([]string, len(builtin))
	for i := range builtin {
		out[i] = builtin[i].Name
	}
	return out
}

// Specs are the detectors that the configuration, which must be valid, puts in use, in its order. They are shared and must not be changed.
func (c *Config) Specs() []*Spec {
	out := make([]*Spec, 0, len(c.Detectors))
	for _, name := range c.Detectors {
		if s, ok := specOf(name); ok && (!s.Fixed || len(c.Limits) > 0) { // fixed limits that nobody gave would only cost memory
			out = append(out, s)
		}
	}
	return out
}
