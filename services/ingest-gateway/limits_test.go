package ingestgateway_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	_ "google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/status"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"
	ingestv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/ingest/v1"
	ingestgateway "github.com/tocsin-io/tocsin/services/ingest-gateway"
)

func gzipped(t testing.TB, b []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	if _, err := z.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func zstded(t testing.TB, b []byte) []byte {
	t.Helper()
	z, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	return z.EncodeAll(b, nil)
}

func TestContentCodings(t *testing.T) {
	g := start(t, nil)
	sequence := uint64(0)
	for _, c := range []struct {
		coding string
		encode func(testing.TB, []byte) []byte
		status int
	}{
		{"gzip", gzipped, 200},
		{"GZIP", gzipped, 200},
		{" Gzip ", gzipped, 200},
		{"x-gzip", gzipped, 200},
		{"zstd", zstded, 200},
		{"ZStd", zstded, 200},
		{"identity", func(_ testing.TB, b []byte) []byte { return b }, 200},
		{"br", gzipped, 415},
		{"gzip, gzip", gzipped, 415},
		{"gzip", zstded, 400},
		{"zstd", gzipped, 400},
		{"gzip", func(t testing.TB, b []byte) []byte { return gzipped(t, b)[:30] }, 400},
		{"gzip", func(t testing.TB, b []byte) []byte { z := gzipped(t, b); z[len(z)-5] ^= 1; return z }, 400},
		{"zstd", func(t testing.TB, b []byte) []byte { return zstded(t, b)[:20] }, 400},
	} {
		sequence++
		a := g.post("/v1/frames", protobufType, c.encode(t, encode(t, goodFrame(sequence))), "Content-Encoding", c.coding)
		if a.status != c.status {
			t.Errorf("%q: %d, want %d: %s", c.coding, a.status, c.status, a.body)
		}
		if a.status != 200 {
			a.problem(t)
		}
		if a.status == 415 && a.header.Get("Accept-Encoding") == "" {
			t.Error("415 does not say which codings are known")
		}
		sequence++
		row := `{"equipment_id":"press-1","gateway_id":"gw-1","sequence":77,"time_us":1,"values":{"a":1}}`
		if a := g.post("/v1/frames", jsonType, c.encode(t, []byte(row)), "Content-Encoding", c.coding); a.status != c.status {
			t.Errorf("JSON %q: %d, want %d: %s", c.coding, a.status, c.status, a.body)
		}
	}
}

func TestContentTypes(t *testing.T) {
	g := start(t, nil)
	for _, ct := range []string{"", "text/plain", "application/xml", "application/x-www-form-urlencoded", ";;"} {
		if a := g.post("/v1/frames", ct, encode(t, goodFrame(1))); a.status != http.StatusUnsupportedMediaType || a.header.Get("Accept-Post") == "" {
			t.Errorf("%q: %d %v", ct, a.status, a.header)
		}
	}
	for method, want := range map[string]int{http.MethodGet: 405, http.MethodPut: 405} {
		req, err := http.NewRequest(method, "http://"+g.svc.HTTPAddr()+"/v1/frames", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := g.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: %d", method, resp.StatusCode)
		}
	}
	for _, ct := range []string{delimitedType, jsonType, ndjsonType} {
		if a := g.post("/v1/frames", ct, nil); a.status != http.StatusBadRequest {
			t.Errorf("empty body as %s: %d", ct, a.status)
		}
	}
}

// A few kilobytes that become 640 MiB must cost neither memory nor an acknowledgement.
func TestDecompressionBombs(t *testing.T) {
	g := start(t, func(c *ingestgateway.Config) {
		c.Requests.MaxEncodedBulkBytes, c.Requests.MaxDecodedBulkBytes = 4<<20, 9<<20
	})
	// Both formats may be concatenated: 40 times 16 MiB.
	zeros := make([]byte, 16<<20)
	bombs := map[string][]byte{
		"gzip": bytes.Repeat(gzipped(t, zeros), 40),
		"zstd": bytes.Repeat(zstded(t, zeros), 40),
	}
	peak := watchMemory(t)
	for _, ct := range []string{protobufType, delimitedType, jsonType, ndjsonType} {
		for coding, body := range bombs {
			a := g.post("/v1/frames", ct, body, "Content-Encoding", coding)
			if a.status != http.StatusRequestEntityTooLarge && !(ct == jsonType && a.status == http.StatusBadRequest) {
				t.Errorf("%s in %s: %d %.200s", ct, coding, a.status, a.body)
			}
			a.problem(t)
		}
	}
	if mb := peak() >> 20; mb > 256 {
		t.Fatalf("heap reached %d MiB", mb)
	}
	// The encoded cap holds as well, announced or not.
	big := make([]byte, 2<<20)
	if a := g.post("/v1/frames", protobufType, big); a.status != http.StatusRequestEntityTooLarge {
		t.Fatalf("%d", a.status)
	}
	a, err := g.tryPost("/v1/frames", protobufType, struct{ io.Reader }{bytes.NewReader(big)}) // chunked
	if err == nil && a.status != http.StatusRequestEntityTooLarge {
		t.Fatalf("%d", a.status)
	}
}

// watchMemory samples the heap until the function returned is called, which gives the most that was seen.
func watchMemory(t *testing.T) func() uint64 {
	stop, peak := make(chan struct{}), make(chan uint64)
	go func() {
		var most uint64
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				most = max(most, m.HeapInuse)
			case <-stop:
				peak <- most
				return
			}
		}
	}()
	return func() uint64 { close(stop); return <-peak }
}

