// Package admission decides who may send, what of it, and how much: bearer tokens bound to a gateway and its
// machines, and a rate limit for each gateway.
package admission

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/tocsin-io/tocsin/pkg/frame"
)

// ErrUnauthenticated: no token, or not one of ours. It does not say which: that would help a guesser.
var ErrUnauthenticated = errors.New("valid credentials are needed: Authorization: Bearer <token>")

// Gateway is one gateway's right to send.
type Gateway struct {
	GatewayID string   `mapstructure:"gateway_id" doc:"The gateway_id that its frames must carry. With mutual TLS also the common name of its certificate."`
	Token     string   `mapstructure:"token" doc:"Its bearer token, at least 16 characters. Take it from the environment: ${NAME}. Empty: it can only come with a certificate." secret:"true"`
	Equipment []string `mapstructure:"equipment" doc:"The machines it may send: exact equipment ids, or a prefix followed by *. [\"*\"] is every machine."`
}

// Validate names the first field that is wrong.
func (g Gateway) Validate() error {
	if g.Token != "" && len(g.Token) < 16 {
		return errors.New("token: must have at least 16 characters")
	}
	if strings.ContainsAny(g.Token, " \t\r\n") {
		return errors.New("token: must not contain white space")
	}
	if err := frame.CheckID("gateway_id", []byte(g.GatewayID)); err != nil {
		return err
	}
	if len(g.Equipment) == 0 {
		return errors.New("equipment: empty, so that the gateway could send nothing")
	}
	for i, e := range g.Equipment {
		id := strings.TrimSuffix(e, "*")
		if e == "*" {
			continue
		}
		if err := frame.CheckID(fmt.Sprintf("equipment[%d]", i), []byte(id)); err != nil {
			return err
		}
	}
	return nil
}

// Identity is who sends. The zero value may send nothing.
type Identity struct {
	gatewayID string
	alias     string // a gateway id that this process gives, also allowed
	anyone    bool
	exact     map[string]struct{}
	prefixes  []string
}

// Anonymous may send for every gateway and machine.
func Anonymous() *Identity { return &Identity{anyone: true} }

// GatewayID is the gateway that the identity is bound to; "" for an anonymous one.
func (id *Identity) GatewayID() string { return id.gatewayID }

// WithAlias is id with one more gateway_id that it may send under: one that this process made up for it.
func (id *Identity) WithAlias(gatewayID string) *Identity {
	c := *id
	c.alias = gatewayID
	return &c
}

// MaySend is nil when the identity may send frames of this gateway and machine, else a *frame.FieldError.
// It does not allocate when it is nil.
func (id *Identity) MaySend(gatewayID, equipmentID []byte) error {
	if id.anyone {
		return nil
	}
	if string(gatewayID) != id.gatewayID && (id.alias == "" || string(gatewayID) != id.alias) {
		return &frame.FieldError{Field: "gateway_id", Reason: "not the gateway that these credentials belong to"}
	}
	if _, ok := id.exact[string(equipmentID)]; ok {
		return nil
	}
	for _, p := range id.prefixes {
		if len(equipmentID) >= len(p) && string(equipmentID[:len(p)]) == p {
			return nil
		}
	}
	return &frame.FieldError{Field: "equipment_id", Reason: "not a machine that this gateway may send"}
}

// Authenticator knows the tokens. Safe for concurrent use.
type Authenticator struct {
	anonymous *Identity // nil: everybody needs a token
	salt      [32]byte
	byDigest  map[[sha256.Size]byte]*Identity
	byName    map[string]*Identity
}

// NewAuthenticator compiles the gateways, which must be valid. With allowAnonymous a request without a token is taken from
// anybody; one with a wrong token never is.
func NewAuthenticator(gateways []Gateway, allowAnonymous bool) (*Authenticator, error) {
	a := &Authenticator{byDigest: make(map[[sha256.Size]byte]*Identity, len(gateways)), byName: map[string]*Identity{}}
	if allowAnonymous {
		a.anonymous = Anonymous()
	}
	if _, err := rand.Read(a.salt[:]); err != nil {
		return nil, fmt.Errorf("random salt: %w", err)
	}
	for i, t := range gateways {
		id := &Identity{gatewayID: t.GatewayID, exact: map[string]struct{}{}}
		for _, e := range t.Equipment {
			if p, ok := strings.CutSuffix(e, "*"); ok {
				id.prefixes = append(id.prefixes, p)
			} else {
				id.exact[e] = struct{}{}
			}
		}
		slices.Sort(id.prefixes)
		if _, ok := a.byName[t.GatewayID]; ok {
			return nil, fmt.Errorf("gateways[%d].gateway_id: given twice", i)
		}
		a.byName[t.GatewayID] = id
		if t.Token == "" {
			continue
		}
		d := a.digest(t.Token)
		if _, ok := a.byDigest[d]; ok {
			return nil, fmt.Errorf("gateways[%d].token: given twice", i)
		}
		a.byDigest[d] = id
	}
	return a, nil
}

// Certificate is the identity of a gateway whose verified client certificate has this common name.
func (a *Authenticator) Certificate(commonName string) (*Identity, error) {
	if id, ok := a.byName[commonName]; ok {
		return id, nil
	}
	return nil, ErrUnauthenticated
}

// Authenticate takes the value of an Authorization header ("" when there is none).
//
// The token is looked up by its SHA-256 under a secret salt. A guesser cannot steer the digest, so the time that the
// look-up takes says nothing of how much of a guess is right: as good as a constant-time comparison, for any number of tokens.
func (a *Authenticator) Authenticate(authorization string) (*Identity, error) {
	if authorization == "" {
		if a.anonymous != nil {
			return a.anonymous, nil
		}
		return nil, ErrUnauthenticated
	}
	scheme, token, ok := strings.Cut(authorization, " ")
	if !ok || !strings.EqualFold(scheme, "bearer") {
		return nil, ErrUnauthenticated
	}
	if id, ok := a.byDigest[a.digest(strings.TrimSpace(token))]; ok {
		return id, nil
	}
	return nil, ErrUnauthenticated
}

func (a *Authenticator) digest(token string) [sha256.Size]byte {
	return sha256.Sum256(append(a.salt[:len(a.salt):len(a.salt)], token...))
}
