package machine

import (
	"sort"
	"unsafe"

	"github.com/tocsin-io/tocsin/services/stream-processor/internal/calibrate"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/detect"
	"github.com/tocsin-io/tocsin/services/stream-processor/internal/window"
)

// specs are the detectors of a machine, in the configuration's order, and the stand-in where one is needed.
func (c *Config) specs() []*detect.Spec {
	list := c.Detect.Specs()
	if c.needsStandIn() {
		list = append(list, (&detect.Config{Detectors: []string{detect.Fallback}}).Specs()...)
	}
	if c.faulty != nil {
		for i := range list {
			broken := c.faulty(*list[i])
			list[i] = &broken
		}
	}
	return list
}

// needsStandIn tells whether the configuration names models only: then a statistic learns beside them, and counts while one of them does not.
func (c *Config) needsStandIn() bool {
	models := false
	for _, name := range c.Detect.Detectors {
		if name != limitsName && detect.Statistical(name) {
			return false
		}
		models = models || name != limitsName
	}
	return models
}

// bytesOf is about how much memory a machine of n sensors holds for them.
func (c *Config) bytesOf(n int) int {
	sum := n * (int(unsafe.Sizeof(sensor{})) + 32 + (c.KeptWindows+2)*(window.AccumSize+int(unsafe.Sizeof(window.Mark{}))))
	if n >= c.Detect.Wide.From {
		return sum + c.Detect.Bytes(detect.WideName, n)
	}
	for _, name := range c.Detect.Detectors {
		if b := c.Detect.Bytes(name, n); name == limitsName || b <= c.Breaker.MaxBytes { // else it is refused
			sum += b + n*(calibrate.TailSize+c.KeptWindows+2)
		}
	}
	return sum
}

// sensorCap is the number of sensors that a machine may have.
func (c *Config) sensorCap() int {
	if c.bytesOf(c.MaxSensors) <= c.Breaker.MachineMax {
		return c.MaxSensors
	}
	return sort.Search(c.MaxSensors, func(n int) bool { return c.bytesOf(n+1) > c.Breaker.MachineMax })
}