func TestBulkThatBreaksOff(t *testing.T) {
	g := start(t, func(c *ingestgateway.Config) { c.Requests.MaxBulkFrames = 5; c.Frames.MaxFrameBytes = 4096 })
	good := delimited(encode(t, goodFrame(1)), encode(t, goodFrame(2)))
	seven := delimited(frameBytes(t, 11, 17)...)
	for _, c := range []struct {
		name        string
		contentType string
		body        []byte
		status      int
		results     int
	}{
		{"cut inside of a frame", delimitedType, append(good[:len(good):len(good)], good[:20]...), 400, 2},
		{"cut inside of a length", delimitedType, append(good[:len(good):len(good)], 0x80), 400, 2},
		{"a length of 2^64", delimitedType, append(good[:len(good):len(good)], bytes.Repeat([]byte{0xff}, 12)...), 400, 2},
		{"a length of a gigabyte", delimitedType, append(good[:len(good):len(good)], 0x80, 0x80, 0x80, 0x80, 0x04), 400, 2},
		{"too many frames", delimitedType, seven, 413, 5},
		{"an array that does not end", jsonType, []byte(`[{"sequence":1}`), 400, 1},
		{"rubbish after an array", jsonType, []byte(`[{"sequence":1}] x`), 400, 1},
		{"an array without a comma", jsonType, []byte(`[{"sequence":1}{}]`), 400, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := g.post("/v1/frames", c.contentType, c.body)
			if a.status != c.status {
				t.Fatalf("%d, want %d: %s", a.status, c.status, a.body)
			}
			if rs := a.problem(t).Results; len(rs) != c.results {
				t.Fatalf("%d results, want %d: %s", len(rs), c.results, a.body)
			}
		})
	}
	// A frame that is too large is passed over, not the ones around it.
	large := bytes.Repeat([]byte{0}, 5000)
	rs := g.post("/v1/frames", delimitedType, delimited(encode(t, goodFrame(31)), large, encode(t, goodFrame(32)))).results(t)
	if len(rs) != 3 || rs[0].Field != "" || rs[1].Status != "FRAME_STATUS_INVALID" || rs[2].Status != "FRAME_STATUS_ACKNOWLEDGED" {
		t.Fatalf("%+v", rs)
	}
	row := `{"equipment_id":"press-1","gateway_id":"gw-1","sequence":41,"time_us":1,"values":{"a":1}}`
	for ct, body := range map[string]string{
		ndjsonType: row + "\n" + strings.Repeat("x", 5000) + "\n" + row,
		jsonType:   "[" + row + ",{\"a\":\"" + strings.Repeat("]", 5000) + "\"}," + row + "]",
	} {
		if rs := g.post("/v1/frames", ct, []byte(body)).results(t); len(rs) != 3 || rs[1].Field != "frame" || rs[2].Status != "FRAME_STATUS_ACKNOWLEDGED" {
			t.Fatalf("%s: %+v", ct, rs)
		}
	}
}

