package fault

import (
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/tocsin-io/tocsin/services/fleet-simulator/internal/physics"
)

var fleet = []Target{
	{"pump-0001", "gw-001", physics.Pump},
	{"compressor-0001", "gw-001", physics.Compressor},
	{"fan-0001", "gw-002", physics.Fan},
	{"spindle-0001", "gw-002", physics.Spindle},
	{"conveyor-0001", "gw-003", physics.Conveyor},
}

func TestYAMLGivesThePlan(t *testing.T) {
	plan, err := ParseYAML("faults.yaml", strings.NewReader(`
faults:
  - kind: leak
    machines: [pump-0001]
    start: 60s
    duration: 5m
    magnitude: 0.5
  - id: mine
    kind: drift
    machines: [fan-0001, pump-0001]
    sensors: [speed_rpm]
    start: 1m30s
    duration: 20m
  - {kind: gateway_down, gateways: [gw-002], start: 10s, duration: 1m}
`))
	if err != nil {
		t.Fatal(err)
	}
	want := []Fault{
		{ID: "f-0001", Kind: Leak, Machines: []string{"pump-0001"}, Start: time.Minute, Duration: 5 * time.Minute, Ramp: 5 * time.Second, Magnitude: 0.5},
		{ID: "mine", Kind: Drift, Machines: []string{"fan-0001", "pump-0001"}, Sensors: []string{"speed_rpm"}, Start: 90 * time.Second, Duration: 20 * time.Minute, Ramp: 20 * time.Minute, Magnitude: 0.3},
		{ID: "f-0003", Kind: GatewayDown, Gateways: []string{"gw-002"}, Start: 10 * time.Second, Duration: time.Minute},
	}
	if len(plan.Faults) != len(want) {
		t.Fatalf("%d faults", len(plan.Faults))
	}
	for i, f := range plan.Faults {
		f.where = ""
		w := want[i]
		if f.ID != w.ID || f.Kind != w.Kind || !slices.Equal(f.Machines, w.Machines) || !slices.Equal(f.Gateways, w.Gateways) || !slices.Equal(f.Sensors, w.Sensors) ||
			f.Start != w.Start || f.Duration != w.Duration || f.Ramp != w.Ramp || f.Magnitude != w.Magnitude {
			t.Errorf("fault %d:\n got %+v\nwant %+v", i, f, w)
		}
	}
	if _, err := plan.Bind(fleet); err != nil {
		t.Error(err)
	}
}

// Every mistake is named with its line; and of two mistakes, both.
func TestYAMLMistakesAreNamedWithTheirLine(t *testing.T) {
	for _, tc := range []struct{ in, want string }{
		{"", "f.yaml:1: empty"},
		{"faults:\n- kind: [", "f.yaml: yaml: line 2"},
		{"- kind: leak", "f.yaml:1: the file must be a mapping"},
		{"\nfault: []", "f.yaml:2: unknown key \"fault\""},
		{"faults: 3", "f.yaml:1: faults must be a list"},
		{"faults: [3]", "f.yaml:1: a fault must be a mapping"},
		{"faults:\n- machines: [a]", "f.yaml:2: no kind"},
		{"faults:\n- kind: fire", "f.yaml:2: unknown kind \"fire\", must be one of bearing_wear, leak"},
		{"faults:\n- kind: leak\n  machine: a", "f.yaml:3: unknown key \"machine\""},
		{"faults:\n- kind: leak\n  machines: a", "f.yaml:3: machines must be a list"},
		{"faults:\n- kind: leak\n  machines: [1]", "f.yaml:3: each of machines must be a text"},
		{"faults:\n- kind: leak\n  machines: [a]\n  start: 60", "f.yaml:4: start must be a duration like 90s"},
		{"faults:\n- kind: leak\n  machines: [a]\n  start: -1s", "f.yaml:2: start is -1s"},
		{"faults:\n- kind: leak\n  machines: [a]\n  magnitude: much", "f.yaml:4: magnitude must be a number"},
		{"faults:\n- kind: leak\n  machines: [a]\n  magnitude: 1.5", "f.yaml:2: magnitude is 1.5"},
		{"faults:\n- kind: spike\n  machines: [a]\n  sensors: [b]\n  magnitude: NaN", "f.yaml:2: magnitude is NaN"},
		{"faults:\n- kind: leak", "f.yaml:2: no machines named"},
		{"faults:\n- kind: gateway_down\n  machines: [a]", "f.yaml:2: gateway_down concerns gateways"},
		{"faults:\n- kind: leak\n  gateways: [a]", "f.yaml:2: leak concerns machines"},
		{"faults:\n- kind: sensor_stuck\n  machines: [a]", "f.yaml:2: sensor_stuck concerns sensors"},
		{"faults:\n- kind: silence\n  machines: [a]\n  sensors: [b]", "f.yaml:2: silence concerns the whole machine"},
		{"faults:\n- kind: silence\n  machines: [a]\n  magnitude: 1", "f.yaml:2: silence has no magnitude"},
		{"faults:\n- kind: silence\n  machines: [a]\n  ramp: 1s", "f.yaml:2: silence does not grow"},
		{"faults:\n- kind: leak\n  kind: leak", "f.yaml:3: key \"kind\" is there twice"},
		{"faults:\n- {id: a, kind: silence, machines: [a]}\n- {id: a, kind: silence, machines: [a]}", "f.yaml:3: id \"a\" was used in line 2"},
		{"faults: []\n---\nfaults: []", "f.yaml:1: more than one document"},
		{"faults:\n- kind: fire\n- kind: leak\n  start: soon", "f.yaml:4: start must be"},
		{"faults:\n- kind: fire\n- kind: leak\n  start: soon", "f.yaml:2: unknown kind"},
	} {
		_, err := ParseYAML("f.yaml", strings.NewReader(tc.in))
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%q:\n got %v\nwant %s", tc.in, err, tc.want)
		}
	}
}

