package detect

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"fmt"
	"io"
	"math"
	"regexp"
	"slices"

	"github.com/tocsin-io/tocsin/pkg/iforest"
	"github.com/tocsin-io/tocsin/pkg/modelfile"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine/codec"
)

// ModelsConfig names released models. They travel with the configuration, weights and all: what comes into force at an offset is the same for whoever reads the log, and a restore asks no
// store for anything.
type ModelsConfig struct {
	Champions []Model `mapstructure:"champions" doc:"models whose word counts, for the detector champion; a machine is judged by the first of which it has all features"`
	Shadows   []Model `mapstructure:"shadows" doc:"models that are asked beside them, for the detector shadow: scored, calibrated and counted, but they page nobody"`
	Memory    int     `mapstructure:"memory" doc:"windows over which it forgets what scores are usual of a machine"`
}

// Model is a version of a model.
type Model struct {
	Name    string `mapstructure:"name" doc:"name of the model"`
	Version string `mapstructure:"version" doc:"version of it: the hash of its content; empty: the one that the model-trainer has in that role, now and whenever it is given to another (tocsin models promote)"`
	// Weights are the model's file, compressed.
	Weights string `mapstructure:"weights" doc:"filled in from the models' store when the configuration is read: leave it empty" secret:"true"`
}

// Follows tells whether it is whichever version has the role.
func (m *Model) Follows() bool { return m.Version == "" }

// Names of the detectors that ask released models.
const (
	Champion = "champion"
	Shadow   = "shadow"
)

const (
	// The most bytes of a model's weights as they stand in the configuration, and of all of them. A configuration is one record, and those that a partition keeps until its snapshots have
	// passed them are another: four of the largest fit into a record of Kafka's usual 1 MiB.
	maxWeights    = 128 << 10
	maxAllWeights = 224 << 10
	maxModels     = 4
	maxFile       = 8 << 20 // of a model's file, unpacked
)

var modelName = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

func (c *ModelsConfig) validate() error {
	all := 0
	for _, role := range []struct {
		name string
		list []Model
	}{{"champions", c.Champions}, {"shadows", c.Shadows}} {
		if len(role.list) > maxModels {
			return fmt.Errorf("%s: %d are more than %d", role.name, len(role.list), maxModels)
		}
		for i, m := range role.list {
			all += len(m.Weights)
			switch {
			case !modelName.MatchString(m.Name):
				return fmt.Errorf("%s[%d].name: %q does not match [A-Za-z0-9._-]{1,64}", role.name, i, m.Name)
			case m.Follows() && m.Weights == "": // it is looked up before anything is published
			case !modelfile.IsVersion(m.Version):
				return fmt.Errorf("%s[%d].version: %q is not 12 hexadecimal digits", role.name, i, m.Version)
			}
			if _, err := m.unpack(); m.Weights != "" && err != nil {
				return fmt.Errorf("%s[%d].weights: %w", role.name, i, err)
			}
		}
	}
	if all > maxAllWeights {
		return fmt.Errorf("champions, shadows: weights of %d bytes together are more than %d: train with fewer or smaller trees (trees, subsample)", all, maxAllWeights)
	}
	if c.Memory < minMemory || c.Memory > maxMemory {
		return fmt.Errorf("memory: %d is not between %d and %d", c.Memory, minMemory, maxMemory)
	}
	return nil
}

// Pack puts a model's file into m. It is an error when that is not the version that m names, or no model that judges streams.
func (m *Model) Pack(file []byte) error {
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return err
	}
	if _, err := z.Write(file); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	packed := *m
	packed.Weights = base64.StdEncoding.EncodeToString(b.Bytes())
	if _, err := packed.unpack(); err != nil {
		return err
	}
	*m = packed
	return nil
}

// loaded is a model that can be asked.
type loaded struct {
	ref      string // name@version
	version  string
	features []string
	forest   *iforest.Forest
	// reference is how its training rows were spread; nil: it has none that this build reads.
	reference *modelfile.Reference
	counter   *modelfile.Counter
}

