package coldpathwriter

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/tocsin-io/tocsin/pkg/kafka/kafkatest"
	"github.com/tocsin-io/tocsin/pkg/launch"
	"github.com/tocsin-io/tocsin/pkg/service"
)

const (
	envBrokers = "COLD_PATH_WRITER_TEST_BROKERS"
	envLake    = "COLD_PATH_WRITER_TEST_LAKE"
)

// writerProcess is what this test binary is when it runs as a process to be killed.
func writerProcess() int {
	deps := service.Nop()
	deps.Log = zap.Must(zap.NewDevelopment())
	deps.Kafka = launch.DefaultProcess().Kafka
	deps.Kafka.Brokers = strings.Split(os.Getenv(envBrokers), ",")
	deps.Kafka.Partitions = 3
	s, err := New(testConfig(os.Getenv(envLake)), deps)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	if err := s.Run(context.Background()); err != nil {
		fmt.Println(err)
		return 1
	}
	return 0
}

// kill -9 at random moments, while records flow: every row once, every file whole.
func TestKill9(t *testing.T) {
	const kills = 15
	k := kafkatest.Start(t, 3)
	src, dir := newSource(t, k), t.TempDir()
	n := 0
	for range kills {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), envBrokers+"="+strings.Join(k.Brokers, ","), envLake+"="+dir)
		var out strings.Builder
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		before := len(files(t, dir, "readings"))
		for p := range int32(3) {
			src.readings(p, 16)
			n += 16
		}
		eventually(t, "files", func() bool { return len(files(t, dir, "readings")) > before+rand.N(8) })
		<-time.After(time.Duration(rand.N(20)) * time.Millisecond) // any moment will do: nothing is waited for
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		if strings.Contains(out.String(), "differ") {
			t.Fatal(out.String())
		}
	}
	start(t, testConfig(dir), k, nil)
	awaitExact(t, dir, n)
	clean(t, dir)
}
