package physics

import (
	"math"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

const t0 = 1_780_000_000_000_000 // a Thursday in 2026, microseconds

// run steps a machine once a second and returns the readings by sensor name.
func run(m *Machine, seconds int, condition func(s int) Condition) map[string][]float32 {
	out := map[string][]float32{}
	var v []float32
	for s := range seconds {
		v = m.Step(t0+int64(s)*1e6, condition(s), v[:0])
		for i, sensor := range m.Kind().Sensors() {
			out[sensor.Name] = append(out[sensor.Name], v[i])
		}
	}
	return out
}

func sound(int) Condition { return Condition{} }

func mean(v []float32) float64 {
	sum := 0.0
	for _, x := range v {
		sum += float64(x)
	}
	return sum / float64(len(v))
}

func TestSameSeedSameReadings(t *testing.T) {
	for k := range Kinds {
		a, b := run(New(k, 7, time.Hour), 500, sound), run(New(k, 7, time.Hour), 500, sound)
		other := run(New(k, 8, time.Hour), 500, sound)
		for name := range a {
			if !slices.Equal(a[name], b[name]) {
				t.Errorf("%s: %s differs between two runs", k, name)
			}
			if slices.Equal(a[name], other[name]) && mean(a[name]) != 0 {
				t.Errorf("%s: %s is the same with another seed", k, name)
			}
		}
	}
}

// Whatever the steps, the shift and the trouble: readings are numbers in the transmitter's range, a machine that is off takes no current and
// moves nothing, and energy is never given back.
func TestReadingsStayPhysical(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		kind := Kind(rapid.IntRange(0, int(Kinds)-1).Draw(t, "kind"))
		cycle := time.Duration(rapid.SampledFrom([]int{0, 1, 10, 480}).Draw(t, "cycle")) * time.Minute
		m := New(kind, rapid.Uint64().Draw(t, "seed"), cycle)
		sensors := kind.Sensors()
		now := int64(rapid.IntRange(-1e15, 4e15).Draw(t, "start"))
		energy := 0.0
		var v []float32
		for range rapid.IntRange(1, 100).Draw(t, "steps") {
			now += rapid.Int64Range(-1e6, 600e6).Draw(t, "us")
			c := Condition{Wear: rapid.Float64Range(0, 1).Draw(t, "wear"), Leak: rapid.Float64Range(0, 1).Draw(t, "leak")}
			v = m.Step(now, c, v[:0])
			if len(v) != len(sensors) {
				t.Fatalf("%d readings of %d sensors", len(v), len(sensors))
			}
			for i, s := range sensors {
				x := float64(v[i])
				if math.IsNaN(x) || x < s.Min-1e-3 || x > s.Max*(1+1e-6) {
					t.Fatalf("%s reads %g %s, range is %g to %g", s.Name, x, s.Unit, s.Min, s.Max)
				}
				if m.Regime() == Off && (s.Name == "motor_current" || s.Name == "power") && x != 0 {
					t.Fatalf("off, and %s reads %g", s.Name, x)
				}
				if m.speed == 0 && s.Cutoff > 0 && x != 0 {
					t.Fatalf("standing still, and %s reads %g", s.Name, x)
				}
			}
			if m.Energy() < energy {
				t.Fatalf("energy fell from %g to %g kWh", energy, m.Energy())
			}
			energy = m.Energy()
		}
	})
}

func TestEveryKindHasFiveToTenSensors(t *testing.T) {
	seen := map[string]bool{}
	for k := range Kinds {
		if n := len(k.Sensors()); n < 5 || n > 10 {
			t.Errorf("%s has %d sensors", k, n)
		}
		if seen[k.String()] {
			t.Errorf("two kinds are called %s", k)
		}
		seen[k.String()] = true
		names := map[string]bool{}
		for _, s := range k.Sensors() {
			if names[s.Name] || s.Unit == "" || s.Noise < s.Resolution || s.Rated <= 0 || s.Rated > s.Max {
				t.Errorf("%s: %+v", k, s)
			}
			names[s.Name] = true
		}
	}
}

// A sound machine reads near what is called rated, and no sensor looks stuck.
func TestSoundMachinesReadAsRatedAndAlive(t *testing.T) {
	for k := range Kinds {
		for seed := range uint64(20) {
			got := run(New(k, seed, 0), 600, sound)
			for _, s := range k.Sensors() {
				if m := mean(got[s.Name]); m < 0.5*s.Rated || m > 1.5*s.Rated {
					t.Errorf("%s %d: %s reads %.4g %s, rated is %g", k, seed, s.Name, m, s.Unit, s.Rated)
				}
				same, longest := 1, 1
				for i := 1; i < len(got[s.Name]); i++ {
					if same++; got[s.Name][i] != got[s.Name][i-1] {
						same = 1
					}
					longest = max(longest, same)
				}
				if longest > 6 {
					t.Errorf("%s %d: %s repeats a reading %d times", k, seed, s.Name, longest)
				}
			}
		}
	}
}

