package ingestgateway_test

import (
	"errors"

	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	encproto "google.golang.org/grpc/encoding/proto"
	"google.golang.org/grpc/mem"
)

// rawBytes is a request that the generated code would refuse to send.
type rawBytes []byte

type rawCodec struct{ encoding.CodecV2 }

func (c rawCodec) Marshal(v any) (mem.BufferSlice, error) {
	if b, ok := v.(rawBytes); ok {
		return mem.BufferSlice{mem.SliceBuffer(b)}, nil
	}
	return nil, errors.New("only raw bytes are sent here")
}

var forceRaw = grpc.ForceCodecV2(rawCodec{encoding.GetCodecV2(encproto.Name)})
