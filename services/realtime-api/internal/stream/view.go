package stream

import (
	"strings"
	"sync"
	"sync/atomic"

	"github.com/tocsin-io/tocsin/services/realtime-api/internal/hub"
	"github.com/tocsin-io/tocsin/services/realtime-api/internal/places"

	"github.com/tocsin-io/tocsin/services/realtime-api/internal/gate"
)

// filter is the part of the fleet that a client asks for. nil: whatever.
type filter struct {
	Site  *string `json:"site"`
	Line  *string `json:"line"`
	Group *string `json:"group"`
}

// view is what clients of the same rights and filter see alike: what is new of it is encoded once for all of them. Server.mu guards clients and news.
type view struct {
	key     string
	scope   hub.Scope
	clients int
	news    news

	// The whole fleet as somebody was told it in this tick, for whoever comes in the same one.
	snap   atomic.Pointer[snapshot]
	snapMu sync.Mutex // held while it is made, so that a thousand who come at once make it once
}

// snapshot is the whole fleet of a view.
type snapshot struct {
	version  uint64
	messages [][]byte
}

// snapshot gives one that was made in this tick.
func (s *Server) snapshot(v *view) *snapshot {
	v.snapMu.Lock()
	defer v.snapMu.Unlock()
	if snap := v.snap.Load(); snap != nil {
		return snap
	}
	d := s.hub.FleetSince(0, v.scope)
	snap := &snapshot{d.Version, fleetMessages(&d)}
	v.snap.Store(snap)
	return snap
}

// news is what one interval brought of a view. It does not change once published.
type news struct {
	from, to      uint64
	fleet, alerts [][]byte
	summary       []byte // the latest summary's members, and in which tick it was made
	summaryTick   uint64
}

// viewOf is who may see what, of what they ask for: a key that is the same for the same, and the scope.
func viewOf(who *gate.Identity, f *filter) (key string, scope hub.Scope) {
	see := who.Sees()
	var b strings.Builder
	if see != nil {
		for _, p := range who.Machines.Patterns() {
			b.WriteString(p)
			b.WriteByte('\n')
		}
	}
	if f == nil || f.Site == nil && f.Line == nil && f.Group == nil {
		if see == nil {
			return "", nil
		}
		return b.String(), func(id string, _ places.Place) bool { return see(id) }
	}
	for _, want := range []*string{f.Site, f.Line, f.Group} {
		b.WriteByte(0)
		if want != nil {
			b.WriteByte('=')
			b.WriteString(*want)
		}
	}
	is := func(want *string, got string) bool { return want == nil || *want == got }
	return b.String(), func(id string, at places.Place) bool {
		return (see == nil || see(id)) && is(f.Site, at.Site) && is(f.Line, at.Line) && is(f.Group, at.Group)
	}
}

// look gives the view of a key for one more client.
func (s *Server) look(key string, scope hub.Scope) *view {
	s.mu.Lock()
	defer s.mu.Unlock()
	v := s.views[key]
	if v == nil {
		v = &view{key: key, scope: scope}
		s.views[key] = v
	}
	v.clients++
	return v
}

// leaveView ends what look began.
func (s *Server) leaveView(v *view) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if v.clients--; v.clients == 0 {
		delete(s.views, v.key)
	}
}
