package verdict

import (
	"bytes"
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"html/template"
	"net/http"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/services/alert-router/internal/message"
)

// Decision is what somebody did by a link.
type Decision struct {
	// ID is the same however often the link is used: of one ID only the first Decision counts.
	ID string
	// Subject is the id of an alert or an incident; of AcknowledgeAll a Set.
	Subject string
	Action  Action
	// By is whom the link was sent to.
	By   string
	At   time.Time
	Note string
	// For is how long to shelve; 0 otherwise.
	For time.Duration
}

// Outcome of recording a Decision.
type Outcome struct {
	// Repeated: the same link was used before, At that time; nothing has changed.
	Repeated bool
	At       time.Time
}

// ErrUnknown: there is no such alert (any more).
var ErrUnknown = errors.New("no such alert")

// Book is where decisions are recorded. Its methods are called concurrently.
type Book interface {
	// Describe is an alert or incident, or those of a Set, in one line, for people; ErrUnknown when it is not known.
	Describe(ctx context.Context, a Action, subject string) (string, error)
	// Decide records a decision, once for each ID. ErrUnknown when there is no such alert; any other error is told as "try again".
	Decide(ctx context.Context, d Decision) (Outcome, error)
}

// Handler serves the links. It must get all requests below Path.
type Handler struct {
	Keys *Keyring
	Book Book
	Now  func() time.Time
	Log  *zap.Logger
}

const (
	maxForm = 8 << 10
	maxNote = 500
	timeout = 10 * time.Second
)

// Periods that an alert can be shelved for by a link.
var periods = [...]struct {
	Value, Label string
	For          time.Duration
}{{"1h", "1 hour", time.Hour}, {"8h", "8 hours", 8 * time.Hour}, {"24h", "24 hours", 24 * time.Hour}}

//go:embed page.gohtml
var pageTemplate string

var page = template.Must(template.New("page").Parse(pageTemplate))

type view struct {
	Title, What, Detail string
	By, Until           string
	Action              string
	Button              string
	Shelve              bool
	Periods             any
	Ask, Good           bool
	Others              []other
}

type other struct{ Label, Path string }

// ServeHTTP shows what a link does (GET, HEAD: changes nothing) or does it (POST).
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	head := w.Header()
	head.Set("Cache-Control", "no-store")
	head.Set("Referrer-Policy", "no-referrer") // the token is in the address
	head.Set("X-Content-Type-Options", "nosniff")
	head.Set("X-Robots-Tag", "noindex, nofollow")
	head.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'")
	ctx, cancel := context.WithTimeout(r.Context(), timeout)
	defer cancel()
	token := strings.TrimPrefix(r.URL.Path, Path)
	c, err := h.Keys.Verify(token, h.Now())
	switch {
	case errors.Is(err, ErrExpired):
		h.write(w, r, http.StatusGone, &view{Title: "This link has expired", Detail: "Open the alert in Tocsin, or use the link of a newer message."}, nil)
	case err != nil:
		h.write(w, r, http.StatusNotFound, &view{Title: "This link is not valid", Detail: "It may have been cut when it was copied."}, nil)
	case r.Method == http.MethodGet || r.Method == http.MethodHead:
		h.show(ctx, w, r, c)
	case r.Method == http.MethodPost:
		h.decide(ctx, w, r, c)
	default:
		head.Set("Allow", "GET, HEAD, POST")
		h.write(w, r, http.StatusMethodNotAllowed, &view{Title: "Not how this link is used"}, nil)
	}
}

func (h *Handler) show(ctx context.Context, w http.ResponseWriter, r *http.Request, c Claims) {
	what, err := h.Book.Describe(ctx, c.Action, c.Subject)
	switch {
	case errors.Is(err, ErrUnknown):
		h.unknown(w, r)
		return
	case err != nil:
		what = c.Subject // the button works without
	}
	v := h.view(c, what)
	v.Title, v.Ask, v.Button = question(c.Action), true, button(c.Action)
	v.Shelve, v.Periods = c.Action == Shelve, periods
	v.Until = c.Expires.UTC().Format("15:04 MST, 2 Jan 2006")
	h.write(w, r, http.StatusOK, v, nil)
}

func (h *Handler) view(c Claims, what string) *view {
	return &view{What: message.Clean(what, 300), By: message.Clean(c.Recipient, 254), Action: c.Action.String()}
}

