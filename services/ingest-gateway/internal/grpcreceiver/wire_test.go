package grpcreceiver

import (
	"bytes"
	"testing"

	"google.golang.org/protobuf/proto"

	ingestv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/ingest/v1"
)

// FuzzRequests holds the splitting of requests against the generated code: whatever that accepts we split into frames that say the same,
// and what we accept and it refuses can only be wrong inside of a frame.
func FuzzRequests(f *testing.F) {
	for _, b := range [][]byte{
		nil, {0x0a, 0}, {0x0a, 2, 0x18, 7}, {0x0a, 2, 0x18, 7, 0x0a, 2, 0x18, 8}, {0x12, 1, 1, 0x0a, 2, 0x18, 7}, {0x0a, 9}, {0x08, 1}, {0x0b, 0x0c},
	} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var want ingestv1.PublishRequest
		wantErr := proto.Unmarshal(b, &want)
		got, err := messages(b, frameField, 1000)
		if err != nil {
			if wantErr == nil && len(want.Frames) <= 1000 {
				t.Fatalf("refused what is a request: %v", err)
			}
			return
		}
		inner := false
		for i, raw := range got {
			m := &ingestv1.PublishRequest{}
			one := append([]byte{0x0a}, lengthOf(raw)...)
			if proto.Unmarshal(append(one, raw...), m) != nil {
				inner = true
				continue
			}
			if wantErr == nil && !equal(t, m.Frames[0], want.Frames[i]) {
				t.Fatalf("frame %d differs", i)
			}
		}
		if wantErr != nil && !inner {
			t.Fatalf("accepted what the generated code refuses: %v", wantErr)
		}

		var stream ingestv1.PublishStreamRequest
		streamErr := proto.Unmarshal(b, &stream)
		raw, err := streamFrame(b)
		if (err != nil) != (streamErr != nil) && err != nil {
			t.Fatalf("stream: %v, want %v", err, streamErr)
		}
		if streamErr == nil {
			m := stream.GetFrame()
			again := &ingestv1.PublishStreamRequest{}
			one := append([]byte{0x0a}, lengthOf(raw)...)
			if err := proto.Unmarshal(append(one, raw...), again); err != nil {
				t.Fatal(err)
			}
			if m != nil && !equal(t, m, again.Frame) {
				t.Fatal("stream frame differs")
			}
		}
	})
}

func equal(t *testing.T, a, b proto.Message) bool {
	t.Helper()
	x, err := proto.MarshalOptions{Deterministic: true}.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	y, err := proto.MarshalOptions{Deterministic: true}.Marshal(b)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Equal(x, y)
}

func lengthOf(b []byte) []byte {
	n := uint64(len(b))
	var out []byte
	for n >= 0x80 {
		out = append(out, byte(n)|0x80)
		n >>= 7
	}
	return append(out, byte(n))
}
