package history

import (
	"strings"
	"testing"
	"time"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	alertrouter "github.com/tocsin-io/tocsin/services/alert-router"
)

// shift of people: alerts by the second at which they came and ended, and what people were told.
type aShift struct {
	log   *alertLog
	world World
}

const (
	warning  = eventv1.Severity_SEVERITY_WARNING
	critical = eventv1.Severity_SEVERITY_CRITICAL
)

func newShift(until int64) *aShift {
	s := &aShift{log: newAlertLog(), world: World{Notifications: []Notification{}, SendResolved: true, NotifyWithin: 30 * time.Second, Incidents: alertrouter.DefaultConfig().Incidents}}
	s.log.newestMS = until * 1000
	return s
}

// alert stands from one second to another; 0: it stands still. gateway: that its machine fell silent with.
func (s *aShift) alert(id, equipment, gateway string, from, to int64, sev eventv1.Severity) *alertLife {
	a := &alertLife{id: id, openedMS: from * 1000, closedMS: to * 1000, alarm: alarm{equipment, "silence"}, gateway: gateway, severities: []severityFrom{{from * 1000, sev}}}
	s.log.alerts[id] = a
	return a
}

func (s *aShift) told(id string, at int64, resolved bool) {
	s.world.Notifications = append(s.world.Notifications, Notification{AlertID: id, Resolved: resolved, At: time.Unix(at, 0)})
}

// page is told, and its end.
func (s *aShift) page(id string, from, to int64) {
	s.told(id, from, false)
	s.told(id, to, true)
}

func (s *aShift) report() *Report {
	rep := newReport()
	s.log.compare(rep, &s.world)
	return rep
}

func TestWhatIsToldTogether(t *testing.T) {
	gateway := func() *aShift {
		s := newShift(2000)
		for i, m := range []string{"a", "b", "c"} {
			s.alert(m, m, "gw", 100+int64(i), 500+40*int64(i), critical)
		}
		s.told("a", 101, false)
		return s
	}
	alone := func() *aShift { return newShift(2000) }
	cases := map[string]struct {
		begin func() *aShift
		then  func(*aShift)
		want  string // of the only finding; "": none
	}{
		"a gateway's machines are one page": {gateway, func(s *aShift) { s.told("a", 581, true) }, ""},
		"without the rule each must be told": {gateway, func(s *aShift) {
			s.told("a", 581, true)
			s.world.Incidents = alertrouter.Incidents{}
			s.log.alerts["b"].closedMS = s.log.alerts["b"].openedMS + 1
		}, `unnotified: alert "c" opened and nobody was told`},
		"the gateway's page itself must be told": {gateway, func(s *aShift) {
			s.world.Notifications = []Notification{}
			s.log.alerts["b"].closedMS, s.log.alerts["c"].closedMS = s.log.alerts["b"].openedMS+1, s.log.alerts["c"].openedMS+1
		}, `unnotified: alert "a" opened and nobody was told`},
		"its end must be told":      {gateway, nil, `unnotified: alert "a" ended and nobody was told of that`},
		"its end is told too early": {gateway, func(s *aShift) { s.told("a", 501, true) }, `wrong: alert "a" was notified as resolved while "b", which it stood for, had not come back`},
		"who does not come back is told of after the grace": {gateway, func(s *aShift) {
			s.log.alerts["c"].closedMS = 0
			s.told("c", 622, false)
			s.told("a", 622, true)
		}, ""},
		"who does not come back is never told of": {gateway, func(s *aShift) {
			s.log.alerts["c"].closedMS = 0
		}, `unnotified: alert "c" opened and nobody was told`},
		"another gateway is another incident": {gateway, func(s *aShift) {
			s.told("a", 581, true)
			s.alert("d", "d", "gw-2", 101, 0, critical)
		}, `unnotified: alert "d" opened and nobody was told`},
		"an alert waits for the cooldown": {alone, func(s *aShift) {
			s.alert("a", "m", "", 100, 130, warning)
			s.alert("b", "m", "", 140, 220, warning)
			s.page("a", 101, 131)
		}, ""},
		"and no longer": {alone, func(s *aShift) {
			s.alert("a", "m", "", 100, 130, warning)
			s.alert("b", "m", "", 140, 300, warning)
			s.page("a", 101, 131)
		}, `unnotified: alert "b" opened and nobody was told`},
		"a graver one does not wait": {alone, func(s *aShift) {
			s.alert("a", "m", "", 100, 130, warning)
			s.alert("b", "m", "", 140, 220, critical)
			s.page("a", 101, 131)
		}, `unnotified: alert "b" opened and nobody was told`},
		"nor does another machine": {alone, func(s *aShift) {
			s.alert("a", "m", "", 100, 130, warning)
			s.alert("b", "n", "", 140, 220, warning)
			s.page("a", 101, 131)
		}, `unnotified: alert "b" opened and nobody was told`},
		"what was held is no page that others wait for": {alone, func(s *aShift) {
			s.alert("a", "m", "", 100, 130, warning)
			s.alert("b", "m", "", 200, 215, warning)
			s.alert("c", "m", "", 230, 330, warning)
			s.page("a", 101, 131)
		}, `unnotified: alert "c" opened and nobody was told`},
		"a flood": {alone, func(s *aShift) {
			s.world.Incidents.Flood = alertrouter.Limit{Count: 2, Per: 10 * time.Minute}
			for i, id := range []string{"a", "b", "c"} {
				s.alert(id, id, "", 100+int64(i), 600, warning)
			}
			for _, id := range []string{"a", "b"} {
				s.page(id, 103, 601)
			}
		}, ""},
		"a flood that is over": {alone, func(s *aShift) {
			s.world.Incidents.Flood = alertrouter.Limit{Count: 2, Per: 5 * time.Minute}
			for i, id := range []string{"a", "b", "c"} {
				s.alert(id, id, "", 100+int64(i), 600, warning)
			}
			for _, id := range []string{"a", "b"} {
				s.page(id, 103, 601)
			}
		}, `unnotified: alert "c" opened and nobody was told`},
		"a line's alerts are one page, but for a graver one": {alone, func(s *aShift) {
			s.world.Incidents.Groups = []alertrouter.Group{{Name: "line", Equipment: []string{"press-*"}, Incident: time.Minute}}
			for i, id := range []string{"a", "b", "c"} {
				s.alert(id, "press-"+id, "", 100+int64(i), 600, warning)
			}
			s.log.alerts["c"].severities[0].severity = critical
			s.page("a", 103, 601)
		}, `unnotified: alert "c" opened and nobody was told`},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			s := c.begin()
			if c.then != nil {
				c.then(s)
			}
			rep := s.report()
			if c.want == "" {
				if !rep.OK() {
					t.Fatal(rep)
				}
				return
			}
			if len(rep.Findings) != 1 || !strings.HasPrefix(rep.Findings[0].Kind+": "+rep.Findings[0].Detail, c.want) {
				t.Fatalf("want %q, found %v", c.want, rep)
			}
		})
	}
}
