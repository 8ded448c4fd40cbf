package streamprocessor

import (
	"context"
	"fmt"

	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/pkg/modelfile"
	"github.com/tocsin-io/tocsin/pkg/objstore"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/detect"
)

// maxModelFile is the most bytes of a model's file that is looked at; what may judge is far smaller.
const maxModelFile = 16 << 20

// WithModels gives cfg's models their weights, from the models' store. What it gives back shares nothing of them with cfg.
func WithModels(ctx context.Context, cfg Config) (Config, error) {
	m := &cfg.Detection.Detect.Models
	if len(m.Champions)+len(m.Shadows) == 0 {
		return cfg, nil
	}
	store, err := objstore.Open(ctx, cfg.Models)
	if err != nil {
		return cfg, fmt.Errorf("models: %w", err)
	}
	defer store.Close()
	for _, list := range []*[]detect.Model{&m.Champions, &m.Shadows} {
		full := make([]detect.Model, len(*list))
		for i, one := range *list {
			if one.Weights == "" {
				file, _, err := store.Get(ctx, modelfile.Key(one.Name, one.Version), maxModelFile)
				if err == nil {
					err = one.Pack(file)
				}
				if err != nil {
					return cfg, fmt.Errorf("model %s@%s: %w", one.Name, one.Version, err)
				}
			}
			full[i] = one
		}
		*list = full
	}
	return cfg, nil
}

// startingWith is cfg with its models' weights. When they cannot be had, judging must not wait for them: then it is cfg without models, at revision 0, so that whatever is published holds.
func startingWith(cfg Config, log *zap.Logger) (_ Config, failed error) {
	ctx, cancel := context.WithTimeout(context.Background(), publishTimeout)
	defer cancel()
	full, err := WithModels(ctx, cfg)
	if err == nil {
		return full, nil
	}
	log.Error("models cannot be loaded: judging goes on under the published configuration, or without models where there is none; send SIGHUP once they can be", zap.Error(err))
	cfg.Detection.Detect.Models.Champions, cfg.Detection.Detect.Models.Shadows, cfg.Revision = nil, nil, 0
	return cfg, err
}
