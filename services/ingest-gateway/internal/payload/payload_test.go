package payload_test

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"testing"

	"github.com/klauspost/compress/zstd"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/tocsin-io/tocsin/services/ingest-gateway/internal/payload"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func encode(t *rapid.T, coding string, b []byte) []byte {
	var out bytes.Buffer
	var w io.WriteCloser
	switch coding {
	case "gzip":
		w = gzip.NewWriter(&out)
	case "zstd":
		z, err := zstd.NewWriter(&out, zstd.WithEncoderConcurrency(1))
		if err != nil {
			t.Fatalf("%v", err)
		}
		w = z
	default:
		return b
	}
	if _, err := w.Write(b); err != nil {
		t.Fatalf("%v", err)
	}
	if err := w.Close(); err != nil {
		t.Fatalf("%v", err)
	}
	return out.Bytes()
}

// Whatever the coding, what comes out is what went in when both limits hold, and *TooLargeError when one does not.
func TestOpen(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		coding := rapid.SampledFrom([]string{"", "gzip", "zstd"}).Draw(t, "coding")
		plain := bytes.Repeat(rapid.SliceOfN(rapid.Byte(), 1, 50).Draw(t, "piece"), rapid.IntRange(1, 200).Draw(t, "times"))
		coded := encode(t, coding, plain)
		maxEncoded := int64(len(coded) + rapid.IntRange(-1, 1).Draw(t, "encoded"))
		maxDecoded := int64(len(plain) + rapid.IntRange(-1, 1).Draw(t, "decoded"))
		r, err := payload.Open(bytes.NewReader(coded), coding, maxEncoded, maxDecoded)
		var got []byte
		if err == nil {
			got, err = io.ReadAll(r)
			_ = r.Close()
		}
		var large *payload.TooLargeError
		fits := maxEncoded >= int64(len(coded)) && maxDecoded >= int64(len(plain))
		switch {
		case fits && (err != nil || !bytes.Equal(got, plain)):
			t.Fatalf("%d bytes, %v", len(got), err)
		case !fits && !errors.As(err, &large):
			t.Fatalf("%v, want TooLargeError", err)
		case int64(len(got)) > maxDecoded:
			t.Fatalf("%d bytes came out, the limit is %d", len(got), maxDecoded)
		}
	})
}

func TestZstdWindowIsBounded(t *testing.T) {
	// A frame header that asks for a window of 2 GiB.
	head := []byte{0x28, 0xb5, 0x2f, 0xfd, 0x00, 21 << 3, 0x01, 0, 0}
	r, err := payload.Open(bytes.NewReader(head), "zstd", 1<<20, 1<<20)
	if err == nil {
		_, err = io.ReadAll(r)
		_ = r.Close()
	}
	if err == nil {
		t.Fatal("accepted")
	}
}

// Frames of any size come back one by one; those over the limit are named and passed over.
func TestDelimited(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const most = 40
		var body []byte
		frames := rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 0, 60), 0, 8).Draw(t, "frames")
		for _, f := range frames {
			body = append(binary.AppendUvarint(body, uint64(len(f))), f...)
		}
		cut := len(body)
		if rapid.Bool().Draw(t, "cut") && len(body) > 0 {
			cut = rapid.IntRange(0, len(body)-1).Draw(t, "at")
		}
		d := payload.NewDelimited(bytes.NewReader(body[:cut]), most)
		for i, at := 0, 0; ; i++ {
			f, err := d.Next()
			var large *payload.FrameTooLargeError
			var broken *payload.DelimiterError
			if errors.Is(err, io.EOF) && !errors.As(err, &broken) {
				if at != cut {
					t.Fatalf("end after %d of %d bytes", at, cut)
				}
				return
			}
			if errors.As(err, &broken) {
				if cut == len(body) || at+1+len(frames[i]) <= cut {
					t.Fatalf("frame %d: %v", i, err)
				}
				return
			}
			at += 1 + len(frames[i]) // lengths below 128 take one byte
			switch {
			case len(frames[i]) > most:
				if !errors.As(err, &large) || large.Size != uint64(len(frames[i])) {
					t.Fatalf("frame %d: %v", i, err)
				}
			case err != nil || !slices.Equal(f, frames[i]):
				t.Fatalf("frame %d: %v %v", i, f, err)
			}
		}
	})
}

// A length of a gigabyte with nothing behind it must not cost a gigabyte.
func TestDelimitedTakesMemoryAsBytesCome(t *testing.T) {
	body := binary.AppendUvarint(nil, 1<<30)
	n := testing.AllocsPerRun(1, func() {
		if _, err := payload.NewDelimited(bytes.NewReader(body), 1<<31-1).Next(); err == nil {
			t.Fatal("accepted")
		}
	})
	if n > 10 {
		t.Fatalf("%v allocations", n)
	}
}
