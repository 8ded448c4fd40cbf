// Package detecttest makes models for tests.
package detecttest

import (
	"encoding/json"
	"math/rand/v2"

	"github.com/tocsin-io/tocsin/pkg/iforest"
	"github.com/tocsin-io/tocsin/pkg/modelfile"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/detect"
)

// TB is what a test is here.
type TB interface {
	Helper()
	Fatal(args ...any)
}

// Model is a small isolation forest over features whose usual values are drawn by usual, as it stands in a configuration, and its file.
func Model(tb TB, name string, seed uint64, usual func(*rand.Rand, int) float64, features ...string) (detect.Model, []byte) {
	tb.Helper()
	return trained(tb, name, seed, usual, true, features)
}

// Unwatched is a Model as builds trained it that kept no reference.
func Unwatched(tb TB, name string, seed uint64, usual func(*rand.Rand, int) float64, features ...string) (detect.Model, []byte) {
	tb.Helper()
	return trained(tb, name, seed, usual, false, features)
}

func trained(tb TB, name string, seed uint64, usual func(*rand.Rand, int) float64, watched bool, features []string) (detect.Model, []byte) {
	tb.Helper()
	r := rand.New(rand.NewPCG(seed, 1))
	rows := make([]float32, 200*len(features))
	for i := range rows {
		rows[i] = float32(usual(r, i%len(features)))
	}
	f, err := iforest.Train(rows, len(features), iforest.Params{Trees: 16, Subsample: 64, Seed: seed})
	if err != nil {
		tb.Fatal(err)
	}
	h := modelfile.Header{Algorithm: modelfile.IsolationForest, Features: features}
	if watched {
		scores := make([]float64, len(rows)/len(features))
		f.Score(scores, rows)
		h.Reference = modelfile.LearnReference(rows, len(features), scores)
	}
	header, err := json.Marshal(h)
	if err != nil {
		tb.Fatal(err)
	}
	file := f.AppendTo(modelfile.Append(nil, header))
	m := detect.Model{Name: name, Version: modelfile.Version(file)}
	if err := m.Pack(file); err != nil {
		tb.Fatal(err)
	}
	return m, file
}
