package coldpathwriter

import (
	"testing"

	"github.com/tocsin-io/tocsin/pkg/kafka/kafkatest"
)

func TestReadingsReachTheLakeOnce(t *testing.T) {
	k := kafkatest.Start(t, 2)
	src, dir := newSource(t, k), t.TempDir()
	w := start(t, testConfig(dir), k, nil)
	src.readings(0, 40)
	src.readings(1, 40)
	awaitExact(t, dir, 80)
	eventually(t, "ready", func() bool { return w.Ready() == nil })
	w.stop(t)
}
