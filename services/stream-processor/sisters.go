package streamprocessor

import (
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine"
)

// Sisters are judges of machines of one partition, which are held against each other as a partition does it, on virtual time. Not safe for concurrent use.
type Sisters struct {
	cfg    DetectionConfig
	judges []*Judge
	last   int64 // start of the newest round
	begun  bool
}

// NewSisters has judges of cfg held against each other. More may be added later.
func NewSisters(cfg *DetectionConfig, judges ...*Judge) *Sisters {
	return &Sisters{cfg: *cfg, judges: judges}
}

// Add takes in one more judge.
func (s *Sisters) Add(j *Judge) { s.judges = append(s.judges, j) }

// Compare is called as time passes, at the latest once for each window. When the machines' newest round is over, each is held against its sisters of it.
func (s *Sisters) Compare(logMS int64) {
	due := s.cfg.RoundDue(logMS)
	if s.begun && due <= s.last {
		return
	}
	s.last, s.begun = due, true
	list := make([]machine.Member, len(s.judges))
	for i, j := range s.judges {
		list[i] = machine.Member{Machine: j.machine, Class: j.machine.Class()}
	}
	r := machine.Gather(&s.cfg, list, due)
	for i, j := range s.judges {
		j.machine.Compare(r, list[i].Class, &j.out)
	}
}
