package httpreceiver

import (
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/tocsin-io/tocsin/pkg/frame"
	"github.com/tocsin-io/tocsin/services/ingest-gateway/internal/intake"
	"github.com/tocsin-io/tocsin/services/ingest-gateway/internal/payload"
)

// FuzzBody feeds any bytes through what an HTTP body goes through before admission: content coding, splitting, JSON.
// Nothing may panic or hang, limits hold, and every refusal has a reason.
func FuzzBody(f *testing.F) {
	good := frame.New("press-1", "gw-1", 1, timeZero, []string{"a", "b"}, []float32{1, 2}).AppendTo(nil)
	row := []byte(`{"equipment_id":"a","gateway_id":"g","sequence":1,"time_us":1,"values":{"a":1}}`)
	bulk := append(append([]byte{byte(len(good))}, good...), 3, 1, 2, 3)
	array := append(append([]byte("[ "), row...), " , {}, 7, \"x\"]"...)
	for _, body := range [][]byte{nil, good, bulk, row, array, []byte("{\n}\n[1]\n"), {0xff, 0xff}} {
		var gz bytes.Buffer
		z := gzip.NewWriter(&gz)
		_, _ = z.Write(body)
		_ = z.Close()
		enc, err := zstd.NewWriter(nil)
		if err != nil {
			f.Fatal(err)
		}
		for form := range byte(4) {
			f.Add(body, form, byte(0))
			f.Add(gz.Bytes(), form, byte(1))
			f.Add(enc.EncodeAll(body, nil), form, byte(2))
		}
		_ = enc.Close()
	}
	f.Fuzz(func(t *testing.T, body []byte, kind, coding byte) {
		const maxDecoded, maxFrame, maxValues = 64 << 10, 4 << 10, 100
		r, err := payload.Open(bytes.NewReader(body), []string{"", "gzip", "zstd"}[coding%3], 32<<10, maxDecoded)
		if err != nil {
			return
		}
		defer r.Close()
		count := &counter{r: r}
		src := sourceOf(form(kind%4), count, maxFrame, maxValues)
		for range maxDecoded + 2 {
			raw, refused, err := src.next()
			if err != nil {
				if raw != nil || refused != nil {
					t.Fatal("an answer beside the end")
				}
				if count.n > maxDecoded {
					t.Fatalf("%d bytes came out", count.n)
				}
				if errors.Is(err, io.EOF) {
					_ = src.bulk()
				}
				return
			}
			if refused != nil && (refused.Reason == "" || refused.Field == "" || refused.Cause == intake.Taken || len(refused.Reason) > 600) {
				t.Fatalf("%+v", refused)
			}
			if refused == nil && form(kind%4) != single && len(raw) > 16*maxFrame {
				t.Fatalf("a frame of %d bytes", len(raw))
			}
		}
		t.Fatal("more frames than bytes")
	})
}

type counter struct {
	r io.Reader
	n int
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += n
	return n, err
}
