package stack

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
)

// The documented ports. Port names are component names, with a suffix when a component has several.
var documented = []struct { //nolint:gochecknoglobals // a constant table
	name string
	port int
}{
	{"kafka-1", 9092},
	{"kafka-1-controller", 9093},
	{"kafka-2", 9102},
	{"kafka-2-controller", 9103},
	{"kafka-3", 9112},
	{"kafka-3-controller", 9113},
	{"victoria-metrics", 8428},
	{"vmalert", 8880},
	{"s3", 7070},
	{"postgres", 15432},
	{"realtime-api", 8080},
	{"realtime-api-grpc", 9080},
	{"ingest-gateway", 8081},
	{"ingest-gateway-grpc", 9081},
	{"stream-processor", 8082},
	{"alert-router", 8083},
	{"cold-path-writer", 8084},
	{"historical-api", 8086},
	{"model-trainer", 8087},
	{"tuning-bench", 8088},
	{icebergCommitter, 8089},
}

// Auto ports lie below the kernel's default ephemeral range (32768 up), so no outgoing connection takes one between
// the choice and the start.
const autoLow, autoHigh = 15000, 32000

func choosePorts(offset int) (map[string]int, error) {
	ports := make(map[string]int, len(documented))
	taken := map[int]bool{}
	for _, d := range documented {
		if offset != AutoPorts {
			ports[d.name] = d.port + offset
			continue
		}
		p, err := freePort(taken)
		if err != nil {
			return nil, err
		}
		taken[p] = true
		ports[d.name] = p
	}
	return ports, nil
}

func freePort(taken map[int]bool) (int, error) {
	for range 200 {
		p := autoLow + rand.IntN(autoHigh-autoLow)
		if !taken[p] && portFree(p) == nil {
			return p, nil
		}
	}
	return 0, fmt.Errorf("stack: no free port found between %d and %d", autoLow, autoHigh)
}

func portFree(port int) error {
	ln, err := net.Listen("tcp", loopback(port))
	if err != nil {
		return err
	}
	return ln.Close()
}

func loopback(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
