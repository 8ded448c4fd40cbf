package ingestgateway_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/tocsin-io/tocsin/pkg/kafka"
	"github.com/tocsin-io/tocsin/pkg/kafka/kafkatest"
	"github.com/tocsin-io/tocsin/pkg/service"
	ingestgateway "github.com/tocsin-io/tocsin/services/ingest-gateway"
)

func TestATopicOfAnotherShapeEndsIt(t *testing.T) {
	deps := service.Nop()
	deps.Kafka = kafkatest.Start(t, 2)
	deps.Kafka.Partitions = 3
	cfg := ingestgateway.DefaultConfig()
	cfg.HTTP.Listen, cfg.GRPC.Listen = "127.0.0.1:0", "127.0.0.1:0"
	svc, err := ingestgateway.New(cfg, deps)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	if err := svc.Run(ctx); !errors.Is(err, kafka.ErrTopicShape) || !strings.Contains(err.Error(), "kafka.partitions") {
		t.Errorf("Run: %v", err)
	}
}
