package trial

import (
	"github.com/tocsin-io/tocsin/pkg/config"
	streamprocessor "github.com/tocsin-io/tocsin/services/stream-processor"
)

// Change is one key of the configuration that differs, by its path in the section detection.
type Change struct{ Key, Current, Proposed string }

func changes(current, proposed *streamprocessor.DetectionConfig) []Change {
	var out []Change
	for _, d := range config.Differences(*current, *proposed) {
		out = append(out, Change{d.Key, d.A, d.B})
	}
	return out
}