// unpack is Pack's inverse. Weights are not trusted.
func (m *Model) unpack() (*loaded, error) {
	if len(m.Weights) > maxWeights {
		return nil, fmt.Errorf("%d bytes are more than %d: train with fewer or smaller trees (trees, subsample)", len(m.Weights), maxWeights)
	}
	packed, err := base64.StdEncoding.DecodeString(m.Weights)
	if err != nil {
		return nil, err
	}
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	file, err := io.ReadAll(io.LimitReader(z, maxFile+1))
	if err != nil {
		return nil, err
	}
	if len(file) > maxFile {
		return nil, fmt.Errorf("more than %d bytes unpacked", maxFile)
	}
	if v := modelfile.Version(file); v != m.Version {
		return nil, fmt.Errorf("they are those of version %s, not of %s", v, m.Version)
	}
	h, body, err := modelfile.Read(file)
	if err != nil {
		return nil, err
	}
	if h.Algorithm != modelfile.IsolationForest {
		return nil, fmt.Errorf("%s models do not judge streams; %s does", h.Algorithm, modelfile.IsolationForest)
	}
	f, err := iforest.Decode(body)
	if err != nil {
		return nil, err
	}
	if f.Features() != len(h.Features) {
		return nil, fmt.Errorf("%w: header and body do not fit", modelfile.ErrCorrupt)
	}
	if h.Reference != nil && h.Reference.Validate(len(h.Features)) != nil {
		h.Reference = nil // of another build: the model judges, and is not watched
	}
	l := &loaded{ref: m.Name + "@" + m.Version, version: m.Version, features: h.Features, forest: f, reference: h.Reference}
	if l.reference != nil {
		l.counter = l.reference.Counter()
	}
	return l, nil
}

// ready are the models of a configuration, unpacked once for all machines.
type ready struct{ champions, shadows []*loaded }

// Prepare unpacks the models of a valid configuration. Without it they have no opinion. It must be called before the configuration is shared.
func (c *Config) Prepare() {
	if c.models != nil {
		return
	}
	c.models = &ready{}
	for _, role := range []struct {
		from []Model
		to   *[]*loaded
	}{{c.Models.Champions, &c.models.champions}, {c.Models.Shadows, &c.models.shadows}} {
		for i := range role.from {
			if l, err := role.from[i].unpack(); err == nil {
				*role.to = append(*role.to, l)
			}
		}
	}
}

// released judges by a model that was trained elsewhere, on many machines or long ago: an isolation forest (Liu, Ting and Zhou 2008) over the means of a window. It learns nothing of what is
// odd, only which of its scores are usual of this machine. A window in which a feature is missing gets no opinion. 100 bytes and 12 per feature; about a microsecond to score.
type released struct {
	of     []*loaded // in the order in which they are tried
	memory int
	model  *loaded // nil: the machine has not all features of any
	slots  []int   // of its features
	row    []float32
	usual  []float32 // what is usual of each feature: its mean
	score  rarity

	// For Given, no part of the state.
	gave    float64 // the forest's score of the window scored last
	watched []int   // slots of the features that the reference watches
}

func newChampion(c *Config) Detector {
	return newReleased(c, func(r *ready) []*loaded { return r.champions })
}

func newShadow(c *Config) Detector {
	return newReleased(c, func(r *ready) []*loaded { return r.shadows })
}

func newReleased(c *Config, role func(*ready) []*loaded) *released {
	d := &released{memory: c.Models.Memory}
	if c.models != nil {
		d.of = role(c.models)
	}
	return d
}

func (d *released) Grow(sensors []string) {
	for _, l := range d.of {
		slots := make([]int, len(l.features))
		for i, f := range l.features {
			slots[i] = slices.Index(sensors, f)
		}
		if slices.Contains(slots, -1) {
			continue
		}
		if l != d.model {
			d.model, d.score = l, rarity{}
		}
		d.slots, d.row, d.watched = slots, make([]float32, len(slots)), nil
		if l.reference != nil {
			for i := range l.reference.Features {
				d.watched = append(d.watched, slots[l.reference.Features[i].Number])
			}
		}
		if len(d.usual) != len(slots) || d.score.n == 0 {
			d.usual = make([]float32, len(slots))
		}
		return
	}
}