func (h *Handler) decide(ctx context.Context, w http.ResponseWriter, r *http.Request, c Claims) {
	r.Body = http.MaxBytesReader(w, r.Body, maxForm)
	if err := r.ParseForm(); err != nil {
		h.write(w, r, http.StatusBadRequest, &view{Title: "The form could not be read"}, nil)
		return
	}
	d := Decision{
		ID: c.ID, Subject: c.Subject, Action: c.Action, By: c.Recipient, At: h.Now(), Note: message.Clean(r.PostForm.Get("note"), maxNote),
	}
	if c.Action == Shelve {
		d.For = period(r.PostForm.Get("for"))
	}
	out, err := h.Book.Decide(ctx, d)
	switch {
	case errors.Is(err, ErrUnknown):
		h.unknown(w, r)
		return
	case err != nil:
		h.Log.Error("a decision could not be recorded", zap.String("subject", d.Subject), zap.Stringer("action", d.Action), zap.Error(err))
		w.Header().Set("Retry-After", "5")
		h.write(w, r, http.StatusServiceUnavailable, &view{Title: "Not recorded: try again in a moment", What: message.Clean(c.Subject, 300)}, nil)
		return
	}
	h.Log.Info("decision by a link", zap.String("subject", d.Subject), zap.Stringer("action", d.Action), zap.String("by", d.By), zap.Bool("repeated", out.Repeated))
	what, err := h.Book.Describe(ctx, c.Action, c.Subject)
	if err != nil {
		what = c.Subject
	}
	v := h.view(c, what)
	v.Title, v.Good = done(c.Action, d.For), true
	if out.Repeated {
		v.Detail = "It was recorded before, at " + out.At.UTC().Format("15:04:05 MST, 2 Jan 2006") + "; nothing has changed."
	}
	if c.Action == Acknowledge || c.Action == Shelve {
		v.Others = h.others(c)
	}
	h.write(w, r, http.StatusOK, v, map[string]any{"recorded": true, "repeated": out.Repeated, "action": c.Action.String(), "subject": c.Subject})
}

// others are the links to say what it was, for whoever came by a short message that had room for one link.
func (h *Handler) others(c Claims) []other {
	var out []other
	for _, a := range []Action{Real, False, Known, Sensor} {
		c.Action = a
		if token, err := h.Keys.Sign(c); err == nil {
			out = append(out, other{message.VerdictLabel(a.String()), token}) // relative: a proxy may serve us below a path of its own
		}
	}
	return out
}

func (h *Handler) unknown(w http.ResponseWriter, r *http.Request) {
	h.write(w, r, http.StatusNotFound, &view{Title: "This alert is not known any more", Detail: "It is older than what the journal keeps."}, nil)
}

func (h *Handler) write(w http.ResponseWriter, r *http.Request, status int, v *view, answer map[string]any) {
	if strings.Contains(r.Header.Get("Accept"), "application/json") {
		if answer == nil {
			answer = map[string]any{"title": v.Title, "status": status}
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(answer) // the client is gone: nobody is left to tell
		return
	}
	var buf bytes.Buffer
	if err := page.Execute(&buf, v); err != nil {
		h.Log.Error("page of a link", zap.Error(err))
		http.Error(w, v.Title, http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(buf.Len()))
	w.WriteHeader(status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(buf.Bytes())
	}
}

func period(s string) time.Duration {
	for _, p := range periods {
		if p.Value == s {
			return p.For
		}
	}
	return periods[0].For
}

func question(a Action) string {
	switch a {
	case Acknowledge:
		return "Take this alert?"
	case AcknowledgeAll:
		return "Take all of these alerts?"
	case Shelve:
		return "Shelve this alert?"
	case Real:
		return "It was a real fault?"
	case False:
		return "It was a false alarm?"
	case Known:
		return "It was known or planned work?"
	default:
		return "The sensor was at fault, not the machine?"
	}
}

func button(a Action) string {
	switch a {
	case Acknowledge:
		return "Acknowledge"
	case AcknowledgeAll:
		return "Acknowledge all"
	case Shelve:
		return "Shelve"
	default:
		return "Yes: " + strings.ToLower(message.VerdictLabel(a.String()))
	}
}

func done(a Action, d time.Duration) string {
	switch a {
	case Acknowledge:
		return "Acknowledged: it is yours"
	case AcknowledgeAll:
		return "Acknowledged: they are yours"
	case Shelve:
		return "Shelved for " + message.Duration(d)
	default:
		return "Recorded: " + strings.ToLower(message.VerdictLabel(a.String()))
	}
}
