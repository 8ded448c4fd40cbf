package detect

import (
	"bytes"
	"encoding/json"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/tocsin-io/tocsin/pkg/iforest"
	"github.com/tocsin-io/tocsin/pkg/modelfile"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine/codec"
)

// modelOf is a small forest over features that are near 50 in usual windows, packed.
func modelOf(t *testing.T, seed uint64, features ...string) Model {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 1))
	rows := make([]float32, 500*len(features))
	for i := range rows {
		rows[i] = float32(50 + r.NormFloat64())
	}
	f, err := iforest.Train(rows, len(features), iforest.Params{Trees: 32, Subsample: 64, Seed: seed})
	if err != nil {
		t.Fatal(err)
	}
	header, err := json.Marshal(modelfile.Header{Algorithm: modelfile.IsolationForest, Features: features})
	if err != nil {
		t.Fatal(err)
	}
	file := f.AppendTo(modelfile.Append(nil, header))
	m := Model{Name: "pump", Version: modelfile.Version(file)}
	if err := m.Pack(file); err != nil {
		t.Fatal(err)
	}
	return m
}

func withModel(m ...Model) *Config {
	c := config()
	c.Models.Champions = m
	c.Prepare()
	return c
}

// drive moves a detector through windows and gives what it said of the last and of an odd one.
func drive(d Detector, seed uint64, windows int) (usual, odd float32) {
	r := rand.New(rand.NewPCG(seed, 2))
	s := scoresFor(sensors)
	for i := range windows {
		w := draw(r, sensors, int64(i)*5e6)
		s.preset()
		d.Score(w, s)
		usual = s.Joint
		d.Follow(w)
		d.Learn(w)
	}
	w := &Window{Values: make([]Value, sensors)}
	for i := range w.Values {
		w.Values[i] = Value{Mean: 50, Count: 5}
	}
	w.Values[0].Mean, w.Values[1].Mean = 58, 41
	s.preset()
	d.Score(w, s)
	return usual, s.Joint
}

func TestReleasedModelJudges(t *testing.T) {
	c := withModel(modelOf(t, 1, "s1", "elsewhere"), modelOf(t, 2, "s1", "s0"))
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	d := newChampion(c)
	d.Grow(sensorNames(sensors))
	if v := d.(*released).version(); v != c.Models.Champions[1].Version {
		t.Fatalf("judged by %q: it lacks a feature of the first", v)
	}
	_, odd := drive(d, 3, 400)
	if !(odd > 5) {
		t.Errorf("an odd window surprises by %v", odd)
	}
	w := &Window{Values: make([]Value, sensors)}
	for i := range w.Values {
		w.Values[i] = Value{Mean: 50, Count: 5}
	}
	w.Values[0] = Value{Mean: math.NaN()}
	s := scoresFor(sensors)
	if d.Score(w, s); s.Joint == s.Joint {
		t.Error("an opinion without a feature")
	}
	if d := newShadow(c); d.(*released).of != nil {
		t.Error("a champion is no shadow")
	}
}

// The same bytes judge the same, to the bit: from the configuration and from its record, with and without a snapshot between.
func TestReleasedModelIsTheSameFromItsRecord(t *testing.T) {
	c := withModel(modelOf(t, 2, "s1", "s0"))
	record, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	read := DefaultConfig()
	if err := json.Unmarshal(record, &read); err != nil {
		t.Fatal(err)
	}
	if err := read.Validate(); err != nil {
		t.Fatal(err)
	}
	read.Prepare()
	a, b := newChampion(c), newChampion(&read)
	for _, d := range []Detector{a, b} {
		d.Grow(sensorNames(sensors))
		drive(d, 4, 200)
	}
	restored := newChampion(&read)
	restored.Grow(sensorNames(sensors))
	in := codec.NewReader(a.AppendState(nil))
	if restored.RestoreState(in); in.Err() != nil || in.Remaining() > 0 {
		t.Fatal(in.Err())
	}
	_, x := drive(a, 5, 50)
	_, y := drive(b, 5, 50)
	_, z := drive(restored, 5, 50)
	if math.Float32bits(x) != math.Float32bits(y) || math.Float32bits(x) != math.Float32bits(z) || !bytes.Equal(a.AppendState(nil), restored.AppendState(nil)) {
		t.Error(x, y, z)
	}
}

// Another version begins anew; what was usual of the old one's scores says nothing of the new one's.
func TestAnotherVersionBeginsAnew(t *testing.T) {
	a := newChampion(withModel(modelOf(t, 1, "s0", "s1")))
	a.Grow(sensorNames(sensors))
	drive(a, 6, 100)
	b := newChampion(withModel(modelOf(t, 2, "s0", "s1")))
	b.Grow(sensorNames(sensors))
	in := codec.NewReader(a.AppendState(nil))
	b.RestoreState(in)
	if in.Err() != nil || in.Remaining() > 0 || b.(*released).score.n != 0 {
		t.Error(in.Err(), b.(*released).score.n)
	}
}

func TestModelsAreChecked(t *testing.T) {
	good := modelOf(t, 1, "s0")
	for want, m := range map[string]Model{
		"champions[0].name":    {Name: "a/b", Version: good.Version},
		"champions[0].version": {Name: "pump", Version: "1"},
		"not of 000000000000":  {Name: "pump", Version: "000000000000", Weights: good.Weights},
		"weights":              {Name: "pump", Version: good.Version, Weights: good.Weights[:len(good.Weights)/2]},
		"fewer or smaller":     {Name: "pump", Version: good.Version, Weights: strings.Repeat("A", maxWeights+1)},
	} {
		c := config()
		c.Models.Champions = []Model{m}
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
		c.Prepare() // what cannot be unpacked has no opinion
		newChampion(c).Grow(sensorNames(1))
	}
	other := Model{Name: "pump"}
	file := modelfile.Append(nil, []byte(`{"algorithm":"lof","features":["a"]}`))
	other.Version = modelfile.Version(file)
	if err := other.Pack(file); err == nil || !strings.Contains(err.Error(), "lof models do not judge streams") {
		t.Error(err)
	}
}
