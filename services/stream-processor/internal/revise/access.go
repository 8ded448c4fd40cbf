package revise

import (
	"errors"
	"fmt"

	"github.com/tocsin-io/tocsin/pkg/auth"
	"github.com/tocsin-io/tocsin/pkg/frame"
)

// Auth says who may see and change the fleet's detection configuration.
type Auth struct {
	AllowAnonymous bool     `mapstructure:"allow_anonymous" doc:"Let anybody who reaches the listener change how the fleet is judged. Without it that is only so when nobody is listed, the listener is on loopback, and the request is for a name of this machine; else nobody may."`
	People         []Person `mapstructure:"people" doc:"Who may see and change it, each with a token, rights and machines."`
}

// Person is one of them.
type Person struct {
	Name      string   `mapstructure:"name" doc:"Who it is: kept with each change."`
	Token     string   `mapstructure:"token" doc:"The bearer token, at least 16 characters. Take it from the environment: ${NAME}." secret:"true"`
	Rights    string   `mapstructure:"rights" doc:"read: what is in force, and its history; correct: also say that a machine's new level is normal, of the machines below; change: also the settings of all machines, for who has all."`
	Equipment []string `mapstructure:"equipment" doc:"The machines: exact equipment ids, a prefix followed by *, or * for all."`
}

// right is what a request needs. A greater one holds the lesser.
type right int

const (
	none right = iota
	read
	correct
	change
)

func rightOf(name string) right {
	switch name {
	case "read":
		return read
	case "correct":
		return correct
	case "change":
		return change
	}
	return none
}

func (r right) String() string { return [...]string{"none", "read", "correct", "change"}[r] }

// identity is who asks.
type identity struct {
	name  string // empty: anybody
	right right
	see   auth.Equipment
	here  bool // only under a name of this machine
}

// may is what it may do to all machines.
func (id identity) may() right {
	if id.right == change && !id.see.All() {
		return correct
	}
	return id.right
}

// Validate names the first field that is wrong.
func (a Auth) Validate() error {
	_, err := a.tokens("")
	return err
}

// tokens knows the people. listen is the address of the listener.
func (a Auth) tokens(listen string) (*auth.Tokens[identity], error) {
	tokens := auth.NewTokens[identity]()
	switch {
	case a.AllowAnonymous:
		tokens.AllowAnonymous(identity{right: change, see: auth.Every()})
	case len(a.People) == 0 && auth.Loopback(listen):
		tokens.AllowAnonymous(identity{right: change, see: auth.Every(), here: true})
	}
	for i, p := range a.People {
		err := frame.CheckID("name", []byte(p.Name))
		if err == nil {
			err = p.check()
		}
		if err == nil {
			if err = tokens.Add(p.Token, identity{name: p.Name, right: rightOf(p.Rights), see: auth.NewEquipment(p.Equipment)}); err != nil {
				err = fmt.Errorf("token: %w", err)
			}
		}
		if err != nil {
			return nil, fmt.Errorf("people[%d].%w", i, err)
		}
	}
	return tokens, nil
}

func (p Person) check() error {
	if err := auth.CheckToken(p.Token); err != nil {
		return fmt.Errorf("token: %w", err)
	}
	if rightOf(p.Rights) == none {
		return fmt.Errorf("rights: %q is none of read, correct, change", p.Rights)
	}
	if err := auth.CheckEquipment(p.Equipment); err != nil {
		return fmt.Errorf("equipment%w", err)
	}
	if rightOf(p.Rights) == change && !auth.NewEquipment(p.Equipment).All() {
		return errors.New("equipment: who has the right change has all machines: [\"*\"]")
	}
	return nil
}
