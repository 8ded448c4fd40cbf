package stack

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// AutoPorts as Options.PortOffset gives each port a free number, kept for the life of the folder.
const AutoPorts = -1

// Options say what to run and where. The zero value is the whole stack in <repository>/.stack on the documented ports.
type Options struct {
	// Repo is the repository's root. Empty: the nearest folder above the working directory that holds go.work.
	Repo string
	// Dir holds everything that the stack keeps. Empty: <Repo>/.stack.
	Dir string
	// Bin holds the services' binaries. Empty: <Repo>/bin.
	Bin string
	// PortOffset is added to each documented port; AutoPorts picks free ones. 0: what Dir already has, or the documented ports.
	PortOffset int
	// Brokers is the number of Kafka brokers, 1 or 3. 0: what Dir already has, or 1.
	Brokers int
	// Only names components or groups (kafka, infra, services) that Up starts, with what they need. Empty: all.
	Only []string
	// Replicas is how many instances run of each service that shares its work in a consumer group: stream-processor, alert-router
	// and cold-path-writer. The second one is called stream-processor-2. 0: 1.
	Replicas int
	// Linked names services (or replicas) that reach each broker through a link that somebody else provides: see LinkTo. For cutting it.
	Linked []string
	// LinkedLake lets services reach the S3 server through a link: see LinkTo.
	LinkedLake bool
	// Config is laid over the generated fleet configuration: section, key, value, nested as in the file.
	Config map[string]any
	// KafkaConfig is laid over the generated configuration of each broker.
	KafkaConfig map[string]string
	// DataDirs are folders for the data of components that shall not have it below Dir. They are not purged.
	DataDirs map[string]string
	// Ephemeral processes are killed by the kernel when the program that started them dies. For tests. Linux only.
	Ephemeral bool
	// HealthTimeout bounds the wait for one component to become healthy. 0: 60 s.
	HealthTimeout time.Duration
	// Progress gets one line per step. nil: silent.
	Progress io.Writer
}

func (o Options) withDefaults() (Options, error) {
	if o.Repo == "" {
		repo, err := findRepo()
		if err != nil {
			return o, err
		}
		o.Repo = repo
	}
	if o.Dir == "" {
		o.Dir = filepath.Join(o.Repo, ".stack")
	}
	if o.Bin == "" {
		o.Bin = filepath.Join(o.Repo, "bin")
	}
	for _, p := range []*string{&o.Repo, &o.Dir, &o.Bin} {
		abs, err := filepath.Abs(*p)
		if err != nil {
			return o, fmt.Errorf("stack: %w", err)
		}
		*p = abs
	}
	switch {
	case o.PortOffset < AutoPorts || o.PortOffset > 40000:
		return o, fmt.Errorf("stack: port offset %d is not in 0..40000", o.PortOffset)
	case o.Brokers != 0 && o.Brokers != 1 && o.Brokers != 3:
		return o, fmt.Errorf("stack: %d brokers: 1 or 3 are supported", o.Brokers)
	case o.Replicas < 0 || o.Replicas > maxReplicas:
		return o, fmt.Errorf("stack: %d replicas are not in 1..%d", o.Replicas, maxReplicas)
	}
	if o.HealthTimeout <= 0 {
		o.HealthTimeout = 60 * time.Second
	}
	if o.Progress == nil {
		o.Progress = io.Discard
	}
	return o, nil
}

// maxReplicas is more than a machine for development can carry.
const maxReplicas = 8

func findRepo() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("stack: %w", err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.work")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("stack: no go.work in this folder or above it: run inside the repository or give its root")
		}
		dir = parent
	}
}

// MissingError says what this machine lacks to run a component, and the command that installs it.
type MissingError struct {
	Component string
	What      string
	Install   string
}

func (e *MissingError) Error() string {
	return fmt.Sprintf("%s: %s is missing; install it with: %s", e.Component, e.What, e.Install)
}
