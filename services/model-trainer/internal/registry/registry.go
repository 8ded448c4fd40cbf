// Package registry keeps models in an object store by name and version.
//
//	models/<name>/versions/<version>.model   immutable; the version is the hash of the content
//	models/<name>/roles/<number>.json        who is champion and challenger; the highest number holds
//
// Nothing is ever overwritten, so any number of instances may write at once: of two that change the roles, one wins and the other is told. Models in use are kept in memory, the
// longest unused go first.
package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/tocsin-io/tocsin/pkg/modelfile"
	"github.com/tocsin-io/tocsin/pkg/objstore"
	"github.com/tocsin-io/tocsin/services/model-trainer/internal/model"
)

// Errors of lookups; test with errors.Is.
var (
	ErrNotFound = errors.New("no such model")
	ErrName     = errors.New("not a model's name")
	// ErrConflict: somebody else changed the roles at the same time.
	ErrConflict = errors.New("the roles were changed by somebody else")
)

// Registry is safe for concurrent use.
type Registry struct {
	bucket   objstore.Bucket
	maxBytes int64 // of one model's file
	maxCache int64 // of all models in memory

	mu     sync.Mutex
	cache  map[string]*entry
	cached int64
	clock  uint64
}

type entry struct {
	model *model.Model
	bytes int64
	used  uint64
}

// New keeps models in bucket: files of at most maxBytes, at most maxCache bytes of them in memory, but at least the one in use.
func New(bucket objstore.Bucket, maxBytes, maxCache int64) *Registry {
	return &Registry{bucket: bucket, maxBytes: maxBytes, maxCache: maxCache, cache: map[string]*entry{}}
}

// Roles says which versions judge.
type Roles = modelfile.Roles

// CheckName tells whether name may be a model's: ^[A-Za-z0-9._-]{1,64}$, and not only dots.
func CheckName(name string) error {
	ok, err := regexp.MatchString(`^[A-Za-z0-9._-]{1,64}$`, name)
	if err != nil || !ok || strings.Trim(name, ".") == "" {
		return fmt.Errorf("%w: %q does not match [A-Za-z0-9._-]{1,64}", ErrName, name)
	}
	return nil
}

func checkVersion(v string) error {
	if !modelfile.IsVersion(v) {
		return fmt.Errorf("%w: version %q is not 12 hexadecimal digits", ErrName, v)
	}
	return nil
}

// Split parts "name@version"; the version is empty when there is none.
func Split(ref string) (name, version string, err error) {
	name, version, has := strings.Cut(ref, "@")
	if err := CheckName(name); err != nil {
		return "", "", err
	}
	if has {
		if err := checkVersion(version); err != nil {
			return "", "", err
		}
	}
	return name, version, nil
}

func modelKey(name, version string) string {
	return modelfile.Key(name, version)
}

// Save stores a model. The first version of a name becomes champion, a later one challenger, unless it holds a role already. A model that is there already is no error.
func (r *Registry) Save(ctx context.Context, name string, m *model.Model) (Roles, error) {
	if err := CheckName(name); err != nil {
		return Roles{}, err
	}
	file := m.AppendTo(nil)
	if int64(len(file)) > r.maxBytes {
		return Roles{}, fmt.Errorf("the model has %d bytes, more than max_model_bytes (%d)", len(file), r.maxBytes)
	}
	err := r.bucket.PutIfAbsent(ctx, modelKey(name, m.Version()), file, nil)
	if err != nil && !errors.Is(err, objstore.ErrExists) {
		return Roles{}, fmt.Errorf("storing %s@%s: %w", name, m.Version(), err)
	}
	for { // another instance may change the roles meanwhile
		roles, number, err := r.roles(ctx, name)
		switch {
		case errors.Is(err, ErrNotFound):
			roles = Roles{Champion: m.Version()}
		case err != nil:
			return Roles{}, err
		case roles.Champion == m.Version() || roles.Challenger == m.Version():
			return roles, nil
		default:
			roles.Challenger = m.Version()
		}
		if err := r.putRoles(ctx, name, number+1, roles); !errors.Is(err, ErrConflict) {
			return roles, err
		}
	}
}

// Roles are the roles that hold.
func (r *Registry) Roles(ctx context.Context, name string) (Roles, error) {
	if err := CheckName(name); err != nil {
		return Roles{}, err
	}
	roles, _, err := r.roles(ctx, name)
	return roles, err
}

func (r *Registry) roles(ctx context.Context, name string) (Roles, int, error) {
	roles, number, err := modelfile.ReadRoles(ctx, r.bucket, name)
	if errors.Is(err, modelfile.ErrNoRoles) {
		return Roles{}, 0, fmt.Errorf("%w: %s", ErrNotFound, name)
	}
	return roles, number, err
}

