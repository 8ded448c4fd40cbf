// Package access decides who may ask the model-trainer for what: bearer tokens with rights.
package access

import (
	"fmt"
	"net/http"

	"github.com/tocsin-io/tocsin/pkg/auth"
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
	if err := auth.CheckToken(c.Token); err != nil {
		return fmt.Errorf("token: %w", err)
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
type Keeper struct{ tokens *auth.Tokens[Identity] }

// New compiles the clients, which must be valid. With anonymous a request without a token may do everything; one with a wrong token never may.
func New(clients []Client, anonymous bool) (*Keeper, error) {
	k := &Keeper{auth.NewTokens[Identity]()}
	if anonymous {
		k.tokens.AllowAnonymous(Identity{right: Train})
	}
	for i, c := range clients {
		right, _ := rights(c.Rights)
		if err := k.tokens.Add(c.Token, Identity{c.Name, right}); err != nil {
			return nil, fmt.Errorf("clients[%d].token: %w", i, err)
		}
	}
	return k, nil
}

// Guard lets those through to h who hold the right; the others are answered 401 (who are you?) or 403 (you may not).
func (k *Keeper) Guard(need Right, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, err := k.tokens.Authenticate(r.Header.Get("Authorization"))
		switch {
		case err != nil:
			auth.Challenge(w.Header())
			httpserver.Problem(w, http.StatusUnauthorized, "Unauthorized", err.Error(), nil)
		case !id.May(need):
			httpserver.Problem(w, http.StatusForbidden, "Forbidden", "the token's rights do not reach so far", nil)
		default:
			h.ServeHTTP(w, r)
		}
	})
}
