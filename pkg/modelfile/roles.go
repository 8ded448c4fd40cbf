package modelfile

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/tocsin-io/tocsin/pkg/objstore"
)

// Roles says which versions of a model judge: the champion's word counts, the challenger is asked beside it.
type Roles struct {
	Champion   string `json:"champion"`
	Challenger string `json:"challenger,omitempty"`
}

// ErrNoRoles: nobody was given a role yet, as before the first version is trained.
var ErrNoRoles = errors.New("no version of the model has a role")

const maxRoles = 4 << 10 // bytes of a roles object

func rolesPrefix(name string) string { return "models/" + name + "/roles/" }

// RolesKey is where the roles with that number are kept. They are never overwritten: the highest number holds.
func RolesKey(name string, number int) string {
	return fmt.Sprintf("%s%08d.json", rolesPrefix(name), number)
}

// RolesNumber is the number of the roles that hold; 0 when there are none. It costs one listing.
func RolesNumber(ctx context.Context, b objstore.Bucket, name string) (int, error) {
	number := 0
	for info, err := range b.List(ctx, rolesPrefix(name)) {
		if err != nil {
			return 0, fmt.Errorf("listing the roles of %s: %w", name, err)
		}
		var n int
		if _, err := fmt.Sscanf(strings.TrimPrefix(info.Key, rolesPrefix(name)), "%d.json", &n); err == nil && n > number {
			number = n
		}
	}
	return number, nil
}

// ReadRoles reads the roles that hold and their number, which only grows. ErrNoRoles when there are none.
func ReadRoles(ctx context.Context, b objstore.Bucket, name string) (Roles, int, error) {
	number, err := RolesNumber(ctx, b, name)
	if err != nil {
		return Roles{}, 0, err
	}
	if number == 0 {
		return Roles{}, 0, fmt.Errorf("%w: %s", ErrNoRoles, name)
	}
	raw, _, err := b.Get(ctx, RolesKey(name, number), maxRoles)
	if err != nil {
		return Roles{}, 0, fmt.Errorf("reading the roles of %s: %w", name, err)
	}
	var roles Roles
	if err := json.Unmarshal(raw, &roles); err != nil {
		return Roles{}, 0, fmt.Errorf("reading the roles of %s: %w", name, err)
	}
	return roles, number, nil
}
