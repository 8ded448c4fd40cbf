package fleet

import (
	"math"
	"os"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/tocsin-io/tocsin/services/fleet-simulator/internal/fault"
	"github.com/tocsin-io/tocsin/services/fleet-simulator/internal/physics"
)

const t0 = 1_780_000_000_000_000

// history of a fleet sampled once a second: encoded frames by machine (nil where silent), and all truths.
type history struct {
	values map[string][][]float32
	times  map[string][]int64
	seqs   map[string][]uint64
	bytes  [][]byte
	truths []Truth
}

func simulate(t *testing.T, cfg Config, plan fault.Plan, seconds int) history {
	t.Helper()
	f, err := New(cfg, plan)
	if err != nil {
		t.Fatal(err)
	}
	h := history{values: map[string][][]float32{}, times: map[string][]int64{}, seqs: map[string][]uint64{}}
	targets := Targets(cfg.Machines, cfg.Gateways)
	for s := range seconds {
		for i := range f.Len() {
			name := targets[i].Machine
			got := f.Sample(i, t0+int64(s)*1e6, time.Duration(s)*time.Second)
			h.truths = append(h.truths, got.Truths...)
			if got.Frame == nil {
				h.values[name] = append(h.values[name], nil)
				h.times[name] = append(h.times[name], 0)
				h.seqs[name] = append(h.seqs[name], 0)
				continue
			}
			h.values[name] = append(h.values[name], slices.Clone(got.Frame.Values))
			h.times[name] = append(h.times[name], got.Frame.BaseTimeUs)
			h.seqs[name] = append(h.seqs[name], got.Frame.Sequence)
			b, err := proto.MarshalOptions{Deterministic: true}.Marshal(got.Frame)
			if err != nil {
				t.Fatal(err)
			}
			h.bytes = append(h.bytes, b)
		}
	}
	h.truths = append(h.truths, f.Stop(t0+int64(seconds)*1e6)...)
	return h
}

var small = Config{Machines: 10, Gateways: 2, Seed: 42}

func TestSameSeedSameBytes(t *testing.T) {
	cfg := Config{Machines: 25, Gateways: 3, Seed: 5, Cycle: 10 * time.Minute}
	plan := func() fault.Plan { return fault.Auto(Targets(25, 3), 5, 10*time.Second, 5*time.Second, 5*time.Minute) }
	a, b := simulate(t, cfg, plan(), 300), simulate(t, cfg, plan(), 300)
	if !slices.EqualFunc(a.bytes, b.bytes, slices.Equal[[]byte]) {
		t.Fatal("two runs gave different frames")
	}
	if len(a.truths) < 20 || len(a.truths) != len(b.truths) {
		t.Fatalf("%d and %d truths", len(a.truths), len(b.truths))
	}
	cfg.Seed = 6
	if c := simulate(t, cfg, plan(), 300); slices.EqualFunc(a.bytes, c.bytes, slices.Equal[[]byte]) {
		t.Fatal("another seed gave the same frames")
	}
}

