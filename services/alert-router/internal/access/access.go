// Package access decides who may see and do what: bearer tokens bound to a name, a role and machines.
package access

import (
	"errors"
	"fmt"
	"regexp"

	"github.com/tocsin-io/tocsin/pkg/auth"
)

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

var personName = regexp.MustCompile(`^[^\p{Cc}]{1,128}$`)

// Validate names the first field that is wrong.
func (p Person) Validate() error {
	if !personName.MatchString(p.Name) {
		return errors.New("name: empty, longer than 128 characters, or with control characters")
	}
	if err := auth.CheckToken(p.Token); err != nil {
		return fmt.Errorf("token: %w", err)
	}
	if p.Role != Viewer && p.Role != Operator {
		return fmt.Errorf("role: %q is neither viewer nor operator", p.Role)
	}
	if err := auth.CheckEquipment(p.Equipment); err != nil {
		return fmt.Errorf("equipment%w", err)
	}
	return nil
}

// Identity is who asks.
type Identity struct {
	Name     string // empty: anybody
	Role     Role
	Machines auth.Equipment
}

// Anybody is the identity of a request without a token: it sees every machine.
func Anybody(role Role) *Identity { return &Identity{Role: role, Machines: auth.Every()} }

// Acts tells whether the identity may change anything.
func (id *Identity) Acts() bool { return id.Role == Operator }

// Book knows the tokens. Safe for concurrent use.
type Book = auth.Tokens[*Identity]

// New compiles the people, who must be valid. anonymous is the identity of a request without a token, nil: there is none. A wrong token never is anybody.
func New(people []Person, anonymous *Identity) (*Book, error) {
	b := auth.NewTokens[*Identity]()
	if anonymous != nil {
		b.AllowAnonymous(anonymous)
	}
	names := map[string]bool{}
	for i, p := range people {
		if names[p.Name] {
			return nil, fmt.Errorf("people[%d].name: given twice", i)
		}
		names[p.Name] = true
		if err := b.Add(p.Token, &Identity{Name: p.Name, Role: p.Role, Machines: auth.NewEquipment(p.Equipment)}); err != nil {
			return nil, fmt.Errorf("people[%d].token: %w", i, err)
		}
	}
	return b, nil
}
