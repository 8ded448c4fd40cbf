package alertrouter

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
	r := start(t, k, configFor(t, t.TempDir()))
	eventually(t, "the reason", func() error {
		if err := r.Ready(); err == nil || !strings.Contains(err.Error(), "waiting for Kafka: ") || !strings.Contains(err.Error(), "refused") {
			return errors.New("it says: " + errText(err))
		}
		return nil
	})
	if err := r.stop(); err != nil {
		t.Errorf("Run: %v", err)
	}
}

func errText(err error) string {
	if err == nil {
		return "ready"
	}
	return err.Error()
}

func TestATopicOfAnotherShapeEndsIt(t *testing.T) {
	k := kafkatest.Start(t, 2)
	k.Partitions = 3
	r := start(t, k, configFor(t, t.TempDir()))
	select {
	case <-r.done:
		if !errors.Is(r.err, kafka.ErrTopicShape) || !strings.Contains(r.err.Error(), "kafka.partitions") {
			t.Errorf("Run: %v", r.err)
		}
	case <-time.After(patience):
		t.Fatal("it waits")
	}
}
