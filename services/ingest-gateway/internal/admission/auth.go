// Package admission decides who may send, what of it, and how much: bearer tokens bound to a gateway and its
// machines, and a rate limit for each gateway.
package admission

import (
	"fmt"

	"github.com/tocsin-io/tocsin/pkg/auth"
	"github.com/tocsin-io/tocsin/pkg/frame"
)

// Gateway is one gateway's right to send.
type Gateway struct {
	GatewayID string   `mapstructure:"gateway_id" doc:"The gateway_id that its frames must carry. With mutual TLS also the common name of its certificate."`
	Token     string   `mapstructure:"token" doc:"Its bearer token, at least 16 characters. Take it from the environment: ${NAME}. Empty: it can only come with a certificate." secret:"true"`
	Equipment []string `mapstructure:"equipment" doc:"The machines it may send: exact equipment ids, or a prefix followed by *. [\"*\"] is every machine."`
}

// Validate names the first field that is wrong.
func (g Gateway) Validate() error {
	if g.Token != "" {
		if err := auth.CheckToken(g.Token); err != nil {
			return fmt.Errorf("token: %w", err)
		}
	}
	if err := frame.CheckID("gateway_id", []byte(g.GatewayID)); err != nil {
		return err
	}
	if err := auth.CheckEquipment(g.Equipment); err != nil {
		return fmt.Errorf("equipment%w", err)
	}
	return nil
}

// Identity is who sends. The zero value may send nothing.
type Identity struct {
	gatewayID string
	alias     string // a gateway id that this process gives, also allowed
	anyone    bool
	equipment auth.Equipment
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
	if id.equipment.HasBytes(equipmentID) {
		return nil
	}
	return &frame.FieldError{Field: "equipment_id", Reason: "not a machine that this gateway may send"}
}

// Authenticator knows the tokens and the certificates' names. Safe for concurrent use.
type Authenticator struct {
	tokens *auth.Tokens[*Identity]
	byName map[string]*Identity
}

// NewAuthenticator compiles the gateways, which must be valid. With allowAnonymous a request without a token is taken from
// anybody; one with a wrong token never is.
func NewAuthenticator(gateways []Gateway, allowAnonymous bool) (*Authenticator, error) {
	a := &Authenticator{tokens: auth.NewTokens[*Identity](), byName: map[string]*Identity{}}
	if allowAnonymous {
		a.tokens.AllowAnonymous(Anonymous())
	}
	for i, g := range gateways {
		id := &Identity{gatewayID: g.GatewayID, equipment: auth.NewEquipment(g.Equipment)}
		if _, ok := a.byName[g.GatewayID]; ok {
			return nil, fmt.Errorf("gateways[%d].gateway_id: given twice", i)
		}
		a.byName[g.GatewayID] = id
		if g.Token == "" {
			continue
		}
		if err := a.tokens.Add(g.Token, id); err != nil {
			return nil, fmt.Errorf("gateways[%d].token: %w", i, err)
		}
	}
	return a, nil
}

// Certificate is the identity of a gateway whose verified client certificate has this common name.
func (a *Authenticator) Certificate(commonName string) (*Identity, error) {
	if id, ok := a.byName[commonName]; ok {
		return id, nil
	}
	return nil, auth.ErrUnauthenticated
}

// Authenticate takes the value of an Authorization header ("" when there is none).
func (a *Authenticator) Authenticate(authorization string) (*Identity, error) {
	return a.tokens.Authenticate(authorization)
}
