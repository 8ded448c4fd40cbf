package gate

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"time"

	"github.com/tocsin-io/tocsin/pkg/httpserver"
)

const (
	cookieName = "tocsin_session"
	// hostCookie is a name that browsers take from TLS and for the whole host only, so that no neighbour can set it.
	hostCookie = "__Host-tocsin_session"
	// maxOwn is how many sessions of one person stand at once; a further one ends the oldest.
	maxOwn      = 64
	maxBody     = 8 << 10
	maxLifetime = 90 * 24 * time.Hour
)

type digest [sha256.Size]byte

// session is one browser's. Gate.mu guards it.
type session struct {
	id    digest
	who   *Identity
	began time.Time
	timer *time.Timer
	ends  chan struct{}
}

// CheckLifetime tells whether sessions may last so long.
func CheckLifetime(d time.Duration) error {
	if d < time.Minute || d > maxLifetime {
		return errors.New("not in 1m..2160h")
	}
	return nil
}

func (g *Gate) cookie(r *http.Request) (name string, secure bool) {
	if secure = g.cfg.Secure || r.TLS != nil; secure {
		return hostCookie, true
	}
	return cookieName, false
}

// bySession is whose session a request's cookie names; nil: none that stands.
func (g *Gate) bySession(r *http.Request) *Identity {
	name, _ := g.cookie(r)
	c, err := r.Cookie(name)
	if err != nil {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if s := g.sessions[sha256.Sum256([]byte(c.Value))]; s != nil {
		return s.who
	}
	return nil
}

// begin makes a session of a person and gives its id.
func (g *Gate) begin(p *Identity) (id string, who *Identity, ok bool) {
	var raw [32]byte
	_, _ = rand.Read(raw[:]) // never fails: the process ends first
	id = base64.RawURLEncoding.EncodeToString(raw[:])
	s := &session{id: sha256.Sum256([]byte(id)), began: time.Now(), ends: make(chan struct{})}
	own := *p
	own.Ends, own.until = s.ends, s.began.Add(g.cfg.Lifetime)
	s.who = &own
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return "", nil, false
	}
	var oldest *session
	n := 0
	for _, o := range g.sessions {
		if o.who.Name != p.Name {
			continue
		}
		if n++; oldest == nil || o.began.Before(oldest.began) {
			oldest = o
		}
	}
	if n >= maxOwn {
		g.end(oldest)
	}
	g.sessions[s.id] = s
	s.timer = time.AfterFunc(g.cfg.Lifetime, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.end(s)
	})
	return id, s.who, true
}

// end ends a session once. Call with the lock held.
func (g *Gate) end(s *session) {
	if g.sessions[s.id] != s {
		return
	}
	delete(g.sessions, s.id)
	s.timer.Stop()
	close(s.ends)
}

// About is what GET /v1/session tells beside who asks.
type About struct {
	Features map[string]bool `json:"features"`
	Build    string          `json:"build"`
	Version  string          `json:"version"`
	Instance string          `json:"instance"`
}

// view is the answer to GET and POST /v1/session.
type view struct {
	Authenticated bool     `json:"authenticated"`
	Anonymous     bool     `json:"anonymous"`
	Name          string   `json:"name"`
	Equipment     []string `json:"equipment"`
	AllMachines   bool     `json:"all_machines"`
	Login         bool     `json:"login"`
	ExpiresAtMS   int64    `json:"expires_at_ms"`
	About
}

