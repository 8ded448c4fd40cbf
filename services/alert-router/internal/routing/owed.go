package routing

import (
	"slices"

	"github.com/cespare/xxhash/v2"
)

// Owed picks, from alerts that have ended, those that some receiver still believes to be firing: it was told of them, or may have been, and not
// yet of their end. After a restart exactly these must be put again; any other would either be news of the
// end of something nobody heard of, or a second end.
func (e *Engine) Owed(ended []Alert) ([]Alert, error) {
	if len(ended) == 0 {
		return nil, nil
	}
	firing, err := e.believedFiring()
	if err != nil {
		return nil, err
	}
	var out []Alert
	for _, a := range ended {
		if h := alertHash(a.Labels); firing[h] || firing[inDoubt(h)] {
			out = append(out, a)
		}
	}
	return out, nil
}

func (e *Engine) believedFiring() (map[uint64]bool, error) {
	entries, err := e.entries()
	if err != nil {
		return nil, err
	}
	out := make(map[uint64]bool)
	for _, entry := range entries {
		for _, h := range entry.GetFiringAlerts() {
			out[h] = true
		}
	}
	return out, nil
}

// alertHash is how the notification log names an alert (the engine's hashAlert, which it does not export; a test
// compares the two): xxHash64 over the labels sorted by name, name and value each ended by 0xff.
func alertHash(labels map[string]string) uint64 { return hashOf(labels) }

func hashOf[K, V ~string](labels map[K]V) uint64 {
	names := make([]K, 0, len(labels))
	for name, value := range labels {
		if value != "" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	b := make([]byte, 0, 512)
	for _, name := range names {
		b = append(append(b, name...), 0xff)
		b = append(append(b, labels[name]...), 0xff)
	}
	return xxhash.Sum64(b)
}
