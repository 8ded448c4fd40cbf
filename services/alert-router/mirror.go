package alertrouter

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/pkg/httpserver"
	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/desk"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/incident"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/journal"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/lifecycle"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/routing"
)

// Annotations that tell an alert's state to whoever looks through Alertmanager's API.
const (
	annotationState = "state"
	annotationAckBy = "acknowledged_by"
	annotationHeld  = "held"
	// The alert that stands for the incident that this one is part of; and of that alert, how many machines have not come back.
	annotationIncident = "incident_id"
	annotationMachines = "incident_machines"
	annotationGroup    = "incident_group"
	annotationNote     = "note"
)

// mirror brings what has changed at the desk to the engine: shelves and alarms out of service become silences, states become annotations. It is called before anybody who waits
// for the change goes on, so nobody is told of what is shelved already.
func (s *Service) mirror(c lifecycle.Changes) {
	for _, p := range c.Alarms {
		if err := s.mirrorAlarm(p); err != nil {
			s.log.Error("a decision is not in force here", zap.Stringer("alarm", p.Key), zap.Error(err))
		}
	}
	leads := map[string]*lifecycle.Alert{}
	for _, a := range c.Alerts {
		if a.Open() {
			s.annotate(a)
		}
		if a.Lead != "" && a.Lead != a.ID {
			if lead, ok := s.desk.Alert(a.Lead); ok && lead.Open() {
				leads[lead.ID] = lead
			}
		}
	}
	for _, lead := range leads {
		s.annotate(lead)
	}
	if err := s.announcer.settle(context.Background()); err != nil {
		s.log.Error("the end of an incident is not told", zap.Error(err))
	}
}

func (s *Service) annotate(a *lifecycle.Alert) {
	if err := s.engine.Annotate(context.Background(), a.Event.GetLabels(), stateNotes(s.desk, a)); err != nil {
		s.log.Warn("the API does not show an alert's state", zap.String("alert_id", a.ID), zap.Error(err))
	}
}

// stateNotes are the annotations of an alert that stands; an empty one is to be taken away.
func stateNotes(d *desk.Desk, a *lifecycle.Alert) []routing.Note {
	members, group, by := "", "", ""
	if n, of := d.Leads(a.ID); n > 0 {
		members, group = strconv.Itoa(n), of
	}
	if a.Ack != nil {
		by = a.Ack.By
	}
	return []routing.Note{
		{Name: annotationState, Text: string(a.State)},
		{Name: annotationAckBy, Text: by},
		{Name: annotationHeld, Text: a.Held},
		{Name: annotationIncident, Text: a.Lead},
		{Name: annotationMachines, Text: members},
		{Name: annotationGroup, Text: group},
		{Name: annotationNote, Text: a.Note},
	}
}

func (s *Service) mirrorAlarm(p lifecycle.Alarm) error {
	var errs error
	for _, l := range p.Lifted {
		errs = errors.Join(errs, s.engine.LiftShelf(context.Background(), l.ID, time.UnixMilli(l.AtMS)))
	}
	for what, m := range map[string]*lifecycle.Mark{"shelved": p.Shelf, "out of service": p.OutOfService} {
		if m == nil {
			continue
		}
		shelf := routing.Shelf{
			Name: m.ID, Matchers: map[string]string{incident.LabelEquipment: p.Key.EquipmentID, incident.LabelCause: p.Key.Cause}, By: m.By, Why: what,
			From: time.UnixMilli(m.AtMS),
		}
		if m.Why != "" {
			shelf.Why += ": " + m.Why
		}
		if m.UntilMS != 0 {
			shelf.Until = time.UnixMilli(m.UntilMS)
		}
		errs = errors.Join(errs, s.engine.Shelve(shelf))
	}
	return errs
}

// shelves takes the end of a silence that stands for a decision to where it was decided: amtool silence expire unshelves, on every instance and in the journal.
func (s *Service) shelves(next http.Handler) http.Handler {
	const path = "/api/v2/silence/"
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, ok := strings.CutPrefix(r.URL.Path, path)
		if r.Method != http.MethodDelete || !ok {
			next.ServeHTTP(w, r)
			return
		}
		act, ours := s.lifting(id)
		if !ours {
			next.ServeHTTP(w, r)
			return
		}
		ctx, cancel := context.WithTimeout(r.Context(), 10*time.Second)
		defer cancel()
		if _, err := s.desk.Do(ctx, act); err != nil && !desk.Conflict(err) {
			s.log.Warn("silence not expired", zap.String("silence", id), zap.Error(err))
			httpserver.Problem(w, http.StatusServiceUnavailable, "not now", "this silence stands for a shelf, and Kafka does not answer", nil)
			return
		}
		w.WriteHeader(http.StatusOK)
	})
}

// lifting is the act that ends the decision for which a silence of that id stands.
func (s *Service) lifting(id string) (desk.Act, bool) {
	for _, p := range s.desk.Alarms() {
		act := desk.Act{AlertID: s.desk.Standing(p), By: "Alertmanager API", Why: "silence expired"}
		switch {
		case p.Shelf != nil && routing.ShelfID(p.Shelf.ID) == id:
			act.Transition = eventv1.AlertTransition_ALERT_TRANSITION_UNSHELVED
			return act, true
		case p.OutOfService != nil && routing.ShelfID(p.OutOfService.ID) == id:
			act.Transition = eventv1.AlertTransition_ALERT_TRANSITION_IN_SERVICE
			return act, true
		}
	}
	return desk.Act{}, false
}

// noted brings who was told of what to the journal.
func (s *Service) noted(instance string) func([]routing.Notice) {
	return func(list []routing.Notice) {
		told := make([]journal.Told, len(list))
		for i, n := range list {
			sum := sha256.Sum256([]byte(strings.Join([]string{n.Key, n.Receiver, n.Integration, n.AlertID, n.Status}, "\x00")))
			told[i] = journal.Told{
				ID: hex.EncodeToString(sum[:16]), MessageKey: n.Key, AlertID: n.AlertID, EquipmentID: n.EquipmentID, Receiver: n.Receiver, Integration: n.Integration,
				Status: n.Status, Reason: n.Reason, Outcome: n.Outcome, Attempts: 1, AtMS: n.At.UnixMilli(), LatencyMS: n.Latency.Milliseconds(), Error: n.Error, Instance: instance,
			}
		}
		s.desk.Note(told...)
	}
}
