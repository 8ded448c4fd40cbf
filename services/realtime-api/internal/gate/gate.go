// Package gate decides who asks: by bearer token, by a browser's session, or as anybody where that is allowed; and whether a request comes from our own page.
//
// # Sessions
//
// POST /v1/session turns a token into a cookie with a random id that means nothing outside this process: HttpOnly, SameSite=Strict, Secure under TLS. What it stands for is kept
// here, under the id's SHA-256. A session ends by DELETE, after Lifetime, when its person has begun too many others, and with the process. Wrong tokens are limited by the
// address that they come from.
//
// # Other pages
//
// A request that changes something is refused when a browser says that another page made it (Sec-Fetch-Site, or Origin beside Host). Where anybody on this machine is let in
// without a token, the Host must be this machine: a page elsewhere can give its own name our address (DNS rebinding), and then its origin is ours.
package gate

import (
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/VictoriaMetrics/metrics"

	"github.com/tocsin-io/tocsin/pkg/auth"
	"github.com/tocsin-io/tocsin/pkg/frame"
	"github.com/tocsin-io/tocsin/pkg/httpserver"
)

// Person is one who may look, with a token and machines.
type Person struct {
	Name      string
	Token     string
	Equipment []string
}

// Config of a Gate.
type Config struct {
	People []Person
	// Anybody lets in who brings no credentials; Here only those who reach us under a name of this machine.
	Anybody, Here bool
	// Secure marks the cookie as for TLS only though TLS ends before us.
	Secure   bool
	Lifetime time.Duration
}

// Identity is who asks. It does not change.
type Identity struct {
	// Name is empty for anybody.
	Name string
	// Machines are those that exist for them.
	Machines auth.Equipment
	// Authorization is what to tell other services; empty for anybody.
	Authorization string
	// Ends is closed when the session is over; nil where there is none.
	Ends <-chan struct{}

	until time.Time
}

// Sees is the filter on machines: nil where every machine is seen.
func (id *Identity) Sees() func(equipmentID string) bool {
	if id.Machines.All() {
		return nil
	}
	return id.Machines.Has
}

// Handler answers a request of somebody who is known.
type Handler func(w http.ResponseWriter, r *http.Request, who *Identity)

// Gate lets people in. Safe for concurrent use.
type Gate struct {
	cfg    Config
	tokens *auth.Tokens[*Identity]
	cross  *http.CrossOriginProtection

	mu       sync.Mutex
	sessions map[digest]*session
	closed   bool
	guesses  guesses

	refused func(why string) *metrics.Counter
}

// New makes a gate. The error names the first person that is wrong.
func New(cfg Config, set *metrics.Set) (*Gate, error) {
	g := &Gate{
		cfg: cfg, tokens: auth.NewTokens[*Identity](), cross: http.NewCrossOriginProtection(), sessions: map[digest]*session{}, guesses: guesses{by: map[string]*guess{}},
		refused: func(why string) *metrics.Counter {
			return set.GetOrCreateCounter(fmt.Sprintf(`tocsin_api_refused_total{reason=%q}`, why))
		},
	}
	for i, p := range cfg.People {
		if err := frame.CheckID("name", []byte(p.Name)); err != nil {
			return nil, fmt.Errorf("people[%d].%w", i, err)
		}
		if err := auth.CheckToken(p.Token); err != nil {
			return nil, fmt.Errorf("people[%d].token: %w", i, err)
		}
		if err := auth.CheckEquipment(p.Equipment); err != nil {
			return nil, fmt.Errorf("people[%d].equipment%w", i, err)
		}
		who := &Identity{Name: p.Name, Machines: auth.NewEquipment(p.Equipment), Authorization: "Bearer " + p.Token}
		if err := g.tokens.Add(p.Token, who); err != nil {
			return nil, fmt.Errorf("people[%d].token: %w", i, err)
		}
	}
	if cfg.Anybody {
		g.tokens.AllowAnonymous(&Identity{Machines: auth.Every()})
	}
	set.GetOrCreateGauge(`tocsin_api_sessions`, func() float64 {
		g.mu.Lock()
		defer g.mu.Unlock()
		return float64(len(g.sessions))
	})
	return g, nil
}

// errElsewhere: somebody without credentials asked for another host than this machine.
var errElsewhere = errors.New("without credentials only this machine is served, under its own name (localhost, 127.0.0.1)")

// identify tells who asks.
func (g *Gate) identify(r *http.Request) (*Identity, error) {
	if a := r.Header.Get("Authorization"); a != "" {
		return g.tokens.Authenticate(a)
	}
	if who := g.bySession(r); who != nil {
		return who, nil
	}
	who, err := g.tokens.Authenticate("")
	if err == nil && g.cfg.Here && !auth.Here(r.Host) {
		return nil, errElsewhere
	}
	return who, err
}

// Caller tells who makes a call that is not HTTP's, by its bearer token and by the name under which it reached us.
func (g *Gate) Caller(authorization, host string) (*Identity, error) {
	who, err := g.tokens.Authenticate(authorization)
	if err != nil {
		g.refused("credentials").Inc()
		return nil, err
	}
	if authorization == "" && g.cfg.Here && !auth.Here(host) {
		g.refused("host").Inc()
		return nil, errElsewhere
	}
	return who, nil
}

// Guard lets through whom the gate knows, and of what changes anything only what our own page or no page at all asks for.
func (g *Gate) Guard(h Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if g.foreign(w, r) {
			return
		}
		who, err := g.identify(r)
		if err != nil {
			g.deny(w, err)
			return
		}
		h(w, r, who)
	})
}

// foreign refuses what another page asks for.
func (g *Gate) foreign(w http.ResponseWriter, r *http.Request) bool {
	if err := g.cross.Check(r); err != nil {
		g.refused("origin").Inc()
		httpserver.Problem(w, http.StatusForbidden, "Another page asks", "only this service's own page may do that from a browser", nil)
		return true
	}
	return false
}

func (g *Gate) deny(w http.ResponseWriter, err error) {
	if errors.Is(err, errElsewhere) {
		g.refused("host").Inc()
		httpserver.Problem(w, http.StatusMisdirectedRequest, "Not this host", err.Error()+"; list people in realtime_api.auth, or set realtime_api.auth.allow_anonymous", nil)
		return
	}
	g.refused("credentials").Inc()
	auth.Challenge(w.Header())
	httpserver.Problem(w, http.StatusUnauthorized, "Unauthorized", err.Error(), nil)
}

// Close ends all sessions; none begins afterwards. Idempotent.
func (g *Gate) Close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	for _, s := range g.sessions {
		g.end(s)
	}
}