// Wear and leak move exactly the sensors that they are said to move: the others are the same to the last bit.
func TestConditionsTouchWhatTheySay(t *testing.T) {
	for k := range Kinds {
		for what, c := range map[string]Condition{"wear": {Wear: 0.8}, "leak": {Leak: 0.8}} {
			touched := map[string][]string{"wear": k.Wears(), "leak": k.Leaks()}[what]
			was := run(New(k, 3, 0), 1200, sound)
			is := run(New(k, 3, 0), 1200, func(s int) Condition {
				if s < 300 {
					return Condition{}
				}
				return c
			})
			for _, s := range k.Sensors() {
				if !slices.Equal(was[s.Name][:300], is[s.Name][:300]) {
					t.Errorf("%s: %s shows %s before it began", k, s.Name, what)
				}
				moved := !slices.Equal(was[s.Name], is[s.Name])
				if said := slices.Contains(touched, s.Name); moved != said {
					t.Errorf("%s: %s moved by %s: %t, said to be: %t", k, s.Name, what, moved, said)
				}
				// In the end the shift is more than noise.
				if d := math.Abs(mean(is[s.Name][900:]) - mean(was[s.Name][900:])); moved && d < s.Noise/3 {
					t.Errorf("%s: %s shifts %s by %g only", k, what, s.Name, d)
				}
			}
		}
	}
}

func TestPumpLeakLowersFlowPressureAndCurrent(t *testing.T) {
	for seed := range uint64(20) {
		got := run(New(Pump, seed, 0), 120, func(s int) Condition { return Condition{Leak: float64(s/60) * 0.9} })
		for _, name := range []string{"flow", "discharge_pressure", "motor_current", "power"} {
			before, after := mean(got[name][:60]), mean(got[name][60:])
			if after > 0.85*before {
				t.Errorf("pump %d: %s went from %.4g to %.4g", seed, name, before, after)
			}
		}
	}
}

func TestWearShowsInVibrationFirstAndInTemperatureLater(t *testing.T) {
	for k := range Kinds {
		got := run(New(k, 5, 0), 1800, func(s int) Condition { return Condition{Wear: 0.8 * min(1, float64(s/60))} })
		vib, temp := got["vibration_x"], got["bearing_temperature"]
		if now := mean(vib[60:90]); now < 3*mean(vib[:60]) {
			t.Errorf("%s: vibration went from %.3g to %.3g", k, mean(vib[:60]), now)
		}
		soon, late := mean(temp[60:80])-mean(temp[:60]), mean(temp[1500:])-mean(temp[:60])
		if late < 15 || soon > late/4 {
			t.Errorf("%s: bearing %.1f C warmer after 20 s, %.1f C after 25 min", k, soon, late)
		}
	}
}

func TestAmbientSwingsByDay(t *testing.T) {
	const midnight = t0 / 86_400_000_000 * 86_400_000_000
	m := New(Fan, 1, 0)
	i := slices.IndexFunc(m.Kind().Sensors(), func(s Sensor) bool { return s.Name == "bearing_temperature" })
	at := map[int]float64{}
	for minute := range 2 * 24 * 60 {
		v := m.Step(midnight+int64(minute)*60e6, Condition{}, nil)
		at[minute%1440/60] = float64(v[i])
	}
	if d := at[16] - at[4]; d < 4 || d > 16 {
		t.Errorf("afternoon is %.1f C warmer than the small hours", d)
	}
}

func TestShiftGoesThroughAllRegimes(t *testing.T) {
	m := New(Compressor, 9, time.Hour)
	count := map[Regime]int{}
	peak := map[Regime]float32{}
	for s := range 3600 {
		v := m.Step(t0+int64(s)*1e6, Condition{}, nil)
		count[m.Regime()]++
		peak[m.Regime()] = max(peak[m.Regime()], v[0])
	}
	for r, share := range map[Regime]float64{Off: 0.16, WarmUp: 0.06, Steady: 0.60, Load: 0.18} {
		if got := float64(count[r]) / 3600; math.Abs(got-share) > 0.01 {
			t.Errorf("%s for %.3f of the shift, want %.2f", r, got, share)
		}
	}
	if !(peak[Off] == 0 && peak[WarmUp] < peak[Load]) {
		t.Errorf("current by regime: %v", peak)
	}
}

func TestStepDoesNotAllocate(t *testing.T) {
	m := New(Pump, 1, time.Hour)
	dst := make([]float32, 0, 16)
	us := int64(t0)
	if n := testing.AllocsPerRun(1000, func() {
		us += 1e6
		dst = m.Step(us, Condition{}, dst[:0])
	}); n != 0 {
		t.Fatalf("%g allocations a step", n)
	}
}

func BenchmarkStep(b *testing.B) {
	m := New(Pump, 1, time.Hour)
	dst := make([]float32, 0, 16)
	b.ReportAllocs()
	for i := range b.N {
		dst = m.Step(t0+int64(i)*1e6, Condition{}, dst[:0])
	}
}
