package streamprocessor

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/pkg/modelfile"
	"github.com/tocsin-io/tocsin/pkg/objstore"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/detect"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/detection"
)

// maxModelFile is the most bytes of a model's file that is looked at; what may judge is far smaller.
const maxModelFile = 16 << 20

// WithModels gives cfg's models their weights, from the models' store, and those without a version the one that has the role now. What it gives back shares nothing of them with cfg.
func WithModels(ctx context.Context, cfg Config) (Config, error) {
	if !namesModels(&cfg) {
		return cfg, nil
	}
	store, err := objstore.Open(ctx, cfg.Models)
	if err != nil {
		return cfg, fmt.Errorf("models: %w", err)
	}
	defer store.Close()
	r, err := release(ctx, store, cfg, zap.NewNop())
	return r.cfg, err
}

func namesModels(cfg *Config) bool {
	m := &cfg.Detection.Detect.Models
	return len(m.Champions)+len(m.Shadows) > 0
}

// followed are the names of models whose roles cfg follows, each once.
func followed(cfg *Config) []string {
	var out []string
	for _, m := range slices.Concat(cfg.Detection.Detect.Models.Champions, cfg.Detection.Detect.Models.Shadows) {
		if m.Follows() && !slices.Contains(out, m.Name) {
			out = append(out, m.Name)
		}
	}
	return out
}

// released is a configuration with its models' weights, and which release of its revision that is: the sum of the numbers of the roles that it follows. Each of them only grows.
type released struct {
	cfg    Config
	number uint64
}

// numberOf is the release that the store holds now.
func numberOf(ctx context.Context, store objstore.Bucket, names []string) (sum uint64, err error) {
	for _, name := range names {
		n, err := modelfile.RolesNumber(ctx, store, name)
		if err != nil {
			return 0, err
		}
		sum += uint64(n)
	}
	return sum, nil
}

// release looks up what cfg names. A model that is followed and cannot judge streams is left out with a warning: what is trained is not all meant for the stream.
func release(ctx context.Context, store objstore.Bucket, cfg Config, log *zap.Logger) (released, error) {
	out := released{cfg: cfg}
	roles := map[string]modelfile.Roles{}
	for _, name := range followed(&cfg) {
		r, n, err := modelfile.ReadRoles(ctx, store, name)
		if err != nil && !errors.Is(err, modelfile.ErrNoRoles) {
			return out, err
		}
		roles[name] = r
		out.number += uint64(n)
	}
	m := &out.cfg.Detection.Detect.Models
	for _, role := range []struct {
		list *[]detect.Model
		of   func(modelfile.Roles) string
	}{
		{&m.Champions, func(r modelfile.Roles) string { return r.Champion }},
		{&m.Shadows, func(r modelfile.Roles) string { return r.Challenger }},
	} {
		full := make([]detect.Model, 0, len(*role.list))
		for _, one := range *role.list {
			follows := one.Follows()
			if follows {
				if one.Version = role.of(roles[one.Name]); one.Version == "" {
					continue // nobody has the role
				}
			}
			if one.Weights == "" {
				file, _, err := store.Get(ctx, modelfile.Key(one.Name, one.Version), maxModelFile)
				if err != nil {
					return out, fmt.Errorf("model %s@%s: %w", one.Name, one.Version, err)
				}
				if err := one.Pack(file); err != nil && follows {
					log.Warn("a model has a role that it cannot have in the stream", zap.String("model", one.Name+"@"+one.Version), zap.Error(err))
					continue
				} else if err != nil {
					return out, fmt.Errorf("model %s@%s: %w", one.Name, one.Version, err)
				}
			}
			full = append(full, one)
		}
		*role.list = full
	}
	if err := out.cfg.Detection.Validate(); err != nil { // all weights together may be too many
		return out, fmt.Errorf("detection.%w", err)
	}
	return out, nil
}

// releases holds the detection configuration that was read to the models' roles: whoever gives a role to another version is followed, in an order that all instances agree on. Safe for concurrent use.
type releases struct {
	log     *zap.Logger
	publish func(context.Context, *detection.Config) error

	mu     sync.Mutex
	cfg    Config // as it was read
	store  objstore.Bucket
	number uint64
	missed bool   // the weights of cfg could not be had yet
	failed string // what was logged last
}