// Model is the name@version of the model that is asked; empty: the machine lacks features of all.
func (d *released) Model() string {
	if d.model == nil {
		return ""
	}
	return d.model.ref
}

// ask is the forest's score of a window. ok is false where a feature is missing.
func (d *released) ask(w *Window) (score float64, ok bool) {
	if d.model == nil {
		return 0, false
	}
	for i, slot := range d.slots {
		v := &w.Values[slot]
		if v.Count == 0 {
			return 0, false
		}
		d.row[i] = float32(max(-math.MaxFloat32, min(v.Mean, math.MaxFloat32)))
	}
	var scores [1]float64
	d.model.forest.Score(scores[:], d.row)
	return scores[0], true
}

// oddness is log2 of the forest's score, in units in which scores are near to normal: minus the mean depth, but for a constant.
func oddness(score float64) float64 {
	const depth = 10 // some c(n) of usual subsamples
	return depth * math.Log2(score)
}

func (d *released) Score(w *Window, s *Scores) {
	if d.score.n < minRarity {
		return
	}
	score, ok := d.ask(w)
	if !ok {
		return
	}
	d.gave = score
	s.Joint = float32(d.score.surprise(oddness(score)))
	if s.Joint >= blamed {
		d.blame(s.Share)
	}
}

// Given is what a Score that had an opinion was about: the model's score, and the slots of the features that its reference watches.
func (d *released) Given() (score float64, slots []int) { return d.gave, d.watched }

// Reference is how the model's training rows were spread, and what counts by it; nil: it has none.
func (d *released) Reference() (*modelfile.Reference, *modelfile.Counter) {
	return d.model.reference, d.model.counter
}

const (
	// blamed is the surprise from which it is worth knowing why.
	blamed = 2
	// mostBlamed bounds the features of a model that are asked about one by one, a microsecond each.
	mostBlamed = 128
)

// blame says which sensors made the row that was scored last odd: by how much less odd it would be with what is usual of the sensor.
func (d *released) blame(share []float32) {
	if len(d.row) > mostBlamed {
		return
	}
	var odd, without [1]float64
	d.model.forest.Score(odd[:], d.row)
	for i, slot := range d.slots {
		is := d.row[i]
		d.row[i] = d.usual[i]
		d.model.forest.Score(without[:], d.row)
		d.row[i] = is
		share[slot] += float32(max(0, odd[0]-without[0]))
	}
	portion(share)
}

// Follow does nothing: there is no running state.
func (d *released) Follow(*Window) {}

func (d *released) Learn(w *Window) {
	if score, ok := d.ask(w); ok {
		d.score.learn(oddness(score), d.memory)
		keep := 1 / min(float32(d.score.n), float32(d.memory))
		for i, v := range d.row {
			d.usual[i] += (v - d.usual[i]) * keep
		}
	}
}

func (d *released) version() string {
	if d.model == nil {
		return ""
	}
	return d.model.version
}

func (d *released) AppendState(dst []byte) []byte {
	dst = codec.AppendU32(d.score.appendState(codec.AppendString(dst, d.version())), uint32(len(d.usual)))
	for _, v := range d.usual {
		dst = codec.AppendF32(dst, v)
	}
	return dst
}

// RestoreState of another model begins anew: its scores say nothing of this one's.
func (d *released) RestoreState(r *codec.Reader) {
	version := r.String(64)
	d.score.restoreState(r)
	usual := make([]float32, r.Len(math.MaxUint16, 4))
	for i := range usual {
		usual[i] = r.F32()
	}
	if version == d.version() && len(usual) == len(d.usual) {
		d.usual = usual
	} else {
		d.score = rarity{}
	}
}