func (r *Registry) putRoles(ctx context.Context, name string, number int, roles Roles) error {
	b, err := json.Marshal(roles)
	if err != nil {
		return err
	}
	err = r.bucket.PutIfAbsent(ctx, modelfile.RolesKey(name, number), b, nil)
	if errors.Is(err, objstore.ErrExists) || errors.Is(err, objstore.ErrConflict) {
		return fmt.Errorf("%w: %s", ErrConflict, name)
	}
	if err != nil {
		return fmt.Errorf("storing the roles of %s: %w", name, err)
	}
	return nil
}

// SetRoles changes who judges. Both versions must exist; the challenger may be empty.
func (r *Registry) SetRoles(ctx context.Context, name string, roles Roles) error {
	_, number, err := r.roles(ctx, name)
	if err != nil {
		return err
	}
	for _, version := range []string{roles.Champion, roles.Challenger} {
		if version == "" && version != roles.Champion {
			continue
		}
		if _, err := r.Load(ctx, name, version); err != nil {
			return err
		}
	}
	return r.putRoles(ctx, name, number+1, roles)
}

// Load returns a version of a model, from memory or from the store.
func (r *Registry) Load(ctx context.Context, name, version string) (*model.Model, error) {
	if err := errors.Join(CheckName(name), checkVersion(version)); err != nil {
		return nil, err
	}
	key := modelKey(name, version)
	if m := r.remembered(key); m != nil {
		return m, nil
	}
	b, _, err := r.bucket.Get(ctx, key, r.maxBytes)
	switch {
	case errors.Is(err, objstore.ErrNotFound):
		return nil, fmt.Errorf("%w: %s@%s", ErrNotFound, name, version)
	case err != nil:
		return nil, fmt.Errorf("reading %s@%s: %w", name, version, err)
	}
	m, err := model.Decode(b)
	if err != nil {
		return nil, fmt.Errorf("%s@%s: %w", name, version, err)
	}
	if m.Version() != version {
		return nil, fmt.Errorf("%s@%s: %w: the content's hash is %s", name, version, model.ErrCorrupt, m.Version())
	}
	r.remember(key, m, int64(len(b)))
	return m, nil
}

func (r *Registry) remembered(key string) *model.Model {
	r.mu.Lock()
	defer r.mu.Unlock()
	e := r.cache[key]
	if e == nil {
		return nil
	}
	r.clock++
	e.used = r.clock
	return e.model
}

func (r *Registry) remember(key string, m *model.Model, bytes int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.cache[key] != nil {
		return
	}
	for r.cached+bytes > r.maxCache && len(r.cache) > 0 {
		oldest := ""
		for k, e := range r.cache {
			if oldest == "" || e.used < r.cache[oldest].used {
				oldest = k
			}
		}
		r.cached -= r.cache[oldest].bytes
		delete(r.cache, oldest)
	}
	r.clock++
	r.cache[key] = &entry{model: m, bytes: bytes, used: r.clock}
	r.cached += bytes
}

// Version is a stored version of a model.
type Version struct {
	Version string    `json:"version"`
	Bytes   int64     `json:"bytes"`
	Stored  time.Time `json:"stored"`
}

const maxListed = 10_000

// Versions lists a name's versions, oldest first, at most 10,000.
func (r *Registry) Versions(ctx context.Context, name string) ([]Version, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	prefix, out := "models/"+name+"/versions/", []Version(nil)
	for info, err := range r.bucket.List(ctx, prefix) {
		if err != nil {
			return nil, fmt.Errorf("listing %s: %w", name, err)
		}
		version := strings.TrimSuffix(strings.TrimPrefix(info.Key, prefix), ".model")
		if out = append(out, Version{version, info.Size, info.Modified}); len(out) == maxListed {
			break
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%w: %s", ErrNotFound, name)
	}
	slices.SortStableFunc(out, func(a, b Version) int { return a.Stored.Compare(b.Stored) })
	return out, nil
}

// Names lists the names of all models, at most 10,000, in order.
func (r *Registry) Names(ctx context.Context) ([]string, error) {
	var out []string
	for info, err := range r.bucket.List(ctx, "models/") {
		if err != nil {
			return nil, fmt.Errorf("listing models: %w", err)
		}
		name, _, _ := strings.Cut(strings.TrimPrefix(info.Key, "models/"), "/")
		if len(out) == 0 || out[len(out)-1] != name {
			if out = append(out, name); len(out) == maxListed {
				break
			}
		}
	}
	return out, nil
}
