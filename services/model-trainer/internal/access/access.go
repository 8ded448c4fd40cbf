// Package access decides who may ask the model-trainer for what: bearer tokens with rights.
package access

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/tocsin-io/tocsin/pkg/frame"
	"github.com/tocsin-io/tocsin/pkg/httpserver"
)

// Right is what a request needs. A greater one holds the lesser.
type Right int

// Rights in their order.
const (
	None  Right = iota
	Score       // list, show, score
	Train       // also train, and choose who is champion
)

// Client is one program's or person's right to ask.
type Client struct {
	Name   string `mapstructure:"name" doc:"Who it is, for the log."`
	Token  string `mapstructure:"token" doc:"Its bearer token, at least 16 characters. Take it from the environment: ${NAME}." secret:"true"`
	Rights string `mapstructure:"rights" doc:"score: list, show and score; train: also train, and choose which versions judge."`
}

// Validate names the first field that is wrong.
func (c Client) Validate() error {
	if err := frame.CheckID("name", []byte(c.Name)); err != nil {
		return err
	}
	switch {
	case len(c.Token) < 16:
		return errors.New("token: must have at least 16 characters")
	case strings.ContainsAny(c.Token, " \t\r\n"):
		return errors.New("token: must not contain white space")
	}
	if _, ok := rights(c.Rights); !ok {
		return fmt.Errorf("rights: %q is neither score nor train", c.Rights)
	}
	return nil
}

func rights(name string) (Right, bool) {
	switch name {
	case "score":
		return Score, true
	case "train":
		return Train, true
	}
	return None, false
}

// Identity is who asks.
type Identity struct {
	Name  string // "" for somebody without a token
	right Right
}

// May tells whether the identity holds a right.
func (id Identity) May(r Right) bool { return id.right >= r }

// Keeper knows the tokens. Safe for concurrent use.
type Keeper struct {
	anonymous bool
	salt      [32]byte
	byDigest  map[[sha256.Size]byte]Identity
}

// New compiles the clients, which must be valid. With anonymous a request without a token may do everything; one with a wrong token never may.
func New(clients []Client, anonymous bool) (*Keeper, error) {
	k := &Keeper{anonymous: anonymous, byDigest: make(map[[sha256.Size]byte]Identity, len(clients))}
	if _, err := rand.Read(k.salt[:]); err != nil {
		return nil, fmt.Errorf("random salt: %w", err)
	}
	for i, c := range clients {
		right, _ := rights(c.Rights)
		d := k.digest(c.Token)
		if _, ok := k.byDigest[d]; ok {
			return nil, fmt.Errorf("clients[%d].token: given twice", i)
		}
		k.byDigest[d] = Identity{c.Name, right}
	}
	return k, nil
}

// Identify takes the value of an Authorization header ("" when there is none). ok is false for whoever is nobody we know.
//
// The token is looked up by its SHA-256 under a secret salt: the time that this takes says nothing of how much of a guess is right.
func (k *Keeper) Identify(authorization string) (id Identity, ok bool) {
	if authorization == "" {
		return Identity{right: Train}, k.anonymous
	}
	scheme, token, found := strings.Cut(authorization, " ")
	if !found || !strings.EqualFold(scheme, "bearer") {
		return Identity{}, false
	}
	id, ok = k.byDigest[k.digest(strings.TrimSpace(token))]
	return id, ok
}

func (k *Keeper) digest(token string) [sha256.Size]byte {
	return sha256.Sum256(append(k.salt[:len(k.salt):len(k.salt)], token...))
}

// Guard lets those through to h who hold the right; the others are answered 401 (who are you?) or 403 (you may not).
func (k *Keeper) Guard(need Right, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, ok := k.Identify(r.Header.Get("Authorization"))
		switch {
		case !ok:
			w.Header().Set("WWW-Authenticate", "Bearer")
			httpserver.Problem(w, http.StatusUnauthorized, "Unauthorized", "valid credentials are needed: Authorization: Bearer <token>", nil)
		case !id.May(need):
			httpserver.Problem(w, http.StatusForbidden, "Forbidden", "the token's rights do not reach so far", nil)
		default:
			h.ServeHTTP(w, r)
		}
	})
}
