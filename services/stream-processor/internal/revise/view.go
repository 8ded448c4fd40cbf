package revise

import (
	"time"

	"github.com/tocsin-io/tocsin/services/stream-processor/internal/detection"
)

// Revision is a configuration that was the fleet's, or is.
type Revision struct {
	ID          string    `json:"id"`
	Revision    uint32    `json:"revision"`
	Change      uint64    `json:"change"`
	Release     uint64    `json:"release,omitempty"`
	Fingerprint string    `json:"fingerprint"`
	Kind        string    `json:"kind"`
	By          string    `json:"by,omitempty"`
	Why         string    `json:"why,omitempty"`
	Trial       string    `json:"trial,omitempty"`
	BackTo      string    `json:"back_to,omitempty"`
	At          time.Time `json:"at"`
	Changes     []Key     `json:"changes"`
}

// Key is one key that differs, by its path in the section detection.
type Key struct {
	Key string `json:"key"`
	Was string `json:"was"`
	Is  string `json:"is"`
}

// View is what holds, and what who asks may do.
type View struct {
	Revision
	// Applied is what is otherwise than in the file: Was is the file's word.
	Applied []Key `json:"applied"`
	// Partitions are those that this instance judges; Following those of them that are judged under this configuration.
	Partitions int    `json:"partitions"`
	Following  int    `json:"following"`
	Rights     string `json:"rights"`
	Name       string `json:"name,omitempty"`
}

func revisionOf(e detection.Entry) Revision {
	r := Revision{
		ID: e.ID(), Revision: e.Revision, Change: e.Change, Release: e.Release, Fingerprint: e.Fingerprint, Kind: e.Kind, By: e.By, Why: e.Why, Trial: e.Trial, At: e.At.UTC(), Changes: []Key{},
	}
	if e.BackTo != nil {
		r.BackTo = e.BackTo.ID()
	}
	for _, d := range e.Changes {
		r.Changes = append(r.Changes, Key{d.Key, d.A, d.B})
	}
	return r
}

// view is what holds now.
func (a *API) view(who identity) (*View, error) {
	all, current := a.log.History(), a.log.Current()
	if len(all) == 0 || current == nil || !a.log.Whole() {
		return nil, detection.ErrUnpublished
	}
	v := &View{Revision: revisionOf(all[0]), Applied: []Key{}, Rights: who.may().String(), Name: who.name}
	for _, d := range current.Applied() {
		v.Applied = append(v.Applied, Key{d.Key, d.A, d.B})
	}
	v.Following, v.Partitions = a.follow()
	return v, nil
}
