package streamprocessor

import (
	"context"

	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/pkg/kafka"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/detection"
)

// Published follows the detection configuration that the fleet is judged under, without taking part. Safe for concurrent use.
type Published struct{ log *detection.Log }

// FollowPublished makes a client; nothing is read before Run.
func FollowPublished(cfg kafka.Config, log *zap.Logger) (*Published, error) {
	l, err := detection.Open(cfg, log)
	if err != nil {
		return nil, err
	}
	return &Published{l}, nil
}

// Run follows until ctx ends. Errors of the brokers are waited out.
func (p *Published) Run(ctx context.Context) { p.log.Follow(ctx) }

// Current is the configuration, with the weights of its models, and its id; false: none was read yet.
func (p *Published) Current() (cfg DetectionConfig, revision uint32, id string, ok bool) {
	c := p.log.Current()
	if c == nil || !p.log.Whole() {
		return DetectionConfig{}, 0, "", false
	}
	return *c.Judge, c.Revision, c.ID(), true
}

// Close ends the client. Idempotent.
func (p *Published) Close() { p.log.Close() }
