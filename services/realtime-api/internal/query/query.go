// Package query answers questions about what is live from the hub, for REST and gRPC alike: whose machines, which of them, a page at a time.
//
// Questions and answers are neither JSON nor protobuf: those who ask write them as they need. A Desk may be used concurrently.
package query

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	queryv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/query/v1"

	"github.com/tocsin-io/tocsin/services/realtime-api/internal/gate"
	"github.com/tocsin-io/tocsin/services/realtime-api/internal/hub"
	"github.com/tocsin-io/tocsin/services/realtime-api/internal/places"
)

// Limits of one answer.
const (
	DefaultPage    = 100
	MaxPage        = 1000
	DefaultWindows = 180
	MaxWindows     = 1000
	MaxSensors     = 64
	maxGateways    = 1000
	maxText        = 4096
)

// Fault is why a question has no answer: its Field is wrong, or, where there is none, its machine is not there.
type Fault struct{ Field, Detail string }

func (f *Fault) Error() string {
	if f.Field == "" {
		return f.Detail
	}
	return f.Field + ": " + f.Detail
}

// Unknown tells whether it is the machine that is not there.
func (f *Fault) Unknown() bool { return f.Field == "" }

func bad(field, format string, args ...any) *Fault {
	return &Fault{field, fmt.Sprintf(format, args...)}
}

// A machine that the asker does not see and one that does not exist are answered alike.
func unknown(id string) *Fault {
	return &Fault{Detail: fmt.Sprintf("nothing has been heard of machine %.160q", id)}
}

// Desk answers.
type Desk struct{ hub *hub.Hub }

// New makes a desk over the hub.
func New(h *hub.Hub) *Desk { return &Desk{h} }

// Where is a filter by place: nil lets every machine through, a pointer to nothing those that stand nowhere.
type Where struct{ Site, Line, Group *string }

// scope is the machines that the asker sees, of those asked for; nil: every one.
func (w Where) scope(who *gate.Identity) hub.Scope {
	see := who.Sees()
	if see == nil && w == (Where{}) {
		return nil
	}
	is := func(want *string, s string) bool { return want == nil || *want == s }
	return func(id string, at places.Place) bool {
		return (see == nil || see(id)) && is(w.Site, at.Site) && is(w.Line, at.Line) && is(w.Group, at.Group)
	}
}

// sees tells whether a machine exists for the asker.
func sees(who *gate.Identity, id string) bool {
	see := who.Sees()
	return see == nil || see(id)
}

// Page is which part of a list is asked for.
type Page struct {
	// Size is at most how many; 0: DefaultPage.
	Size int
	// Token is where the page before ended; empty: the first.
	Token string
}

// size is how many are asked for.
func (p Page) size() (int, *Fault) {
	switch {
	case p.Size == 0:
		return DefaultPage, nil
	case p.Size < 1 || p.Size > MaxPage:
		return 0, bad("page_size", "%d is not in 1..%d", p.Size, MaxPage)
	}
	return p.Size, nil
}

func badToken() *Fault { return bad("page_token", "not a token that this service gave") }

// after is the id after which the page begins.
func (p Page) after() (string, *Fault) {
	b, err := base64.RawURLEncoding.DecodeString(p.Token)
	if err != nil || len(b) > maxText {
		return "", badToken()
	}
	return string(b), nil
}

// afterAlert is the alert after which the page begins; nil: from the first.
func (p Page) afterAlert() (*hub.AlertKey, *Fault) {
	if p.Token == "" {
		return nil, nil
	}
	s, f := p.after()
	var k hub.AlertKey
	if f != nil || json.Unmarshal([]byte(s), &k) != nil {
		return nil, badToken()
	}
	return &k, nil
}

// token is where the next page begins: it means nothing to whoever gets it.
func token(key string) string { return base64.RawURLEncoding.EncodeToString([]byte(key)) }

func alertToken(e *eventv1.AlertEvent) string {
	b, _ := json.Marshal(hub.KeyOf(e)) // numbers, a bool and a string always marshal
	return token(string(b))
}

