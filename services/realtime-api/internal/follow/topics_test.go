package follow

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/pkg/kafka"
	"github.com/tocsin-io/tocsin/pkg/kafka/kafkatest"

	"github.com/tocsin-io/tocsin/services/realtime-api/internal/hub"
)

func TestWaitsForKafkaAndSaysWhy(t *testing.T) {
	k := kafka.DefaultConfig()
	k.Brokers = []string{"127.0.0.1:1"}
	r := follow(t, k, time.Hour)
	eventually(t, "the reason", func() bool {
		err := r.f.Ready()
		return err != nil && strings.Contains(err.Error(), "waiting for Kafka: ") && strings.Contains(err.Error(), "refused")
	})
}

func TestATopicOfAnotherShapeEndsIt(t *testing.T) {
	k := kafkatest.Start(t, 2)
	k.Partitions = 3
	set := metrics.NewSet()
	f := New(Config{Kafka: k}, hub.New(hub.DefaultLimits()), NewFlow(set), zap.NewNop(), set)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := f.Run(ctx); !errors.Is(err, kafka.ErrTopicShape) || !strings.Contains(err.Error(), "kafka.partitions") {
		t.Errorf("Run: %v", err)
	}
}