// What only the fleet can tell is named with its line, too.
func TestBindNamesWhatIsNotThere(t *testing.T) {
	for in, want := range map[string]string{
		"faults:\n- {kind: leak, machines: [press-0001]}":                                     "f.yaml:2: no machine \"press-0001\" in a fleet of 5",
		"faults:\n- {kind: gateway_down, gateways: [gw-009]}":                                 "f.yaml:2: no gateway \"gw-009\"",
		"faults:\n\n- {kind: sensor_stuck, machines: [fan-0001], sensors: [coolant_flow]}":    "f.yaml:3: machine \"fan-0001\", a fan, has no sensor \"coolant_flow\"",
		"faults:\n- {kind: sensor_stuck, machines: [fan-0001], sensors: [power, power]}":      "a sensor is named twice",
		"faults:\n- {kind: leak, machines: [no]}\n- {kind: leak, machines: [no, pump-0001]}":  "f.yaml:3: no machine",
		"faults:\n- {kind: leak, machines: [nein]}\n- {kind: leak, machines: [no, fan-0001]}": "f.yaml:2: no machine \"nein\"",
	} {
		plan, err := ParseYAML("f.yaml", strings.NewReader(in))
		if err == nil {
			_, err = plan.Bind(fleet)
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q:\n got %v\nwant %s", in, err, want)
		}
	}
}

func FuzzParseYAML(f *testing.F) {
	f.Add("faults:\n- {kind: leak, machines: [pump-0001], start: 1s}\n")
	f.Add("faults: [{kind: spike, machines: [fan-0001], sensors: [power], magnitude: 1e9}]")
	f.Add("a: &a [*a]")
	f.Fuzz(func(t *testing.T, in string) {
		plan, err := ParseYAML("f.yaml", strings.NewReader(in))
		if err != nil {
			return
		}
		if err := plan.Validate(); err != nil {
			t.Fatalf("parsed, but %v", err)
		}
		injectors, err := plan.Bind(fleet)
		if err != nil {
			return
		}
		for i, in := range injectors {
			v := make([]float32, len(fleet[i].Kind.Sensors()))
			for s := range 20 {
				in.At(time.Duration(s) * time.Second)
				in.Measure(time.Duration(s)*time.Second, v)
				for _, x := range v {
					if x != x {
						t.Fatal("NaN")
					}
				}
			}
		}
	})
}

// A random plan fits its fleet, is the same for the same seed, leaves the time for learning, and never has two faults on a machine.
func TestAutoPlans(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, len(fleet)).Draw(t, "machines")
		seed := rapid.Uint64().Draw(t, "seed")
		first := time.Duration(rapid.IntRange(0, 600).Draw(t, "first")) * time.Second
		mean := time.Duration(rapid.IntRange(60, 3600).Draw(t, "mean")) * time.Second
		plan := Auto(fleet[:n], seed, first, mean, 20*time.Hour)
		if _, err := plan.Bind(fleet[:n]); err != nil {
			t.Fatal(err)
		}
		if err := plan.Validate(); err != nil {
			t.Fatal(err)
		}
		again := Auto(fleet[:n], seed, first, mean, 24*time.Hour)
		free := map[string]time.Duration{}
		for i, f := range plan.Faults {
			if a := again.Faults[i]; a.ID != f.ID || a.Kind != f.Kind || a.Start != f.Start || a.Magnitude != f.Magnitude {
				t.Fatalf("another plan for the same seed: %+v, %+v", f, a)
			}
			if f.Start < first {
				t.Fatalf("fault at %s, before %s", f.Start, first)
			}
			for _, target := range fleet[:n] {
				if !slices.Contains(f.Machines, target.Machine) && !slices.Contains(f.Gateways, target.Gateway) {
					continue
				}
				if f.Start < free[target.Machine] {
					t.Fatalf("%s has two faults at %s", target.Machine, f.Start)
				}
				free[target.Machine] = f.Start + f.Duration
			}
		}
	})
	kinds := map[Kind]int{}
	for _, f := range Auto(fleet, 1, 0, time.Minute, MaxHorizon).Faults {
		kinds[f.Kind]++
	}
	for _, k := range Kinds() {
		if kinds[k] == 0 {
			t.Errorf("no %s in a week", k)
		}
	}
}

func TestDemoFitsAnyFleet(t *testing.T) {
	for n := range len(fleet) + 1 {
		plan := Demo(fleet[:n], 50*time.Second)
		if _, err := plan.Bind(fleet[:n]); err != nil {
			t.Errorf("%d machines: %v", n, err)
		}
		if want := min(n, 4); len(plan.Faults) != want {
			t.Errorf("%d machines: %d faults", n, len(plan.Faults))
		}
	}
	plan := Demo(fleet, 50*time.Second)
	if f := plan.Faults[0]; f.Kind != Leak || f.Start != 50*time.Second || f.Machines[0] != "pump-0001" {
		t.Errorf("first fault is %+v", f)
	}
}

func TestInjectorWithoutFaultsDoesNotAllocate(t *testing.T) {
	in, err := Plan{}.Bind(fleet)
	if err != nil {
		t.Fatal(err)
	}
	v := make([]float32, 10)
	in[0].Measure(0, v)
	if n := testing.AllocsPerRun(100, func() {
		in[0].At(time.Second)
		in[0].Measure(time.Second, v)
	}); n != 0 {
		t.Fatalf("%g allocations", n)
	}
}
