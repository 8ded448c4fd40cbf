package revise

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/tocsin-io/tocsin/pkg/config"
	"github.com/tocsin-io/tocsin/pkg/frame"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/detection"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine"
)

// oldCorrections: an applied correction that lies further back is taken out when another comes. It was heeded long ago; frames are kept for a week.
const oldCorrections = 90 * 24 * time.Hour

// Change is a request to change settings of all machines.
type Change struct {
	Reason
	// Base is the id of the revision that it was tried against.
	Base string `json:"base"`
	// Detection is put over the section detection as it holds; or BackTo is the id of the revision whose settings shall hold again.
	Detection json.RawMessage `json:"detection,omitempty"`
	BackTo    string          `json:"back_to,omitempty"`
	// Trial of the tuning bench that it rests on.
	Trial string `json:"trial,omitempty"`
}

func (a *API) change(r *http.Request, who identity) (int, any, error) {
	var q Change
	if err := body(r, &q); err != nil {
		return 0, nil, err
	}
	if err := q.check(who); err != nil {
		return 0, nil, err
	}
	if who.may() < change {
		return 0, nil, &problem{status: http.StatusForbidden, title: "Forbidden", detail: "settings are of all machines: who changes them has all"}
	}
	base, err := detection.ParseID(q.Base)
	switch {
	case err != nil:
		return 0, nil, invalid("base", "%v", err)
	case (len(q.Detection) == 0) == (q.BackTo == ""):
		return 0, nil, invalid("detection", "what is to hold is needed: this, or back_to")
	case len(q.Trial) > 64:
		return 0, nil, invalid("trial", "longer than 64 bytes")
	}
	what := detection.Change{Kind: detection.KindSettings, By: q.By, Why: q.Why, Trial: q.Trial, At: a.now()}
	edit := func(_ *detection.Config, settings *machine.Config) error { return put(q.Detection, settings) }
	if q.BackTo != "" {
		to, err := detection.ParseID(q.BackTo)
		if err != nil {
			return 0, nil, invalid("back_to", "%v", err)
		}
		then, ok := a.log.Settings(to)
		if !ok {
			return 0, nil, &problem{http.StatusNotFound, "Not found", "back_to: revision " + q.BackTo + " is not known any more", map[string]any{"field": "back_to"}}
		}
		what.Kind, what.BackTo = detection.KindBack, &to
		edit = func(_ *detection.Config, settings *machine.Config) error {
			// People's word on what is normal was heeded: it cannot be taken back.
			corrections := settings.Corrections
			*settings = *then
			settings.Corrections = corrections
			return nil
		}
	}
	return a.apply(r.Context(), what, who, func(now *detection.Config, settings *machine.Config) error {
		if now.Revision != base.Revision || now.Change != base.Change {
			return &problem{http.StatusConflict, "Changed meanwhile", fmt.Sprintf("revision %s holds now, this was made for %s: try it again on that", now.ID(), q.Base), map[string]any{"now": now.ID()}}
		}
		return edit(now, settings)
	})
}

// put lays what is proposed over the settings.
func put(proposed []byte, settings *machine.Config) error {
	models, corrections := settings.Detect.Models, settings.Corrections
	settings.Corrections = nil
	if err := config.Overlay(proposed, "detection", settings); err != nil {
		return naming(err)
	}
	if m := settings.Detect.Models; len(m.Champions)+len(m.Shadows) > 0 || m.Memory != models.Memory {
		return invalid("detection.detect.models", "models are given roles, not applied (tocsin models promote); what else is to be said of them stands in the file")
	}
	if len(settings.Corrections) > 0 {
		return invalid("detection.corrections", "corrections are applied by POST /v1/detection/corrections")
	}
	settings.Corrections = corrections
	return nil
}

// naming makes a mistake in the configuration an answer.
func naming(err error) error {
	field := "detection"
	var e *config.Error
	if errors.As(err, &e) {
		field = e.Path
		err = fmt.Errorf("%s: %s", e.Path, e.Reason)
	}
	return &problem{http.StatusBadRequest, "Invalid request", err.Error(), map[string]any{"field": field}}
}

// Correction is a request to correct what a machine may learn.
type Correction struct {
	Reason
	Machine string `json:"machine"`
	Kind    string `json:"kind"`
	From    string `json:"from"`
	To      string `json:"to,omitempty"`
}

func (a *API) correct(r *http.Request, who identity) (int, any, error) {
	var q Correction
	if err := body(r, &q); err != nil {
		return 0, nil, err
	}
	if err := q.check(who); err != nil {
		return 0, nil, err
	}
	c := machine.Correction{Machine: q.Machine, Kind: q.Kind, From: q.From, To: q.To, Why: q.By + ": " + q.Why}
	if err := frame.CheckID("machine", []byte(q.Machine)); err != nil {
		return 0, nil, &problem{http.StatusBadRequest, "Invalid request", err.Error(), map[string]any{"field": "machine"}}
	}
	if err := c.Validate(); err != nil {
		field, _, _ := strings.Cut(err.Error(), ": ")
		return 0, nil, &problem{http.StatusBadRequest, "Invalid request", err.Error(), map[string]any{"field": field}}
	}
	if !who.see.Has(q.Machine) {
		return 0, nil, &problem{status: http.StatusForbidden, title: "Forbidden", detail: "not a machine of yours"}
	}
	what := detection.Change{Kind: detection.KindCorrection, By: q.By, Why: q.Why, At: a.now()}
	status, v, err := a.apply(r.Context(), what, who, func(now *detection.Config, settings *machine.Config) error {
		same := func(o machine.Correction) bool {
			return o.Machine == c.Machine && o.Kind == c.Kind && o.From == c.From && o.To == c.To
		}
		if slices.ContainsFunc(settings.Corrections, same) {
			return detection.ErrNothing
		}
		file := now.FileCorrections()
		settings.Corrections = slices.DeleteFunc(settings.Corrections, func(o machine.Correction) bool {
			return !slices.Contains(file, o) && old(o, what.At)
		})
		settings.Corrections = append(settings.Corrections, c)
		return nil
	})
	if errors.Is(err, detection.ErrNothing) { // said before: a repeat changes nothing
		v, err := a.view(who)
		return http.StatusOK, v, err
	}
	return status, v, err
}

func old(c machine.Correction, now time.Time) bool {
	end := c.To
	if end == "" {
		end = c.From
	}
	at, err := time.Parse(time.RFC3339Nano, end)
	return err == nil && now.Sub(at) > oldCorrections
}

// apply makes a change, and answers with what then holds.
func (a *API) apply(ctx context.Context, what detection.Change, who identity, edit detection.Edit) (int, any, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	_, err := a.log.Apply(ctx, what, edit)
	var p *problem
	outcome := "applied"
	switch {
	case errors.As(err, &p), errors.Is(err, detection.ErrNothing):
		outcome = "refused"
	case err != nil:
		outcome = "failed"
	}
	a.metrics.GetOrCreateCounter(fmt.Sprintf(`tocsin_processor_detection_changes_total{kind=%q,outcome=%q}`, what.Kind, outcome)).Inc()
	if err != nil {
		return 0, nil, err
	}
	v, err := a.view(who)
	return http.StatusCreated, v, err
}
