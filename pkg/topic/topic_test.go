package topic_test

import (
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/tocsin-io/tocsin/pkg/topic"
)

func TestAll(t *testing.T) {
	byName := map[string]topic.Spec{}
	for _, s := range topic.All() {
		if _, ok := byName[s.Name]; ok {
			t.Errorf("%s is listed twice", s.Name)
		}
		byName[s.Name] = s
	}
	for _, name := range []string{topic.Frames, topic.Readings, topic.Windows, topic.Anomalies, topic.Alerts, topic.Findings} {
		s, dead := byName[name], byName[topic.DLQ(name)]
		if s.Partitioning != topic.PerMachine || s.Configs["message.timestamp.type"] != "LogAppendTime" || s.Configs["retention.ms"] != "604800000" {
			t.Errorf("%+v", s)
		}
		if dead.Name == "" || dead.Partitioning != topic.Single || dead.Configs["max.message.bytes"] != s.Configs["max.message.bytes"] {
			t.Errorf("dead letters of %s: %+v", name, dead)
		}
	}
	for _, name := range []string{topic.State, topic.Registry, topic.Config} {
		if byName[name].Configs["cleanup.policy"] != "compact" {
			t.Errorf("%+v", byName[name])
		}
	}
	byName[topic.Frames].Configs["retention.ms"] = "1"
	for _, s := range topic.All() {
		if s.Configs["retention.ms"] == "1" {
			t.Error("callers share the specs")
		}
	}
}

func TestType(t *testing.T) {
	r := &kgo.Record{Headers: []kgo.RecordHeader{{Key: topic.HeaderID, Value: []byte("a")}, {Key: topic.HeaderType, Value: []byte(topic.TypeTick)}}}
	if topic.Type(r) != topic.TypeTick || !topic.IsTick(r) || topic.Type(&kgo.Record{}) != "" || topic.Is(r, topic.TypeDetection) || topic.IsTick(&kgo.Record{}) {
		t.Fatal(r)
	}
	if n := testing.AllocsPerRun(100, func() { topic.IsTick(r) }); n != 0 {
		t.Errorf("IsTick allocates %v times", n)
	}
}

func TestSpecsAreTheNamedOnes(t *testing.T) {
	got := topic.Specs(topic.Registry, topic.Frames, "nobody's")
	if len(got) != 2 || got[0].Name != topic.Frames || got[1].Name != topic.Registry {
		t.Fatalf("%+v", got)
	}
	if got[0].Count(12) != 12 || got[1].Count(12) != 1 {
		t.Error("frames are spread over machines, the registry is not")
	}
}
