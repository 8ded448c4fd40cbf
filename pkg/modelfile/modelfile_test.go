package modelfile_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/tocsin-io/tocsin/pkg/modelfile"
)

func TestSplit(t *testing.T) {
	file := append(modelfile.Append(nil, []byte(`{"algorithm":"x","features":["a","b"],"more":1}`)), "body"...)
	h, body, err := modelfile.Read(file)
	if err != nil || h.Algorithm != "x" || !slices.Equal(h.Features, []string{"a", "b"}) || string(body) != "body" {
		t.Error(h, body, err)
	}
	if v := modelfile.Version(file); !modelfile.IsVersion(v) || modelfile.IsVersion(v+"0") || modelfile.IsVersion("../../../etc") {
		t.Error(v)
	}
	for n := range len(file) - len("body") {
		if _, _, err := modelfile.Read(file[:n]); !errors.Is(err, modelfile.ErrCorrupt) {
			t.Fatalf("%d bytes: %v", n, err)
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add(modelfile.Append(nil, []byte(`{}`)))
	f.Fuzz(func(t *testing.T, b []byte) {
		if _, _, err := modelfile.Read(b); err != nil && !errors.Is(err, modelfile.ErrCorrupt) {
			t.Fatal(err)
		}
	})
}
