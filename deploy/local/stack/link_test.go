package stack_test

import (
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/tocsin-io/tocsin/deploy/local/stack"
)

func TestReplicasAndLinks(t *testing.T) {
	dir := t.TempDir()
	opts := stack.Options{
		Dir: dir, PortOffset: stack.AutoPorts, Brokers: 3, Replicas: 2, LinkedLake: true,
		Linked: []string{"alert-router", "alert-router-2"}, KafkaConfig: map[string]string{"num.partitions": "3"},
	}
	s, err := stack.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"stream-processor-2", "alert-router-2", "cold-path-writer-2"} {
		if !slices.Contains(s.Names(), name) || s.Addr(name) == "" {
			t.Errorf("%s is missing or has no port", name)
		}
	}
	if s.LinkTo("cold-path-writer") != nil || len(s.LinkTo(stack.LinkToLake)) != 1 {
		t.Error("links that were not asked for, or one that was is missing")
	}
	links := s.LinkTo("alert-router-2")
	if len(links) != 3 {
		t.Fatalf("%d links to three brokers", len(links))
	}
	conf := s.KafkaProperties(2)
	for _, want := range []string{
		"ALERT_ROUTER_2://" + links[1].Upstream, // listened on
		"ALERT_ROUTER_2://" + links[1].Listen,   // advertised
		"ALERT_ROUTER_2:PLAINTEXT",
	} {
		if !strings.Contains(conf, want) {
			t.Errorf("%s is not in\n%s", want, conf)
		}
	}
	if strings.LastIndex(conf, "num.partitions=3") < strings.LastIndex(conf, "num.partitions=12") {
		t.Error("what is laid over Kafka's configuration must come last")
	}
	again, err := stack.New(opts)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(again.LinkTo("alert-router-2"), links) {
		t.Error("the links of a folder have changed")
	}
}

func TestConfigIsLaidOver(t *testing.T) {
	s, err := stack.New(stack.Options{Dir: t.TempDir(), PortOffset: stack.AutoPorts, Config: map[string]any{
		"kafka":            map[string]any{"partitions": 6},
		"stream_processor": map[string]any{"detection": map[string]any{"window_length": "1s"}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	b, err := s.FleetConfig()
	if err != nil {
		t.Fatal(err)
	}
	var doc map[string]map[string]any
	if err := yaml.Unmarshal(b, &doc); err != nil {
		t.Fatal(err)
	}
	if doc["kafka"]["partitions"] != 6 || doc["kafka"]["brokers"] == nil {
		t.Errorf("kafka: %v", doc["kafka"])
	}
	if doc["stream_processor"]["detection"] == nil || doc["stream_processor"]["victoria_metrics"] == nil {
		t.Errorf("stream_processor: %v", doc["stream_processor"])
	}
}