// begin is cfg with its models' weights. When they cannot be had, judging must not wait for them: then it is cfg without models, at revision 0, so that whatever is published holds; follow tries again.
func (r *releases) begin(cfg Config) (_ released, failed error) {
	ctx, cancel := context.WithTimeout(context.Background(), publishTimeout)
	defer cancel()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cfg = cfg
	full, err := r.read(ctx, cfg)
	if err == nil {
		return full, nil
	}
	r.missed = true
	r.failed = err.Error()
	r.log.Error("models cannot be loaded: judging goes on under the published configuration, or without models where there is none, until they can be", zap.Error(err))
	cfg.Detection.Detect.Models.Champions, cfg.Detection.Detect.Models.Shadows, cfg.Revision = nil, nil, 0
	return released{cfg: cfg}, err
}

// read is release from the store of cfg. It is called with r.mu held.
func (r *releases) read(ctx context.Context, cfg Config) (released, error) {
	if !namesModels(&cfg) {
		return released{cfg: cfg}, nil
	}
	if r.store != nil && r.cfg.Models != cfg.Models {
		r.shut()
	}
	if r.store == nil {
		store, err := objstore.Open(ctx, cfg.Models)
		if err != nil {
			return released{}, fmt.Errorf("models: %w", err)
		}
		r.store = store
	}
	full, err := release(ctx, r.store, cfg, r.log)
	if err == nil {
		r.number, r.missed, r.failed = full.number, false, ""
	}
	return full, err
}

// reconfigure takes a configuration that was read anew. A bad one changes nothing.
func (r *releases) reconfigure(ctx context.Context, cfg Config) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	full, err := r.read(ctx, cfg)
	if err != nil {
		return err
	}
	if err := r.publish(ctx, full.detection()); err != nil {
		return err
	}
	r.cfg = cfg
	return nil
}

func (r released) detection() *detection.Config {
	return detection.NewRelease(&r.cfg.Detection, r.cfg.Revision, r.number)
}

// follow publishes a release whenever roles were given to others, until ctx ends.
func (r *releases) follow(ctx context.Context) {
	for {
		r.mu.Lock()
		every := r.cfg.ModelsEvery
		r.mu.Unlock()
		select {
		case <-ctx.Done():
			return
		case <-time.After(every):
		}
		if err := r.look(ctx); err != nil && ctx.Err() == nil {
			r.mu.Lock()
			said := r.failed == err.Error()
			r.failed = err.Error()
			r.mu.Unlock()
			if !said {
				r.log.Error("models' roles cannot be followed: judging goes on under the published configuration", zap.Error(err))
			}
		}
	}
}

// look asks the store once.
func (r *releases) look(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	r.mu.Lock()
	defer r.mu.Unlock()
	names := followed(&r.cfg)
	if !r.missed {
		if len(names) == 0 || r.store == nil {
			return nil
		}
		number, err := numberOf(ctx, r.store, names)
		if err != nil {
			return err
		}
		if number <= r.number {
			r.failed = ""
			return nil
		}
	}
	was, missed := r.number, r.missed
	full, err := r.read(ctx, r.cfg)
	if err != nil {
		return err
	}
	if err := r.publish(ctx, full.detection()); err != nil {
		r.number, r.missed = was, missed // again next time
		return err
	}
	r.log.Info("models were released", zap.Uint64("release", full.number), zap.Strings("champions", refs(full.cfg.Detection.Detect.Models.Champions)),
		zap.Strings("shadows", refs(full.cfg.Detection.Detect.Models.Shadows)))
	return nil
}

func refs(models []detect.Model) []string {
	var out []string
	for _, m := range models {
		out = append(out, m.Name+"@"+m.Version)
	}
	return out
}

func (r *releases) close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.shut()
}

func (r *releases) shut() {
	if r.store != nil {
		_ = r.store.Close() // nothing is written
		r.store = nil
	}
}
