package stack

import (
	"bytes"
	"context"
	_ "embed"
	"fmt"
	"path/filepath"
	"text/template"
)

//go:embed tocsin.yaml.tmpl
var fleetTemplate string

// serviceNames lists Tocsin's services in the flow's order.
func serviceNames() []string {
	return []string{"ingest-gateway", "stream-processor", "alert-router", "cold-path-writer", "realtime-api"}
}

// services are Tocsin's own processes: one binary and one shared configuration file.
func (s *Stack) services() []*component {
	needs := map[string][]string{
		"stream-processor": {"victoria-metrics"},
		"cold-path-writer": {"s3"},
	}
	ports := map[string][]string{"ingest-gateway": {"ingest-gateway-grpc"}}
	var cs []*component
	for _, name := range serviceNames() {
		cs = append(cs, &component{
			name:   name,
			groups: []string{GroupServices},
			needs:  append([]string{GroupKafka}, needs[name]...),
			ports:  append([]string{name}, ports[name]...),
			missing: func() error {
				return programMissing(name, filepath.Join(s.opts.Bin, name), "make build")
			},
			prepare: func(context.Context) (command, error) { return s.prepareService(name) },
			healthy: s.httpHealth(name, "/health/ready"),
		})
	}
	return cs
}

// ConfigFile is the fleet's generated configuration.
func (s *Stack) ConfigFile() string { return filepath.Join(s.opts.Dir, "tocsin.yaml") }

func (s *Stack) prepareService(name string) (command, error) {
	b, err := s.FleetConfig()
	if err != nil {
		return command{}, err
	}
	if err := writeFile(s.ConfigFile(), b, 0o644); err != nil {
		return command{}, err
	}
	return command{
		path: filepath.Join(s.opts.Bin, name),
		args: []string{"--config", s.ConfigFile()},
		env:  s.secretEnv(),
	}, nil
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
		"Bucket":      Bucket,
		"Region":      S3Region,
		"Data":        s.dataDir,
	})
	if err != nil {
		return nil, fmt.Errorf("write the fleet's configuration: %w", err)
	}
	return b.Bytes(), nil
}
