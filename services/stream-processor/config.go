package streamprocessor

import (
	"errors"
	"fmt"
	"time"

	"github.com/tocsin-io/tocsin/pkg/httpserver"
	"github.com/tocsin-io/tocsin/pkg/objstore"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/export"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/machine"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/revise"
)

// Config of the stream-processor.
type Config struct {
	HTTP            httpserver.Config `mapstructure:"http"`
	Auth            revise.Auth       `mapstructure:"auth" doc:"Who may see and change the detection configuration while it runs: the page's tuning and new normal."`
	Group           string            `mapstructure:"group" doc:"Consumer group; also the first part of the transactional id."`
	InstanceID      string            `mapstructure:"instance_id" doc:"Name of this instance's slot, unique in the group and the same after a restart (a StatefulSet's pod name)."`
	SessionTimeout  time.Duration     `mapstructure:"session_timeout" doc:"An instance not heard of for this long loses its partitions to the others."`
	CommitInterval  time.Duration     `mapstructure:"commit_interval" doc:"Longest time that judgements wait to be committed together. An anomaly is committed at once."`
	CommitRecords   int               `mapstructure:"commit_records" doc:"Most input records in one transaction."`
	RestoreTimeout  time.Duration     `mapstructure:"restore_timeout" doc:"A partition not restored within this time stops the instance."`
	RestoreParallel int               `mapstructure:"restore_parallel" doc:"Partitions restored side by side."`
	MaxMachines     int               `mapstructure:"max_machines_per_partition" doc:"Frames of machines beyond this become dead letters: a bound on memory."`
	Snapshot        SnapshotConfig    `mapstructure:"snapshot"`
	Export          export.Config     `mapstructure:"victoria_metrics"`
	Revision        uint32            `mapstructure:"detection_revision" doc:"Revision of the detection section: raise it with each change, so that during a rolling restart the newer file wins everywhere. A lower one than the published gives way to it."`
	Detection       machine.Config    `mapstructure:"detection"`
	Models          objstore.Config   `mapstructure:"models" doc:"Where released models are kept: the model-trainer's store. Asked when a configuration that names models is read."`
	ModelsEvery     time.Duration     `mapstructure:"models_every" doc:"How often that store is asked who has which role, where the detection section names models without a version."`
}

// SnapshotConfig bounds what a restart must replay.
type SnapshotConfig struct {
	MaxAge     time.Duration `mapstructure:"max_age" doc:"A machine's state is saved at the latest this long, in log time, after it changed."`
	MaxRecords int64         `mapstructure:"max_records" doc:"... or this many input records after."`
	MaxBytes   int           `mapstructure:"max_bytes" doc:"Most snapshot bytes of one partition in one transaction."`
}

// DefaultConfig is what an installation starts with.
func DefaultConfig() Config {
	return Config{
		HTTP: httpserver.DefaultConfig("127.0.0.1:8082"), Group: "stream-processor", InstanceID: "stream-processor-0",
		SessionTimeout: 12 * time.Second, CommitInterval: 250 * time.Millisecond, CommitRecords: 20_000,
		RestoreTimeout: 2 * time.Minute, RestoreParallel: 4, MaxMachines: 20_000,
		Snapshot:  SnapshotConfig{MaxAge: 30 * time.Second, MaxRecords: 200_000, MaxBytes: 4 << 20},
		Export:    export.DefaultConfig(),
		Detection: machine.DefaultConfig(),
		Models:    objstore.DefaultConfig("./.tocsin/models"), ModelsEvery: 5 * time.Second,
	}
}

// Validate names the first field that is wrong.
func (c Config) Validate() error {
	sub := func(prefix string, err error) error {
		if err != nil {
			return fmt.Errorf("%s.%w", prefix, err)
		}
		return nil
	}
	if err := errors.Join(sub("http", c.HTTP.Validate()), sub("auth", c.Auth.Validate()), sub("victoria_metrics", c.Export.Validate()), sub("detection", c.Detection.Validate()), sub("models", c.Models.Validate())); err != nil {
		return err
	}
	switch m := c.Detection.Detect.Models; {
	case len(m.Champions)+len(m.Shadows) > 0 && c.Revision == 0:
		return errors.New("detection_revision: must be 1 or more where the detection section names models")
	case c.ModelsEvery < 10*time.Millisecond:
		return fmt.Errorf("models_every: %s is less than 10ms", c.ModelsEvery)
	case c.Group == "":
		return errors.New("group: must not be empty")
	case c.InstanceID == "":
		return errors.New("instance_id: must not be empty")
	case c.SessionTimeout < time.Second:
		return fmt.Errorf("session_timeout: %s is less than 1s", c.SessionTimeout)
	case c.CommitInterval < 10*time.Millisecond || c.CommitInterval > 5*time.Second:
		return fmt.Errorf("commit_interval: %s is not in 10ms..5s", c.CommitInterval)
	case c.CommitRecords < 1:
		return fmt.Errorf("commit_records: %d is less than 1", c.CommitRecords)
	case c.RestoreTimeout < time.Second:
		return fmt.Errorf("restore_timeout: %s is less than 1s", c.RestoreTimeout)
	case c.RestoreParallel < 1:
		return fmt.Errorf("restore_parallel: %d is less than 1", c.RestoreParallel)
	case c.MaxMachines < 1:
		return fmt.Errorf("max_machines_per_partition: %d is less than 1", c.MaxMachines)
	case c.Snapshot.MaxAge < time.Second:
		return fmt.Errorf("snapshot.max_age: %s is less than 1s", c.Snapshot.MaxAge)
	case c.Snapshot.MaxRecords < 1:
		return fmt.Errorf("snapshot.max_records: %d is less than 1", c.Snapshot.MaxRecords)
	case c.Snapshot.MaxBytes < 1:
		return fmt.Errorf("snapshot.max_bytes: %d is less than 1", c.Snapshot.MaxBytes)
	}
	return nil
}
