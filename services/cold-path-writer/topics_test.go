package coldpathwriter

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/tocsin-io/tocsin/pkg/kafka"
	"github.com/tocsin-io/tocsin/pkg/kafka/kafkatest"
)

func TestWaitsForKafkaAndSaysWhy(t *testing.T) {
	k := kafka.DefaultConfig()
	k.Brokers = []string{"127.0.0.1:1"}
	w := start(t, testConfig(t.TempDir()), k, nil)
	deadline := time.After(patience)
	for {
		err := w.Ready()
		if err != nil && strings.Contains(err.Error(), "waiting for Kafka: ") && strings.Contains(err.Error(), "refused") {
			break
		}
		select {
		case <-deadline:
			t.Fatalf("it says: %v", err)
		case <-time.After(10 * time.Millisecond):
		}
	}
	w.stop(t)
}

func TestATopicOfAnotherShapeEndsIt(t *testing.T) {
	k := kafkatest.Start(t, 2)
	k.Partitions = 3
	w := start(t, testConfig(t.TempDir()), k, nil)
	w.wait(t)
	if !errors.Is(w.err, kafka.ErrTopicShape) || !strings.Contains(w.err.Error(), "kafka.partitions") {
		t.Errorf("Run: %v", w.err)
	}
}
