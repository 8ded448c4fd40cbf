package alertapi

import (
	"net/http"
	"time"

	"github.com/tocsin-io/tocsin/services/alert-router/internal/access"
)

const (
	defaultPeriod = 7 * 24 * time.Hour
	defaultShift  = 8 * time.Hour
	maxShifts     = 1000
)

type figuresView struct {
	From         time.Time       `json:"from"`
	To           time.Time       `json:"to"`
	Alerts       map[string]int  `json:"alerts_by_severity"`
	States       map[string]int  `json:"standing_by_state"`
	Shift        string          `json:"shift"`
	Pages        []shiftView     `json:"pages"`
	Acknowledged int             `json:"acknowledged"`
	AckMedian    float64         `json:"time_to_acknowledge_median_seconds"`
	AckP90       float64         `json:"time_to_acknowledge_p90_seconds"`
	AckMost      float64         `json:"time_to_acknowledge_max_seconds"`
	Precision    []precisionView `json:"precision_by_machine"`
	Stale        []standingView  `json:"stale"`
	Chattering   []chatterView   `json:"chattering"`
	Floods       int             `json:"floods"`
}

type shiftView struct {
	Receiver string    `json:"receiver"`
	Begin    time.Time `json:"shift_begin"`
	Pages    int       `json:"pages"`
}

type precisionView struct {
	EquipmentID string  `json:"equipment_id"`
	Real        int     `json:"real"`
	False       int     `json:"false"`
	Known       int     `json:"known"`
	Sensor      int     `json:"sensor"`
	Share       float64 `json:"precision"`
}

type standingView struct {
	AlertID     string    `json:"alert_id"`
	EquipmentID string    `json:"equipment_id"`
	Cause       string    `json:"cause"`
	State       string    `json:"state"`
	Opened      time.Time `json:"opened_at"`
}

type chatterView struct {
	EquipmentID string `json:"equipment_id"`
	Cause       string `json:"cause"`
	Alerts      int    `json:"alerts"`
}

// figures of a period: since (7 days ago) until (now), in shifts of the given length (8h).
func (a *API) figures(w http.ResponseWriter, r *http.Request, who *access.Identity) error {
	q := r.URL.Query()
	shift := defaultShift
	if s := q.Get("shift"); s != "" {
		var err error
		if shift, err = time.ParseDuration(s); err != nil || shift < time.Hour {
			return invalid("shift", "%q is not a duration of at least 1h", s)
		}
		q.Del("shift")
	}
	f, err := a.filter(q, who)
	if err != nil {
		return err
	}
	now := a.now()
	from, to := now.Add(-defaultPeriod), now
	if f.SinceMS != 0 {
		from = msTime(f.SinceMS)
	}
	if f.UntilMS != 0 {
		to = msTime(f.UntilMS)
	}
	from = from.UTC().Truncate(shift)
	switch {
	case !from.Before(to):
		return invalid("since", "not before until")
	case to.Sub(from)/shift > maxShifts:
		return invalid("shift", "too short for the period: more than %d shifts", maxShifts)
	}
	store, err := a.desk.Journal()
	if err != nil {
		return err
	}
	fig, err := store.Figures(r.Context(), f, from, to, now, shift)
	if err != nil {
		return err
	}
	out := figuresView{
		From: fig.From.UTC(), To: fig.To.UTC(), Alerts: fig.Alerts, States: fig.States, Shift: shift.String(), Acknowledged: fig.Acknowledged,
		AckMedian: fig.AckMedian.Seconds(), AckP90: fig.AckP90.Seconds(), AckMost: fig.AckMost.Seconds(), Floods: fig.Floods,
		Pages: make([]shiftView, len(fig.Pages)), Precision: make([]precisionView, len(fig.Precision)), Stale: make([]standingView, len(fig.Stale)),
		Chattering: make([]chatterView, len(fig.Chattering)),
	}
	for i, x := range fig.Pages {
		out.Pages[i] = shiftView{x.Receiver, x.Begin.UTC(), x.Pages}
	}
	for i, x := range fig.Precision {
		out.Precision[i] = precisionView(x)
	}
	for i, x := range fig.Stale {
		out.Stale[i] = standingView(x)
	}
	for i, x := range fig.Chattering {
		out.Chattering[i] = chatterView(x)
	}
	return answer(w, out)
}