func frameBytes(t *testing.T, from, to uint64) (out [][]byte) {
	for s := from; s <= to; s++ {
		out = append(out, encode(t, goodFrame(s)))
	}
	return out
}

func TestSlowClientsAreCutOff(t *testing.T) {
	g := start(t, func(c *ingestgateway.Config) {
		c.HTTP.ReadHeaderTimeout, c.Requests.BodyTimeout, c.Requests.MaxRequests = 200*time.Millisecond, 200*time.Millisecond, 2
		c.GRPC.HandshakeTimeout = 200 * time.Millisecond
	})
	for name, c := range map[string]struct{ addr, text, want string }{
		"headers":        {g.svc.HTTPAddr(), "POST /v1/frames HTTP/1.1\r\nHost: x\r\n", ""},
		"body":           {g.svc.HTTPAddr(), "POST /v1/frames HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\nContent-Length: 100\r\n\r\nabc", "408"},
		"body of a bulk": {g.svc.HTTPAddr(), "POST /v1/frames HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n[", "408"},
		"gRPC handshake": {g.svc.GRPCAddr(), "PRI * HTTP/2.0\r\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			conn, err := net.Dial("tcp", c.addr)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := io.WriteString(conn, c.text); err != nil {
				t.Fatal(err)
			}
			if err := conn.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
				t.Fatal(err)
			}
			got, err := io.ReadAll(conn) // ends when the server hangs up
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Fatal("still connected after 10 s")
			}
			if !strings.Contains(string(got), c.want) {
				t.Fatalf("%q", got)
			}
		})
	}
	// Those who wait for their body take places; further requests are told so at once, and get in afterwards.
	var conns []net.Conn
	for range 2 {
		conn, err := net.Dial("tcp", g.svc.HTTPAddr())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		conns = append(conns, conn)
	}
	stop := make(chan struct{})
	done := make(chan struct{})
	var full atomic.Bool
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
			}
			a, err := g.tryPost("/v1/frames", protobufType, bytes.NewReader(nil))
			if err == nil && a.status == http.StatusServiceUnavailable && a.header.Get("Retry-After") != "" {
				full.Store(true)
			}
		}
	}()
	for _, conn := range conns {
		if _, err := io.WriteString(conn, "POST /v1/frames HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-protobuf\r\nContent-Length: 100\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, 5*time.Second, func() error {
		if !full.Load() {
			return io.ErrNoProgress
		}
		return nil
	})
	close(stop)
	<-done
	eventually(t, 5*time.Second, func() error {
		a, err := g.tryPost("/v1/frames", protobufType, bytes.NewReader(encode(t, goodFrame(1))))
		if err != nil || a.status != 200 {
			return io.ErrNoProgress
		}
		return nil
	})
}

