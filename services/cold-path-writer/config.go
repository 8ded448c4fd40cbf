package coldpathwriter

import (
	"errors"
	"fmt"
	"time"

	"github.com/tocsin-io/tocsin/pkg/httpserver"
	"github.com/tocsin-io/tocsin/pkg/objstore"
	"github.com/tocsin-io/tocsin/pkg/schema"
	"github.com/tocsin-io/tocsin/services/cold-path-writer/internal/chunk"
	"github.com/tocsin-io/tocsin/services/cold-path-writer/internal/commit"
)

// Config of the cold-path-writer.
type Config struct {
	HTTP           httpserver.Config `mapstructure:"http" doc:"Health, metrics, configuration."`
	Lake           objstore.Config   `mapstructure:"lake" doc:"Where the Parquet files are kept."`
	Chunk          chunk.Rules       `mapstructure:"chunk" doc:"When a file ends. Changing it is safe at any time."`
	Group          string            `mapstructure:"group" doc:"Consumer group."`
	InstanceID     string            `mapstructure:"instance_id" doc:"Static group member, unique per replica and stable over restarts (in Kubernetes the pod's name); empty: a dynamic member."`
	SessionTimeout time.Duration     `mapstructure:"session_timeout" doc:"A member that the brokers have not heard of for so long loses its partitions."`
	MemoryLimit    int64             `mapstructure:"memory_limit" doc:"Bytes of records held in memory; above it partitions are paused. At least twice chunk.max_bytes."`
	Encoders       int               `mapstructure:"encoders" doc:"Files encoded at once. Each needs up to 320 bytes of memory per row."`
	Retry          commit.Backoff    `mapstructure:"retry" doc:"Waits between tries while the store or Kafka does not answer."`
	StallTimeout   time.Duration     `mapstructure:"stall_timeout" doc:"Above the memory limit, a partition that is waited for and gets no records for so long gives its memory back."`
	DrainTimeout   time.Duration     `mapstructure:"drain_timeout" doc:"How long a file on its way may take when the service stops; what is not stored then is read again."`
	SkipLost       bool              `mapstructure:"skip_lost" doc:"Go on behind records that the topics' retention removed before they were stored, instead of stopping."`
	Maintenance    Maintenance       `mapstructure:"maintenance" doc:"Merging of small files, and retention."`
	Schemas        schema.Config     `mapstructure:"schemas" doc:"Bounds of the schema registry's copy in memory."`
}

// DefaultConfig keeps the lake in a directory of the working directory.
func DefaultConfig() Config {
	return Config{
		HTTP:           httpserver.DefaultConfig("127.0.0.1:8084"),
		Lake:           objstore.DefaultConfig("./.tocsin/lake"),
		Chunk:          chunk.DefaultRules(),
		Group:          "cold-path-writer",
		InstanceID:     "cold-path-writer-0",
		SessionTimeout: 10 * time.Second,
		MemoryLimit:    1 << 30,
		Encoders:       1,
		Retry:          commit.DefaultBackoff(),
		StallTimeout:   10 * time.Second,
		DrainTimeout:   8 * time.Second,
		Maintenance:    besidesWriting(),
		Schemas:        schema.DefaultConfig(),
	}
}

// Validate names the first field that is wrong.
func (c Config) Validate() error {
	for _, part := range []struct {
		name string
		err  error
	}{
		{"http", c.HTTP.Validate()},
		{"lake", c.Lake.Validate()},
		{"chunk", c.Chunk.Validate()},
		{"retry", c.Retry.Validate()},
		{"maintenance", c.Maintenance.Validate()},
		{"schemas", c.Schemas.Validate()},
	} {
		if part.err != nil {
			return fmt.Errorf("%s.%w", part.name, part.err)
		}
	}
	switch {
	case c.Group == "":
		return errors.New("group: must not be empty")
	case c.SessionTimeout < 100*time.Millisecond:
		return errors.New("session_timeout: must be 100ms or more")
	case c.MemoryLimit < 2*c.Chunk.MaxBytes:
		return fmt.Errorf("memory_limit: %d is less than twice chunk.max_bytes (%d)", c.MemoryLimit, c.Chunk.MaxBytes)
	case c.Encoders < 1 || c.Encoders > 256:
		return fmt.Errorf("encoders: %d is not in 1..256", c.Encoders)
	case c.StallTimeout <= 0:
		return errors.New("stall_timeout: must be positive")
	case c.DrainTimeout <= 0:
		return errors.New("drain_timeout: must be positive")
	}
	return nil
}
