//go:build demo

package realtimeapi

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"testing"

	"github.com/tocsin-io/tocsin/pkg/kafka/kafkatest"
)

// TestDemo serves the page over a made-up fleet until interrupted, for working on the page. DEMO_ADDR and DEMO_MACHINES choose another address and another number:
//
//	go test -tags demo -run TestDemo -timeout 0 .
func TestDemo(t *testing.T) {
	n, err := strconv.Atoi(cmp.Or(os.Getenv("DEMO_MACHINES"), "140"))
	if err != nil {
		t.Fatalf("DEMO_MACHINES: %v", err)
	}
	k := kafkatest.Start(t, 4)
	live := madeUpFleet(newFixture(t, k), n)
	r := startAt(t, k, cmp.Or(os.Getenv("DEMO_ADDR"), "127.0.0.1:8080"), nil)
	fmt.Println("DEMO", r.url)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	live(ctx)
}
