package stack_test

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.yaml.in/yaml/v3"
)

// TestMain lets the test binary stand in for a service: a link to it under a service's name serves that service's health.
func TestMain(m *testing.M) {
	name := filepath.Base(os.Args[0])
	if slices.Contains([]string{"ingest-gateway", "stream-processor", "alert-router", "cold-path-writer", "realtime-api", "historical-api", "model-trainer", "tuning-bench", "iceberg-committer"}, name) {
		if err := standIn(name); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	goleak.VerifyTestMain(m)
}

// standIn takes the flags of a real service. "alert-router" is the one that cannot start.
func standIn(name string) error {
	if len(os.Args) != 3 || os.Args[1] != "--config" {
		return fmt.Errorf("arguments are %q", os.Args[1:])
	}
	b, err := os.ReadFile(os.Args[2])
	if err != nil {
		return err
	}
	var cfg map[string]struct {
		HTTP struct{ Listen string } `yaml:"http"`
	}
	if err := yaml.Unmarshal(b, &cfg); err != nil {
		return err
	}
	if name == "alert-router" {
		return fmt.Errorf("routes: no receiver is called %q", "nobody")
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health/ready", func(http.ResponseWriter, *http.Request) {})
	srv := http.Server{Addr: cfg[strings.ReplaceAll(name, "-", "_")].HTTP.Listen, Handler: mux, ReadHeaderTimeout: time.Second}
	return srv.ListenAndServe()
}
