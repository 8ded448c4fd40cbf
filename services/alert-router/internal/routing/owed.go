package routing

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/cespare/xxhash/v2"
	"github.com/prometheus/alertmanager/nflog/nflogpb"
	"google.golang.org/protobuf/encoding/protodelim"
)

// Owed picks, from alerts that have ended, those that some receiver still believes to be firing: it was told of them and not
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
		if firing[alertHash(a.Labels)] {
			out = append(out, a)
		}
	}
	return out, nil
}

func (e *Engine) believedFiring() (map[uint64]bool, error) {
	data, err := e.nflog.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("read notification log: %w", err)
	}
	out := make(map[uint64]bool)
	r := bytes.NewReader(data)
	for {
		var m nflogpb.MeshEntry
		err := protodelim.UnmarshalFrom(r, &m)
		if errors.Is(err, io.EOF) {
			return out, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read notification log: %w", err)
		}
		for _, h := range m.GetEntry().GetFiringAlerts() {
			out[h] = true
		}
	}
}

// alertHash is how the notification log names an alert (the engine's hashAlert, which it does not export; a test
// compares the two): xxHash64 over the labels sorted by name, name and value each ended by 0xff.
func alertHash(labels map[string]string) uint64 {
	names := make([]string, 0, len(labels))
	for name, value := range labels {
		if value != "" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	var b []byte
	for _, name := range names {
		b = append(append(b, name...), 0xff)
		b = append(append(b, labels[name]...), 0xff)
	}
	return xxhash.Sum64(b)
}
