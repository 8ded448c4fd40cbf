package stack

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"text/template"

	"go.yaml.in/yaml/v3"
)

//go:embed tocsin.yaml.tmpl
var fleetTemplate string

// serviceNames lists Tocsin's services in the flow's order.
func serviceNames() []string {
	return []string{"ingest-gateway", "stream-processor", "alert-router", "cold-path-writer", "realtime-api", "historical-api", "model-trainer", "tuning-bench"}
}

// icebergCommitter is in the stack when its binary has been built: it is a module of its own, which few need.
const icebergCommitter = "iceberg-committer"

// sharedServices may run several times: their instances share the partitions.
func sharedServices() []string {
	return []string{"stream-processor", "alert-router", "cold-path-writer"}
}

func replicaName(service string, n int) string {
	if n == 1 {
		return service
	}
	return fmt.Sprintf("%s-%d", service, n)
}

// services are Tocsin's own processes: one binary and one shared configuration file.
func (s *Stack) services() []*component {
	needs := map[string][]string{
		"stream-processor": {"s3", "victoria-metrics"},
		"cold-path-writer": {"s3"},
		"historical-api":   {"s3"},
		"model-trainer":    {"s3"},
		"tuning-bench":     {"s3"},
	}
	ports := map[string][]string{"ingest-gateway": {"ingest-gateway-grpc"}, "realtime-api": {"realtime-api-grpc"}}
	var cs []*component
	for _, service := range serviceNames() {
		replicas := 1
		if slices.Contains(sharedServices(), service) {
			replicas = max(replicas, s.opts.Replicas)
		}
		for n := 1; n <= replicas; n++ {
			name := replicaName(service, n)
			cs = append(cs, &component{
				name:   name,
				groups: []string{GroupServices},
				needs:  append([]string{GroupKafka}, needs[service]...),
				ports:  append([]string{name}, ports[service]...),
				missing: func() error {
					return programMissing(service, filepath.Join(s.opts.Bin, service), "make build")
				},
				prepare: func(context.Context) (command, error) { return s.prepareService(service, n) },
				healthy: s.httpHealth(name, "/health/ready"),
			})
		}
	}
	return append(cs, &component{
		name:     icebergCommitter,
		groups:   []string{GroupServices},
		needs:    []string{"s3", "postgres"},
		ports:    []string{icebergCommitter},
		optional: true,
		missing: func() error {
			return programMissing(icebergCommitter, filepath.Join(s.opts.Bin, icebergCommitter), "make iceberg")
		},
		prepare: func(context.Context) (command, error) { return s.prepareService(icebergCommitter, 1) },
		healthy: s.httpHealth(icebergCommitter, "/health/ready"),
	})
}

// ConfigFile is the fleet's generated configuration.
func (s *Stack) ConfigFile() string { return filepath.Join(s.opts.Dir, "tocsin.yaml") }

func (s *Stack) prepareService(service string, n int) (command, error) {
	b, err := s.FleetConfig()
	if err != nil {
		return command{}, err
	}
	if err := writeFile(s.ConfigFile(), b, 0o644); err != nil {
		return command{}, err
	}
	return command{
		path: filepath.Join(s.opts.Bin, service),
		args: []string{"--config", s.ConfigFile()},
		env:  append(s.secretEnv(), s.instanceEnv(service, n)...),
	}, nil
}

// instanceEnv is what this instance has otherwise than the fleet's file says.
func (s *Stack) instanceEnv(service string, n int) []string {
	name := replicaName(service, n)
	var env []string
	if s.LinkTo(name) != nil {
		env = append(env, "TOCSIN_KAFKA_BROKERS="+strings.Join(s.brokersFor(name), ","))
	}
	if n == 1 {
		return env
	}
	section := "TOCSIN_" + strings.ToUpper(strings.ReplaceAll(service, "-", "_"))
	env = append(env, section+"_HTTP_LISTEN="+s.Addr(name), fmt.Sprintf("%s_INSTANCE_ID=%s-%d", section, service, n-1))
	if service == "alert-router" {
		env = append(env, section+"_DATA_DIR="+s.dataDir(name))
	}
	return env
}

// FleetConfig is what ConfigFile holds.
func (s *Stack) FleetConfig() ([]byte, error) {
	t, err := template.New("tocsin.yaml").Option("missingkey=error").Parse(fleetTemplate)
	if err != nil {
		return nil, err
	}
	replication, inSync := 1, 1
	if s.set.Brokers >= 3 {
		replication, inSync = 3, 2
	}
	var b bytes.Buffer
	err = t.Execute(&b, map[string]any{
		"Brokers":     s.Brokers(),
		"Replication": replication,
		"MinInSync":   inSync,
		"Addr":        s.Addr,
		"Lake":        s.lakeAddr(),
		"Bucket":      Bucket,
		"Region":      S3Region,
		"Database":    Database,
		"Data":        s.dataDir,
	})
	if err != nil {
		return nil, fmt.Errorf("write the fleet's configuration: %w", err)
	}
	if len(s.opts.Config) == 0 {
		return b.Bytes(), nil
	}
	return overlay(b.Bytes(), s.opts.Config)
}

// overlay lays changes over a YAML document; maps are merged, anything else is replaced.
func overlay(text []byte, changes map[string]any) ([]byte, error) {
	var doc map[string]any
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, fmt.Errorf("read the fleet's configuration: %w", err)
	}
	merge(doc, changes)
	b, err := yaml.Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("write the fleet's configuration: %w", err)
	}
	return b, nil
}

func merge(into, from map[string]any) {
	for k, v := range from {
		inner, ok := v.(map[string]any)
		if old, isMap := into[k].(map[string]any); ok && isMap {
			merge(old, inner)
			continue
		}
		into[k] = v
	}
}
