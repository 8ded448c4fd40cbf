// Package access decides who may see and do what: bearer tokens bound to a name, a role and machines.
package access

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// ErrUnauthenticated: no token, or not one of ours. It does not say which: that would help a guesser.
var ErrUnauthenticated = errors.New("valid credentials are needed: Authorization: Bearer <token>")

// Role is what somebody may do with what they may see.
type Role string

// Roles.
const (
	Viewer   Role = "viewer"   // looks
	Operator Role = "operator" // also acknowledges, shelves, judges
)

// Person is somebody's right to see and act. A program counts as a person.
type Person struct {
	Name      string   `mapstructure:"name" doc:"Who it is; stands in the journal beside all they do."`
	Token     string   `mapstructure:"token" doc:"Their bearer token, at least 16 characters. Take it from the environment: ${NAME}." secret:"true"`
	Role      Role     `mapstructure:"role" doc:"viewer: looks. operator: also acknowledges, shelves and judges."`
	Equipment []string `mapstructure:"equipment" doc:"The machines they see: exact equipment ids, or a prefix followed by *. [\"*\"] is every machine. Any other machine does not exist for them."`
}

var (
	personName = regexp.MustCompile(`^[^\p{Cc}]{1,128}$`)
	pattern    = regexp.MustCompile(`^([A-Za-z0-9._:-]{1,128}\*?|\*)$`)
)

// Validate names the first field that is wrong.
func (p Person) Validate() error {
	switch {
	case !personName.MatchString(p.Name):
		return errors.New("name: empty, longer than 128 characters, or with control characters")
	case len(p.Token) < 16:
		return errors.New("token: must have at least 16 characters")
	case strings.ContainsAny(p.Token, " \t\r\n"):
		return errors.New("token: must not contain white space")
	case p.Role != Viewer && p.Role != Operator:
		return fmt.Errorf("role: %q is neither viewer nor operator", p.Role)
	case len(p.Equipment) == 0:
		return errors.New("equipment: empty, so that they could see nothing")
	}
	for i, e := range p.Equipment {
		if !pattern.MatchString(e) {
			return fmt.Errorf("equipment[%d]: %q is not an equipment id, a prefix followed by *, or *", i, e)
		}
	}
	return nil
}

// Identity is who asks.
type Identity struct {
	Name string // empty: anybody
	Role Role
	// Equipment are the patterns of what they see; nil: every machine.
	Equipment []string
}

// All tells whether the identity sees every machine.
func (id *Identity) All() bool { return id.Equipment == nil || slices.Contains(id.Equipment, "*") }

// Sees tells whether a machine exists for the identity.
func (id *Identity) Sees(equipmentID string) bool {
	if id.All() {
		return true
	}
	return slices.ContainsFunc(id.Equipment, func(p string) bool {
		if prefix, ok := strings.CutSuffix(p, "*"); ok {
			return strings.HasPrefix(equipmentID, prefix)
		}
		return p == equipmentID
	})
}

// Acts tells whether the identity may change anything.
func (id *Identity) Acts() bool { return id.Role == Operator }

// Book knows the tokens. Safe for concurrent use.
type Book struct {
	anonymous *Identity // nil: everybody needs a token
	salt      [32]byte
	byDigest  map[[sha256.Size]byte]*Identity
}

// New compiles the people, who must be valid. anonymous is the identity of a request without a token, nil: there is none. A wrong token never is anybody.
func New(people []Person, anonymous *Identity) (*Book, error) {
	b := &Book{anonymous: anonymous, byDigest: make(map[[sha256.Size]byte]*Identity, len(people))}
	if _, err := rand.Read(b.salt[:]); err != nil {
		return nil, fmt.Errorf("random salt: %w", err)
	}
	names := map[string]bool{}
	for i, p := range people {
		if names[p.Name] {
			return nil, fmt.Errorf("people[%d].name: given twice", i)
		}
		names[p.Name] = true
		d := b.digest(p.Token)
		if _, ok := b.byDigest[d]; ok {
			return nil, fmt.Errorf("people[%d].token: given twice", i)
		}
		b.byDigest[d] = &Identity{Name: p.Name, Role: p.Role, Equipment: p.Equipment}
	}
	return b, nil
}

// Authenticate takes the value of an Authorization header ("" when there is none).
//
// The token is looked up by its SHA-256 under a secret salt: a guesser cannot steer the digest, so how long the look-up takes tells nothing.
func (b *Book) Authenticate(authorization string) (*Identity, error) {
	if authorization == "" {
		if b.anonymous != nil {
			return b.anonymous, nil
		}
		return nil, ErrUnauthenticated
	}
	scheme, token, ok := strings.Cut(authorization, " ")
	if !ok || !strings.EqualFold(scheme, "bearer") {
		return nil, ErrUnauthenticated
	}
	if id, ok := b.byDigest[b.digest(strings.TrimSpace(token))]; ok {
		return id, nil
	}
	return nil, ErrUnauthenticated
}

func (b *Book) digest(token string) [sha256.Size]byte {
	return sha256.Sum256(append(b.salt[:len(b.salt):len(b.salt)], token...))
}
