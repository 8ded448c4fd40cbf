package alertapi

import (
	"net/http"
	"time"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/access"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/desk"
	"github.com/tocsin-io/tocsin/services/alert-router/internal/lifecycle"
)

var actions = map[string]eventv1.AlertTransition{
	"acknowledge":    eventv1.AlertTransition_ALERT_TRANSITION_ACKNOWLEDGED,
	"shelve":         eventv1.AlertTransition_ALERT_TRANSITION_SHELVED,
	"unshelve":       eventv1.AlertTransition_ALERT_TRANSITION_UNSHELVED,
	"out-of-service": eventv1.AlertTransition_ALERT_TRANSITION_OUT_OF_SERVICE,
	"in-service":     eventv1.AlertTransition_ALERT_TRANSITION_IN_SERVICE,
	"verdict":        eventv1.AlertTransition_ALERT_TRANSITION_VERDICT,
}

func (a *API) list(w http.ResponseWriter, r *http.Request, who *access.Identity) error {
	f, err := a.filter(r.URL.Query(), who)
	if err != nil {
		return err
	}
	store, err := a.desk.Journal()
	if err != nil {
		return err
	}
	list, next, err := store.Alerts(r.Context(), f)
	if err != nil {
		return err
	}
	out := struct {
		Alerts []alertView `json:"alerts"`
		Next   string      `json:"next,omitempty"`
	}{make([]alertView, len(list)), cursor(next)}
	for i, al := range list {
		out.Alerts[i] = a.view(al, false)
	}
	return answer(w, out)
}

// find gives the alert of the path; one of a machine that who does not see is not there.
func (a *API) find(r *http.Request, who *access.Identity) (*lifecycle.Alert, error) {
	id := r.PathValue("id")
	if id == "" || len(id) > maxID {
		return nil, errNotFound
	}
	al, err := a.desk.Find(r.Context(), id)
	if err != nil {
		return nil, err
	}
	if !who.Machines.Has(al.Key.EquipmentID) {
		return nil, errNotFound
	}
	return al, nil
}

func (a *API) show(w http.ResponseWriter, r *http.Request, who *access.Identity) error {
	al, err := a.find(r, who)
	if err != nil {
		return err
	}
	return answer(w, a.view(al, true))
}

func (a *API) transitionsOf(w http.ResponseWriter, r *http.Request, who *access.Identity) error {
	al, err := a.find(r, who)
	if err != nil {
		return err
	}
	q := r.URL.Query()
	q.Set("alert_id", al.ID)
	return a.rows(w, r, who, q)
}

func (a *API) transitions(w http.ResponseWriter, r *http.Request, who *access.Identity) error {
	return a.rows(w, r, who, r.URL.Query())
}

func (a *API) rows(w http.ResponseWriter, r *http.Request, who *access.Identity, q map[string][]string) error {
	f, err := a.filter(q, who)
	if err != nil {
		return err
	}
	store, err := a.desk.Journal()
	if err != nil {
		return err
	}
	list, next, err := store.Transitions(r.Context(), f)
	if err != nil {
		return err
	}
	out := struct {
		Transitions []rowView `json:"transitions"`
		Next        string    `json:"next,omitempty"`
	}{make([]rowView, len(list)), cursor(next)}
	for i, x := range list {
		out.Transitions[i] = viewRow(x)
	}
	return answer(w, out)
}

func (a *API) toldOf(w http.ResponseWriter, r *http.Request, who *access.Identity) error {
	al, err := a.find(r, who)
	if err != nil {
		return err
	}
	store, err := a.desk.Journal()
	if err != nil {
		return err
	}
	list, err := store.Told(r.Context(), al.ID)
	if err != nil {
		return err
	}
	out := struct {
		Notifications []toldView `json:"notifications"`
	}{make([]toldView, len(list))}
	for i, n := range list {
		out.Notifications[i] = viewTold(n)
	}
	return answer(w, out)
}

// act does one of the things that people do.
func (a *API) act(w http.ResponseWriter, r *http.Request, who *access.Identity, t eventv1.AlertTransition) error {
	var in struct {
		By       string `json:"by"`
		Comment  string `json:"comment"`
		Duration string `json:"duration"`
		Verdict  string `json:"verdict"`
	}
	if err := body(r, &in); err != nil {
		return err
	}
	al, err := a.find(r, who)
	if err != nil {
		return err
	}
	act := desk.Act{AlertID: al.ID, Transition: t, By: in.By, Why: in.Comment, Key: r.Header.Get("Idempotency-Key")}
	if len(act.Key) > 256 {
		return invalid("Idempotency-Key", "longer than 256 bytes")
	}
	if who.Name != "" {
		if in.By != "" && in.By != who.Name {
			return invalid("by", "these credentials are another's")
		}
		act.By = who.Name
	}
	lasts := t == eventv1.AlertTransition_ALERT_TRANSITION_SHELVED || t == eventv1.AlertTransition_ALERT_TRANSITION_OUT_OF_SERVICE
	switch {
	case in.Duration != "" && !lasts:
		return invalid("duration", "this has none")
	case in.Duration != "":
		if act.For, err = time.ParseDuration(in.Duration); err != nil || act.For <= 0 {
			return invalid("duration", "%q is not a duration such as 8h", in.Duration)
		}
	}
	if t == eventv1.AlertTransition_ALERT_TRANSITION_VERDICT {
		act.Verdict = verdicts[in.Verdict]
	} else if in.Verdict != "" {
		return invalid("verdict", "this has none")
	}
	now, err := a.desk.Do(r.Context(), act)
	if err != nil {
		return err
	}
	return answer(w, a.view(now, true))
}

func (a *API) testRoutes(w http.ResponseWriter, r *http.Request, _ *access.Identity) error {
	var in struct {
		Labels map[string]string `json:"labels"`
	}
	if err := body(r, &in); err != nil {
		return err
	}
	to, err := a.router.Route(in.Labels)
	if err != nil {
		return invalid("labels", "%v", err)
	}
	return answer(w, struct {
		Receivers []string `json:"receivers"`
	}{to})
}

// onCall says who is on duty, now or at a time.
func (a *API) onCall(w http.ResponseWriter, r *http.Request, _ *access.Identity) error {
	at := a.now()
	if s := r.URL.Query().Get("at"); s != "" {
		var err error
		if at, err = time.Parse(time.RFC3339, s); err != nil {
			return invalid("at", "%q is not a time (RFC 3339)", s)
		}
	}
	type duty struct {
		Schedule string    `json:"schedule"`
		Receiver string    `json:"receiver"`
		Until    time.Time `json:"until"`
	}
	out := struct {
		At     time.Time `json:"at"`
		OnCall []duty    `json:"on_call"`
	}{at.UTC(), []duty{}}
	for _, d := range a.duty.OnDuty(at) {
		out.OnCall = append(out.OnCall, duty{d.Schedule, d.Person, d.Until.UTC()})
	}
	return answer(w, out)
}
