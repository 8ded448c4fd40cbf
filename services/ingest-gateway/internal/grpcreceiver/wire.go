package grpcreceiver

import (
	"errors"
	"fmt"

	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/gzip" // clients may compress
	encproto "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
)

// rawMessage is a request as it came. The frames in it go to Kafka byte for byte: decoding them with the generated code and
// encoding them again would cost ten times what all the rest does.
type rawMessage struct{ b []byte }

// codec gives rawMessages their bytes and leaves every other message (answers, health, reflection) to protobuf's.
type codec struct{ encoding.CodecV2 }

func newCodec() codec { return codec{encoding.GetCodecV2(encproto.Name)} }

func (c codec) Unmarshal(data mem.BufferSlice, v any) error {
	if m, ok := v.(*rawMessage); ok {
		m.b = data.Materialize() // a copy of our own: Kafka's client holds it after the stream's buffer is used again
		return nil
	}
	if err := c.CodecV2.Unmarshal(data, v); err != nil {
		return fmt.Errorf("decode: %w", err)
	}
	return nil
}

var errMalformed = errors.New("not a protobuf request")

// messages gives the values of the embedded message field num of a request, which alias b. Other fields are skipped.
func messages(b []byte, num protowire.Number, most int) ([][]byte, error) {
	var out [][]byte
	for len(b) > 0 {
		n, typ, size := protowire.ConsumeTag(b)
		if size < 0 || n > protowire.MaxValidNumber {
			return nil, errMalformed
		}
		b = b[size:]
		if n == num && typ == protowire.BytesType {
			v, size := protowire.ConsumeBytes(b)
			if size < 0 {
				return nil, errMalformed
			}
			if len(out) == most {
				return nil, fmt.Errorf("more than %d frames in one request", most)
			}
			out = append(out, v[:len(v):len(v)])
			b = b[size:]
			continue
		}
		size = protowire.ConsumeFieldValue(n, typ, b)
		if size < 0 {
			return nil, errMalformed
		}
		b = b[size:]
	}
	return out, nil
}

// frameField is the number of the frame in PublishStreamRequest and of the frames in PublishRequest.
const frameField protowire.Number = 1

// streamFrame gives the frame of a PublishStreamRequest. If the field stands there more than once its values are joined:
// by protobuf's rules that is one message merged from all.
func streamFrame(b []byte) ([]byte, error) {
	// The usual request is one field and nothing else.
	if n, typ, size := protowire.ConsumeTag(b); size > 0 && n == frameField && typ == protowire.BytesType {
		if v, vsize := protowire.ConsumeBytes(b[size:]); vsize == len(b)-size {
			return v, nil
		}
	}
	parts, err := messages(b, frameField, len(b))
	if err != nil {
		return nil, err
	}
	var frame []byte
	for _, p := range parts {
		frame = append(frame, p...)
	}
	return frame, nil
}