func (g *Gate) answer(w http.ResponseWriter, status int, who *Identity, about About) {
	v := view{Login: len(g.cfg.People) > 0, Equipment: []string{}, About: about}
	if who == nil {
		v.About = About{Features: map[string]bool{}, Build: about.Build} // a stranger needs no more than the page to sign in with
	} else {
		v.Authenticated, v.Anonymous, v.Name, v.AllMachines = true, who.Name == "", who.Name, who.Machines.All()
		v.Equipment = append(v.Equipment, who.Machines.Patterns()...)
		if !who.until.IsZero() {
			v.ExpiresAtMS = who.until.UnixMilli()
		}
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client is gone: nothing left to tell it
}

// Show answers GET /v1/session: who asks, if anybody, and what there is.
func (g *Gate) Show(about About) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		who, err := g.identify(r)
		switch {
		case errors.Is(err, errElsewhere):
			g.deny(w, err)
			return
		case err != nil:
			who = nil
		}
		g.answer(w, http.StatusOK, who, about)
	})
}

// Begin answers POST /v1/session: a token for a session.
func (g *Gate) Begin(about About) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if g.foreign(w, r) {
			return
		}
		token, ok := readToken(w, r)
		if !ok {
			return
		}
		from := address(r.RemoteAddr)
		if wait := g.mayGuess(from); wait > 0 {
			g.refused("rate").Inc()
			w.Header().Set("Retry-After", seconds(wait))
			httpserver.Problem(w, http.StatusTooManyRequests, "Too many attempts", "too many wrong tokens from this address; try again later", nil)
			return
		}
		person, err := g.tokens.Authenticate("Bearer " + token)
		if err != nil {
			g.guessed(from)
			g.refused("credentials").Inc()
			httpserver.Problem(w, http.StatusUnauthorized, "Unauthorized", "not a token of anybody's", map[string]any{"field": "token"})
			return
		}
		g.drop(r)
		id, who, ok := g.begin(person)
		if !ok {
			w.Header().Set("Retry-After", "5")
			httpserver.Problem(w, http.StatusServiceUnavailable, "Not now", "the service is stopping", nil)
			return
		}
		name, secure := g.cookie(r)
		http.SetCookie(w, &http.Cookie{ //nolint:gosec // G124: Secure wherever there is TLS
			Name: name, Value: id, Path: "/", MaxAge: int(g.cfg.Lifetime.Seconds()), HttpOnly: true, Secure: secure, SameSite: http.SameSiteStrictMode,
		})
		g.answer(w, http.StatusCreated, who, about)
	})
}

// End answers DELETE /v1/session. Somebody without one is told the same.
func (g *Gate) End() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if g.foreign(w, r) {
			return
		}
		g.drop(r)
		name, secure := g.cookie(r)
		//nolint:gosec // G124: as above
		http.SetCookie(w, &http.Cookie{Name: name, Path: "/", MaxAge: -1, HttpOnly: true, Secure: secure, SameSite: http.SameSiteStrictMode})
		w.Header().Set("Cache-Control", "no-store")
		w.WriteHeader(http.StatusNoContent)
	})
}

// drop ends the session that a request's cookie names.
func (g *Gate) drop(r *http.Request) {
	name, _ := g.cookie(r)
	if c, err := r.Cookie(name); err == nil {
		g.mu.Lock()
		defer g.mu.Unlock()
		if s := g.sessions[sha256.Sum256([]byte(c.Value))]; s != nil {
			g.end(s)
		}
	}
}

// readToken reads the body; when it cannot, it has answered.
func readToken(w http.ResponseWriter, r *http.Request) (string, bool) {
	if t, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || t != "application/json" {
		httpserver.Problem(w, http.StatusUnsupportedMediaType, "Not JSON", "Content-Type: must be application/json", nil)
		return "", false
	}
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var in struct {
		Token string `json:"token"`
	}
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		httpserver.Problem(w, http.StatusRequestEntityTooLarge, "Too large", "the body is larger than 8 KiB", nil)
		return "", false
	}
	if err == nil {
		err = json.Unmarshal(b, &in)
	}
	if err != nil || in.Token == "" {
		httpserver.Problem(w, http.StatusBadRequest, "Invalid request", `the body must be {"token": "..."}`, map[string]any{"field": "token"})
		return "", false
	}
	return in.Token, true
}
