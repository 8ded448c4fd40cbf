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
	cases := map[string]struct {
		shift func() *aShift
		want  string // of the only finding; "": none
	}{
		"a gateway's machines are one page": {func() *aShift {
			s := gateway()
			s.told("a", 581, true)
			return s
		}, ""},
		"without the rule each must be told": {func() *aShift {
			s := gateway()
			s.told("a", 581, true)
			s.world.Incidents = alertrouter.Incidents{}
			s.log.alerts["b"].closedMS = s.log.alerts["b"].openedMS + 1
			return s
		}, `unnotified: alert "c" opened and nobody was told`},
		"the gateway's page itself must be told": {func() *aShift {
			s := gateway()
			s.world.Notifications = []Notification{}
			s.log.alerts["b"].closedMS, s.log.alerts["c"].closedMS = s.log.alerts["b"].openedMS+1, s.log.alerts["c"].openedMS+1
			return s
		}, `unnotified: alert "a" opened and nobody was told`},
		"its end must be told": {gateway, `unnotified: alert "a" ended and nobody was told of that`},
		"its end is told too early": {func() *aShift {
			s := gateway()
			s.told("a", 501, true)
			return s
		}, `wrong: alert "a" was notified as resolved while "b", which it stood for, had not come back`},
		"who does not come back is told of after the grace": {func() *aShift {
			s := gateway()
			s.log.alerts["c"].closedMS = 0
			s.told("c", 622, false)
			s.told("a", 622, true)
			return s
		}, ""},
		"who does not come back is never told of": {func() *aShift {
			s := gateway()
			s.log.alerts["c"].closedMS = 0
			return s
		}, `unnotified: alert "c" opened and nobody was told`},
		"another gateway is another incident": {func() *aShift {
			s := gateway()
			s.told("a", 581, true)
			s.alert("d", "d", "gw-2", 101, 0, critical)
			return s
		}, `unnotified: alert "d" opened and nobody was told`},
		"an alert waits for the cooldown": {func() *aShift {
			s := newShift(2000)
			s.alert("a", "m", "", 100, 130, warning)
			s.alert("b", "m", "", 140, 220, warning)
			s.told("a", 101, false)
			s.told("a", 131, true)
			return s
		}, ""},
		"and no longer": {func() *aShift {
			s := newShift(2000)
			s.alert("a", "m", "", 100, 130, warning)
			s.alert("b", "m", "", 140, 300, warning)
			s.told("a", 101, false)
			s.told("a", 131, true)
			return s
		}, `unnotified: alert "b" opened and nobody was told`},
		"a graver one does not wait": {func() *aShift {
			s := newShift(2000)
			s.alert("a", "m", "", 100, 130, warning)
			s.alert("b", "m", "", 140, 220, critical)
			s.told("a", 101, false)
			s.told("a", 131, true)
			return s
		}, `unnotified: alert "b" opened and nobody was told`},
		"nor does another machine": {func() *aShift {
			s := newShift(2000)
			s.alert("a", "m", "", 100, 130, warning)
			s.alert("b", "n", "", 140, 220, warning)
			s.told("a", 101, false)
			s.told("a", 131, true)
			return s
		}, `unnotified: alert "b" opened and nobody was told`},
		"what was held is no page that others wait for": {func() *aShift {
			s := newShift(2000)
			s.alert("a", "m", "", 100, 130, warning)
			s.alert("b", "m", "", 200, 215, warning)
			s.alert("c", "m", "", 230, 330, warning)
			s.told("a", 101, false)
			s.told("a", 131, true)
			return s
		}, `unnotified: alert "c" opened and nobody was told`},
		"a flood": {func() *aShift {
			s := newShift(2000)
			s.world.Incidents.Flood = alertrouter.Limit{Count: 2, Per: 10 * time.Minute}
			for i, id := range []string{"a", "b", "c"} {
				s.alert(id, id, "", 100+int64(i), 600, warning)
			}
			for _, id := range []string{"a", "b"} {
				s.told(id, 103, false)
				s.told(id, 601, true)
			}
			return s
		}, ""},
		"a flood that is over": {func() *aShift {
			s := newShift(2000)
			s.world.Incidents.Flood = alertrouter.Limit{Count: 2, Per: 5 * time.Minute}
			for i, id := range []string{"a", "b", "c"} {
				s.alert(id, id, "", 100+int64(i), 600, warning)
			}
			for _, id := range []string{"a", "b"} {
				s.told(id, 103, false)
				s.told(id, 601, true)
			}
			return s
		}, `unnotified: alert "c" opened and nobody was told`},
		"a line's alerts are one page, but for a graver one": {func() *aShift {
			s := newShift(2000)
			s.world.Incidents.Groups = []alertrouter.Group{{Name: "line", Equipment: []string{"press-*"}, Incident: time.Minute}}
			for i, id := range []string{"a", "b", "c"} {
				s.alert(id, "press-"+id, "", 100+int64(i), 600, warning)
			}
			s.log.alerts["c"].severities[0].severity = critical
			s.told("a", 103, false)
			s.told("a", 601, true)
			return s
		}, `unnotified: alert "c" opened and nobody was told`},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			rep := c.shift().report()
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