// Each kind of fault: seen in the sensors and machines it names, during its time, and nowhere else; and the truth says exactly that.
func TestFaultsShowWhereTheyAreAndNowhereElse(t *testing.T) {
	const from, until, seconds = 60, 120, 180
	base := simulate(t, small, fault.Plan{}, seconds)
	column := func(h history, machine, sensor string) []float32 {
		i := slices.IndexFunc(kindOf(machine).Sensors(), func(s physics.Sensor) bool { return s.Name == sensor })
		var out []float32
		for _, v := range h.values[machine] {
			if v == nil {
				out = append(out, float32(math.Inf(-1)))
				continue
			}
			out = append(out, v[i])
		}
		return out
	}
	for _, tc := range []struct {
		kind     fault.Kind
		machines []string
		gateways []string
		sensors  []string // named in the plan
		change   func(*fault.Fault)
		touched  []string // nil: all
		lasting  bool     // the machine remembers (temperature) after the end
		check    func(t *testing.T, h history)
	}{
		{kind: fault.BearingWear, machines: []string{"pump-0001"}, touched: physics.Pump.Wears(), lasting: true, check: func(t *testing.T, h history) {
			v := column(h, "pump-0001", "vibration_x")
			if v[until-1] < 2*v[from-1] || v[until+5] > 2*v[from-1] {
				t.Errorf("vibration %g, %g, %g", v[from-1], v[until-1], v[until+5])
			}
		}},
		{kind: fault.Leak, machines: []string{"pump-0002"}, touched: physics.Pump.Leaks(), lasting: true, check: func(t *testing.T, h history) {
			if v := column(h, "pump-0002", "flow"); v[until-1] > 0.9*v[from-1] || v[until] < 0.9*v[from-1] {
				t.Errorf("flow %g, %g, %g", v[from-1], v[until-1], v[until])
			}
		}},
		{kind: fault.SensorStuck, machines: []string{"fan-0001"}, sensors: []string{"speed_rpm", "power"}, touched: []string{"speed_rpm", "power"}, check: func(t *testing.T, h history) {
			for _, s := range []string{"speed_rpm", "power"} {
				v := column(h, "fan-0001", s)
				for i := from; i < until; i++ {
					if v[i] != v[from-1] {
						t.Fatalf("%s stuck at %g reads %g", s, v[from-1], v[i])
					}
				}
			}
		}},
		{kind: fault.Spike, machines: []string{"fan-0002"}, sensors: []string{"air_flow"}, touched: []string{"air_flow"}, change: func(f *fault.Fault) { f.Duration = 0 }, check: func(t *testing.T, h history) {
			is, was := column(h, "fan-0002", "air_flow"), column(base, "fan-0002", "air_flow")
			for i := range is {
				if want := map[bool]float32{true: 14000}[i == from]; math.Abs(float64(is[i]-was[i]-want)) > 10 {
					t.Fatalf("second %d: %g instead of %g", i, is[i], was[i])
				}
			}
		}},
		{kind: fault.Drift, machines: []string{"conveyor-0001"}, sensors: []string{"belt_speed"}, touched: []string{"belt_speed"}, change: func(f *fault.Fault) { f.Magnitude, f.Ramp = 0.5, 60*time.Second }, check: func(t *testing.T, h history) {
			is, was := column(h, "conveyor-0001", "belt_speed"), column(base, "conveyor-0001", "belt_speed")
			if half := float64(is[90] - was[90]); math.Abs(half-0.4) > 0.01 {
				t.Errorf("drifted by %g m/s half way, want 0.4", half)
			}
		}},
		{kind: fault.Silence, machines: []string{"spindle-0001"}, check: func(t *testing.T, h history) {
			if a, b := h.seqs["spindle-0001"][from-1], h.seqs["spindle-0001"][until]; b != a+1 {
				t.Errorf("sequence goes from %d to %d", a, b)
			}
		}},
		{kind: fault.ClockWrong, machines: []string{"pump-0001", "pump-0002"}, change: func(f *fault.Fault) { f.Magnitude = -600 }},
		{kind: fault.ClockWrong, gateways: []string{"gw-002"}},
		{kind: fault.GatewayDown, gateways: []string{"gw-001"}},
	} {
		name := string(tc.kind)
		if len(tc.gateways) > 0 {
			name += " of a gateway"
		}
		t.Run(name, func(t *testing.T) {
			f := fault.New("f", tc.kind)
			f.Machines, f.Gateways, f.Sensors = tc.machines, tc.gateways, tc.sensors
			f.Start, f.Duration = from*time.Second, (until-from)*time.Second
			if tc.change != nil {
				tc.change(&f)
			}
			end := until
			if f.Duration == 0 {
				end = from + 1
			}
			h := simulate(t, small, fault.Plan{Faults: []fault.Fault{f}}, seconds)
			var hit []string
			for _, target := range Targets(small.Machines, small.Gateways) {
				m := target.Machine
				mine := slices.Contains(tc.machines, m) || slices.Contains(tc.gateways, target.Gateway)
				if mine {
					hit = append(hit, m)
				}
				for s := range seconds {
					during := mine && s >= from && s < end
					silent := during && (tc.kind == fault.Silence || tc.kind == fault.GatewayDown)
					if (h.values[m][s] == nil) != silent {
						t.Fatalf("%s, second %d: silent: %t, want %t", m, s, h.values[m][s] == nil, silent)
					}
					if silent {
						continue
					}
					shift := h.times[m][s] - base.times[m][s]
					if want := map[bool]int64{true: int64(f.Magnitude * 1e6)}[during && tc.kind == fault.ClockWrong]; shift != want {
						t.Fatalf("%s, second %d: time is off by %d us, want %d", m, s, shift, want)
					}
					for i, sensor := range target.Kind.Sensors() {
						may := mine && s >= from && slices.Contains(tc.touched, sensor.Name) && (during || tc.lasting)
						if !may && h.values[m][s][i] != base.values[m][s][i] {
							t.Fatalf("%s, second %d: %s reads %g instead of %g", m, s, sensor.Name, h.values[m][s][i], base.values[m][s][i])
						}
					}
				}
			}
			if tc.check != nil {
				tc.check(t, h)
			}
			// The truth: one start and one end for each machine, at the first sample with the fault and the first without.
			if len(h.truths) != 2*len(hit) {
				t.Fatalf("%d truths of %d machines: %+v", len(h.truths), len(hit), h.truths)
			}
			for i, got := range h.truths {
				want := Truth{
					Event: "start", FaultID: "f", Kind: string(tc.kind), EquipmentID: hit[i%len(hit)],
					Magnitude: f.Magnitude, RampUS: f.Ramp.Microseconds(), EventTimeUS: t0 + from*1e6, Sequence: from + 1,
				}
				if i >= len(hit) {
					want.Event, want.EventTimeUS, want.Sequence = "end", t0+int64(end)*1e6, uint64(end)+1
					if tc.kind == fault.Silence || tc.kind == fault.GatewayDown {
						want.Sequence = from + 1
					}
				}
				sensors := tc.touched
				if sensors == nil {
					for _, s := range kindOf(got.EquipmentID).Sensors() {
						sensors = append(sensors, s.Name)
					}
				}
				if !slices.Equal(got.Sensors, sensors) {
					t.Errorf("truth names sensors %v, want %v", got.Sensors, sensors)
				}
				got.Sensors = nil
				for _, target := range Targets(small.Machines, small.Gateways) {
					if target.Machine == got.EquipmentID {
						want.GatewayID = target.Gateway
					}
				}
				if !equal(got, want) {
					t.Errorf("truth %d:\n got %+v\nwant %+v", i, got, want)
				}
			}
		})
	}
}

