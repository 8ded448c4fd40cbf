package stack

import (
	"context"
	"fmt"
	"path/filepath"
	"strings"
)

const installVictoria = "apt-get install -y victoria-metrics"

func (s *Stack) victoriaMetrics() *component {
	const name = "victoria-metrics"
	return &component{
		name:    name,
		groups:  []string{GroupInfra},
		ports:   []string{name},
		missing: func() error { return programMissing(name, name, installVictoria) },
		prepare: func(context.Context) (command, error) {
			scrape := s.confFile("scrape.yaml")
			if err := writeFile(scrape, []byte(s.scrapeConfig()), 0o644); err != nil {
				return command{}, err
			}
			path, _ := findProgram(name)
			return command{path: path, args: []string{
				"-storageDataPath=" + s.dataDir(name),
				"-httpListenAddr=" + s.Addr(name),
				"-promscrape.config=" + scrape,
				"-retentionPeriod=1", // months
				"-memory.allowedBytes=256MB",
				// By default queries leave out the newest 30 s; a live dashboard wants them.
				"-search.latencyOffset=0s",
				"-loggerLevel=WARN",
			}}, nil
		},
		healthy: s.httpHealth(name, "/health"),
	}
}

func (s *Stack) vmalert() *component {
	const name = "vmalert"
	return &component{
		name:    name,
		groups:  []string{GroupInfra},
		needs:   []string{"victoria-metrics"},
		ports:   []string{name},
		missing: func() error { return programMissing(name, name, installVictoria) },
		prepare: func(context.Context) (command, error) {
			args := []string{
				"-rule=" + filepath.Join(s.opts.Repo, "helm", "tocsin", "files", "rules", "*.yaml"),
				"-datasource.url=http://" + s.Addr("victoria-metrics"),
				"-remoteWrite.url=http://" + s.Addr("victoria-metrics"),
				"-remoteRead.url=http://" + s.Addr("victoria-metrics"),
				"-notifier.url=http://" + s.Addr("alert-router"),
				"-httpListenAddr=" + s.Addr(name),
				"-evaluationInterval=5s",
				"-loggerLevel=WARN",
			}
			path, _ := findProgram(name)
			return command{path: path, args: args}, nil
		},
		healthy: s.httpHealth(name, "/health"),
	}
}

// scrapeConfig lets VictoriaMetrics read /metrics of every service.
func (s *Stack) scrapeConfig() string {
	var b strings.Builder
	b.WriteString("global:\n  scrape_interval: 5s\nscrape_configs:\n")
	names := serviceNames()
	if programMissing("", filepath.Join(s.opts.Bin, icebergCommitter), "") == nil {
		names = append(names, icebergCommitter)
	}
	for _, name := range names {
		fmt.Fprintf(&b, "  - job_name: %s\n    static_configs:\n      - targets: [%q]\n", name, s.Addr(name))
	}
	return b.String()
}

func programMissing(component, program, install string, folders ...string) error {
	if _, ok := findProgram(program, folders...); ok {
		return nil
	}
	return &MissingError{component, program, install}
}