// Who sends and does not read must not keep a place.
func TestClientThatDoesNotReadIsCutOff(t *testing.T) {
	g := start(t, func(c *ingestgateway.Config) {
		c.Requests.BodyTimeout, c.Requests.MaxRequests, c.Requests.MaxBulkFrames = 4*time.Second, 1, 100_000
		c.HTTP.ReadHeaderTimeout = 30 * time.Second
	})
	bad := encode(t, &eventv1.SensorFrame{EquipmentId: strings.Repeat("x", 128), GatewayId: strings.Repeat("y", 128)})
	body := bytes.Repeat(delimited(bad), 40_000) // some 15 MB of answer: more than the sockets hold
	conn, err := net.Dial("tcp", g.svc.HTTPAddr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := fmt.Fprintf(conn, "POST /v1/frames HTTP/1.1\r\nHost: x\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n", delimitedType, len(body)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write(body); err != nil {
		t.Fatal(err)
	}
	eventually(t, 40*time.Second, func() error { // 503 until the place is free
		if a := g.post("/v1/frames", protobufType, encode(t, goodFrame(1))); a.status != 200 {
			return fmt.Errorf("%d", a.status)
		}
		return nil
	})
}

func TestGRPCMessageTooLarge(t *testing.T) {
	g := start(t, func(c *ingestgateway.Config) { c.Frames.MaxFrameBytes = 4096; c.GRPC.MaxPublishFrames = 3 })
	f := goodFrame(1)
	f.Sensors[0] = strings.Repeat("x", 10_000)
	_, err := g.rpc.Publish(within(t, 10*time.Second), &ingestv1.PublishRequest{Frames: append(frames(2), f)})
	if status.Code(err) != codes.ResourceExhausted {
		t.Fatal(err)
	}
	// Compressed or not: what counts is what it becomes.
	f.Sensors[0] = strings.Repeat("x", 1<<20)
	_, err = g.rpc.Publish(within(t, 10*time.Second), &ingestv1.PublishRequest{Frames: append(frames(2), f)}, grpc.UseCompressor("gzip"))
	if status.Code(err) != codes.ResourceExhausted {
		t.Fatal(err)
	}
	if resp, err := g.rpc.Publish(within(t, 10*time.Second), &ingestv1.PublishRequest{Frames: frames(50)}, grpc.UseCompressor("gzip")); err != nil || resp.Results[0].Status != ingestv1.FrameStatus_FRAME_STATUS_ACKNOWLEDGED {
		t.Fatalf("%v %v", resp, err)
	}
	f.Sensors[0] = strings.Repeat("x", 10_000)
	many := append(append(frames(1), frames(2)...), append(frames(3), frames(4)...)...)
	_, err = g.rpc.Publish(within(t, 10*time.Second), &ingestv1.PublishRequest{Frames: many})
	if status.Code(err) != codes.InvalidArgument || len(status.Convert(err).Details()) == 0 {
		t.Fatal(err)
	}
	// In a stream a frame that is somewhat too large is refused by itself.
	stream, err := g.rpc.PublishStream(within(t, 10*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	large := goodFrame(12)
	large.Sensors[0] = strings.Repeat("x", 5_000)
	for i, frame := range []*eventv1.SensorFrame{goodFrame(11), large, goodFrame(13), f} {
		if err := stream.Send(&ingestv1.PublishStreamRequest{Frame: frame}); err != nil {
			t.Fatal(err)
		}
		resp, err := stream.Recv()
		if i == 3 { // one far too large ends the stream
			if status.Code(err) != codes.ResourceExhausted {
				t.Fatal(err)
			}
			break
		}
		if err != nil || (resp.Result.Status == ingestv1.FrameStatus_FRAME_STATUS_ACKNOWLEDGED) != (i != 1) {
			t.Fatalf("%d: %v %v", i, resp, err)
		}
	}
	var req []byte
	var resp ingestv1.PublishResponse
	req = []byte{0x0a, 0x05, 1}
	err = g.conn.Invoke(within(t, 10*time.Second), ingestv1.IngestService_Publish_FullMethodName, rawBytes(req), &resp, forceRaw)
	if status.Code(err) != codes.InvalidArgument {
		t.Fatal(err)
	}
}