// Machines is a question for machines.
type Machines struct {
	Page
	Where
	// Search is part of a machine's id or place, in whatever case.
	Search string
	// States are those wanted; nil: all.
	States []queryv1.MachineState
}

// MachineList is a page of machines in order of id.
type MachineList struct {
	Rows  []hub.Row
	Next  string
	Total int
}

// Machines lists machines.
func (d *Desk) Machines(who *gate.Identity, q Machines) (MachineList, *Fault) {
	size, f := q.size()
	if f != nil {
		return MachineList{}, f
	}
	after, f := q.after()
	if f != nil {
		return MachineList{}, f
	}
	in, search := q.scope(who), strings.ToLower(q.Search)
	var out MachineList
	out.Rows, out.Total = d.hub.Rows(func(m *hub.Row) bool {
		return (len(q.States) == 0 || slices.Contains(q.States, m.State)) && (in == nil || in(m.ID, m.Place)) && found(search, m.ID, m.Place)
	}, after, size+1)
	if len(out.Rows) > size {
		out.Rows = out.Rows[:size]
		out.Next = token(out.Rows[size-1].ID)
	}
	return out, nil
}

// found tells whether a search, in small letters, is part of a machine's id or of where it stands.
func found(search, id string, at places.Place) bool {
	if search == "" {
		return true
	}
	for _, s := range []string{id, at.Site, at.Line, at.Group} {
		if strings.Contains(strings.ToLower(s), search) {
			return true
		}
	}
	return false
}

// Machine is one machine and the sensors of its latest window.
func (d *Desk) Machine(who *gate.Identity, id string) (hub.Row, []string, *Fault) {
	if sees(who, id) {
		if row, sensors, ok := d.hub.Machine(id); ok {
			return row, sensors, nil
		}
	}
	return hub.Row{}, nil, unknown(id)
}

// Windows is a question for a machine's windows.
type Windows struct {
	EquipmentID string
	// SinceUS is what they end after.
	SinceUS int64
	// Limit is how many of the latest; 0: DefaultWindows.
	Limit int
	// Sensors are those wanted; empty: all, of a wide machine the most unusual.
	Sensors []string
}

// Windows gives a machine's windows, oldest first, and which of their sensors are asked for; nil: all.
func (d *Desk) Windows(who *gate.Identity, q Windows) ([]*hub.Window, func(sensor string) bool, *Fault) {
	limit := q.Limit
	switch {
	case limit == 0:
		limit = DefaultWindows
	case limit < 1 || limit > MaxWindows:
		return nil, nil, bad("limit", "%d is not in 1..%d", limit, MaxWindows)
	}
	if n := len(q.Sensors); n > MaxSensors {
		return nil, nil, bad("sensor", "%d named, at most %d", n, MaxSensors)
	}
	if !sees(who, q.EquipmentID) {
		return nil, nil, unknown(q.EquipmentID)
	}
	ws, ok := d.hub.Windows(q.EquipmentID, q.SinceUS, limit)
	if !ok {
		return nil, nil, unknown(q.EquipmentID)
	}
	if len(q.Sensors) > 0 {
		return ws, func(s string) bool { return slices.Contains(q.Sensors, s) }, nil
	}
	if len(ws) > 0 {
		if top := hub.TopSensors(ws[len(ws)-1], MaxSensors); top != nil {
			return ws, func(s string) bool { return top[s] }, nil
		}
	}
	return ws, nil, nil
}

// Anomalies gives the latest reports, latest first: of one machine, or of all where the id is empty.
func (d *Desk) Anomalies(who *gate.Identity, where Where, id string, size int) ([]*eventv1.Anomaly, *Fault) {
	size, f := Page{Size: size}.size()
	if f != nil {
		return nil, f
	}
	return d.hub.Anomalies(where.scope(who), id, size), nil
}

// Counts are how many machines and alerts there are.
func (d *Desk) Counts(who *gate.Identity, where Where) hub.Counts {
	return d.hub.Counts(where.scope(who))
}

// Places lists where the machines stand that the asker sees.
func (d *Desk) Places(who *gate.Identity) []hub.PlaceCount {
	return d.hub.Places(Where{}.scope(who))
}