func equal(a, b Truth) bool {
	a.Sensors, b.Sensors = nil, nil
	x, _ := a.AppendLine(nil, time.Time{})
	y, _ := b.AppendLine(nil, time.Time{})
	return string(x) == string(y)
}

func kindOf(machine string) physics.Kind {
	for k := range physics.Kinds {
		if len(machine) > len(k.String()) && machine[:len(k.String())] == k.String() {
			return k
		}
	}
	panic("no kind of " + machine)
}

// A fault that comes and goes between two samples was never injected; one that outlasts the simulation is cut short.
func TestTruthTellsWhatReallyHappened(t *testing.T) {
	missed := fault.New("missed", fault.Leak)
	missed.Machines, missed.Start, missed.Duration = []string{"pump-0001"}, 10_100*time.Millisecond, 500*time.Millisecond
	open := fault.New("open", fault.Leak)
	open.Machines, open.Start = []string{"pump-0002"}, 20*time.Second
	h := simulate(t, small, fault.Plan{Faults: []fault.Fault{missed, open}}, 30)
	if len(h.truths) != 2 || h.truths[0].FaultID != "open" || h.truths[1].Event != "end" || !h.truths[1].CutShort {
		t.Fatalf("truths: %+v", h.truths)
	}
}

func TestTargetsAreNamedAndSpread(t *testing.T) {
	got := Targets(1000, 20)
	ids, gateways := map[string]bool{}, map[string]int{}
	for _, m := range got {
		ids[m.Machine] = true
		gateways[m.Gateway]++
	}
	if len(ids) != 1000 || len(gateways) != 20 || gateways["gw-001"] != 50 || gateways["gw-020"] != 50 {
		t.Fatalf("%d ids, gateways %v", len(ids), gateways)
	}
	if got[0].Machine != "pump-0001" || got[999].Machine != "conveyor-0200" || got[999].Gateway != "gw-020" {
		t.Fatalf("first %+v, last %+v", got[0], got[999])
	}
}

func BenchmarkSample(b *testing.B) {
	f, err := New(Config{Machines: 1000, Gateways: 20, Seed: 1}, fault.Plan{})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for i := range b.N {
		at := time.Duration(i/1000) * time.Second
		f.Sample(i%1000, t0+at.Microseconds(), at)
	}
}

// The example beside the code parses, fits 20 machines, and shows every kind.
func TestExampleFile(t *testing.T) {
	file, err := os.Open("../../faults.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	plan, err := fault.ParseYAML("faults.example.yaml", file)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := New(Config{Machines: 20, Gateways: 1}, plan); err != nil {
		t.Error(err)
	}
	for _, k := range fault.Kinds() {
		if !slices.ContainsFunc(plan.Faults, func(f fault.Fault) bool { return f.Kind == k }) {
			t.Errorf("no %s", k)
		}
	}
}
