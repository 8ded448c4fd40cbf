package fault

import (
	"errors"
	"math"
	"slices"
	"strings"
	"time"
)

// New is a fault of a kind with its defaults.
func New(id string, k Kind) Fault {
	f := Fault{ID: id, Kind: k}
	if t, ok := traitsOf(k); ok && t.defaults != nil {
		t.defaults(&f)
	}
	return f
}

func kindList() string {
	var names []string
	for _, k := range Kinds() {
		names = append(names, string(k))
	}
	return strings.Join(names, ", ")
}

// validate checks what needs no fleet.
func (f *Fault) validate() error {
	t, ok := traitsOf(f.Kind)
	if !ok {
		return f.errorf("unknown kind %q, must be one of %s", f.Kind, kindList())
	}
	var errs []error
	bad := func(wrong bool, format string, args ...any) {
		if wrong {
			errs = append(errs, f.errorf(format, args...))
		}
	}
	bad(f.Start < 0, "start is %s, must not be negative", f.Start)
	bad(f.Duration < 0, "duration is %s, must not be negative", f.Duration)
	bad(f.Start > math.MaxInt64-f.Duration, "start and duration are too long")
	bad(f.Ramp < 0, "ramp is %s, must not be negative", f.Ramp)
	bad(f.Ramp > 0 && !t.ramp, "%s does not grow: no ramp", f.Kind)
	bad(len(f.Machines) > 0 && !t.machines, "%s concerns gateways: name gateways, not machines", f.Kind)
	bad(len(f.Gateways) > 0 && !t.gateways, "%s concerns machines: name machines, not gateways", f.Kind)
	bad(len(f.Machines)+len(f.Gateways) == 0, "%s", map[bool]string{true: "no machines named", false: "no gateways named"}[t.machines])
	bad(t.sensors && len(f.Sensors) == 0, "%s concerns sensors: name them", f.Kind)
	bad(!t.sensors && len(f.Sensors) > 0, "%s concerns the whole machine: no sensors", f.Kind)
	bad(hasTwice(f.Sensors), "a sensor is named twice")
	bad(!t.magnitude && f.Magnitude != 0, "%s has no magnitude", f.Kind)
	bad(math.IsNaN(f.Magnitude) || math.Abs(f.Magnitude) > 1e9, "magnitude is %g, no sensible number", f.Magnitude)
	bad(t.magnitude && f.Magnitude == 0, "magnitude is 0: that is no fault")
	if t.check != nil {
		if err := t.check(f.Magnitude); err != nil {
			errs = append(errs, f.errorf("%w", err))
		}
	}
	return errors.Join(errs...)
}

func hasTwice(names []string) bool {
	sorted := slices.Sorted(slices.Values(names))
	return len(slices.Compact(sorted)) != len(names)
}

// Validate checks all that needs no fleet.
func (p Plan) Validate() error {
	var errs []error
	for i := range p.Faults {
		errs = append(errs, p.Faults[i].validate())
	}
	return errors.Join(errs...)
}

// shifted moves every start.
func (p Plan) shifted(by time.Duration) Plan {
	for i := range p.Faults {
		p.Faults[i].Start += by
	}
	return p
}
