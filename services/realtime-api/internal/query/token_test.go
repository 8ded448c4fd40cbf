package query

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/tocsin-io/tocsin/pkg/auth"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"

	"github.com/tocsin-io/tocsin/services/realtime-api/internal/gate"
	"github.com/tocsin-io/tocsin/services/realtime-api/internal/hub"
)

// FuzzPageToken: a token is refused, or is a place in the list; what follows it is in order, of the asker's machines only, and followed by the rest of the list.
func FuzzPageToken(f *testing.F) {
	h := hub.New(hub.DefaultLimits())
	for i := range 20 {
		id := fmt.Sprintf("%c-%02d", 'a'+i%2, i)
		if err := h.ApplyWindow(&eventv1.Window{EquipmentId: id, EndUs: 5}); err != nil {
			f.Fatal(err)
		}
		if err := h.ApplyCoverage(&eventv1.MachineCoverage{EquipmentId: id}); err != nil {
			f.Fatal(err)
		}
		if err := h.ApplyAlert(&eventv1.AlertEvent{AlertId: id, EquipmentId: id, Severity: eventv1.Severity(i % 4), StartedUs: int64(i), AtMs: int64(i), Transition: eventv1.AlertTransition(1 + i%3)}); err != nil {
			f.Fatal(err)
		}
	}
	who, d := &gate.Identity{Machines: auth.NewEquipment([]string{"a-*"})}, New(h)
	for _, s := range []string{"", "%", "YS0wNA", "e30", "bnVsbA", "W10", "Lg", token(`{"Closed":true,"At":-9223372036854775808,"ID":"a"}`), token(`{"At":1e99}`), token("\xff\x00")} {
		f.Add(s, 3)
	}
	f.Fuzz(func(t *testing.T, tok string, size int) {
		p := Page{Size: size, Token: tok}
		machines, no := d.Machines(who, Machines{Page: p})
		check(t, no, size, len(machines.Rows), machines.Total)
		if !slices.IsSortedFunc(machines.Rows, func(a, b hub.Row) int { return strings.Compare(a.ID, b.ID) }) || slices.ContainsFunc(machines.Rows, func(r hub.Row) bool { return !who.Machines.Has(r.ID) }) {
			t.Fatalf("%v", machines.Rows)
		}
		covered, no := d.Coverage(who, Coverage{Page: p})
		check(t, no, size, len(covered.Machines), covered.Total)
		alerts, no := d.Alerts(who, Alerts{Page: p, IncludeClosed: true})
		check(t, no, size, len(alerts.Events), alerts.Total)
		for i, e := range alerts.Events {
			if !who.Machines.Has(e.EquipmentId) || i > 0 && hub.KeyOf(alerts.Events[i-1]).Compare(hub.KeyOf(e)) >= 0 {
				t.Fatalf("%v", alerts.Events)
			}
		}
		if alerts.Next == "" {
			return
		}
		more, no := d.Alerts(who, Alerts{Page: Page{Token: alerts.Next}, IncludeClosed: true})
		if no != nil || len(more.Events) == 0 || hub.KeyOf(alerts.Events[len(alerts.Events)-1]).Compare(hub.KeyOf(more.Events[0])) >= 0 {
			t.Fatalf("%v after %v: %v", more.Events, alerts.Events, no)
		}
	})
}

func check(t *testing.T, no *Fault, size, got, total int) {
	t.Helper()
	switch {
	case no != nil:
		if no.Unknown() || no.Field != "page_token" && no.Field != "page_size" || got != 0 {
			t.Fatal(no)
		}
	case size != 0 && got > size || total != 10 || got > total:
		t.Fatalf("%d of %d on a page of %d", got, total, size)
	}
}
