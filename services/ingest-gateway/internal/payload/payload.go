// Package payload undoes what HTTP did to frames: content codings, and the delimiters of a bulk. Everything it
// reads is bounded twice: in bytes as they came and in bytes as they become.
package payload

import (
	"bufio"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// ErrCoding: the Content-Encoding is none that Open knows.
var ErrCoding = errors.New("Content-Encoding must be gzip, zstd or identity")

// TooLargeError tells which of the two limits was passed.
type TooLargeError struct {
	What  string // "encoded" or "decoded"
	Limit int64
}

func (e *TooLargeError) Error() string {
	return fmt.Sprintf("%s body has more than %d bytes", e.What, e.Limit)
}

// CorruptError: the body is not what its Content-Encoding says.
type CorruptError struct{ Err error }

func (e *CorruptError) Error() string { return "body cannot be decoded: " + e.Err.Error() }
func (e *CorruptError) Unwrap() error { return e.Err }

// Open undoes the content coding (any case; "" is identity). The reader fails with *TooLargeError as soon as more
// than maxEncoded bytes came in or more than maxDecoded would go out, with *CorruptError when the coding is broken, and with
// the body's own error when that cannot be read. Close frees the decoder, not the body.
func Open(body io.Reader, coding string, maxEncoded, maxDecoded int64) (io.ReadCloser, error) {
	in := &source{capped: capped{r: body, left: maxEncoded, err: &TooLargeError{"encoded", maxEncoded}}}
	switch strings.ToLower(strings.TrimSpace(coding)) {
	case "", "identity":
		return &decoded{capped: capped{r: in, left: maxDecoded, err: &TooLargeError{"decoded", maxDecoded}}, in: in}, nil
	case "gzip", "x-gzip":
		z, err := gzip.NewReader(in)
		if err != nil {
			return nil, in.explain(err)
		}
		return &decoded{capped: capped{r: z, left: maxDecoded, err: &TooLargeError{"decoded", maxDecoded}}, in: in}, nil
	case "zstd":
		z, err := zstd.NewReader(in,
			zstd.WithDecoderConcurrency(1), // no goroutines behind a request
			zstd.WithDecoderLowmem(true),
			zstd.WithDecoderMaxWindow(8<<20),                            // what RFC 9659 allows for HTTP
			zstd.WithDecoderMaxMemory(max(uint64(maxDecoded), 8<<20)+1)) // our own cap is exact; a window may be larger than a small body
		if err != nil {
			return nil, in.explain(err)
		}
		return &decoded{capped: capped{r: z, left: maxDecoded, err: &TooLargeError{"decoded", maxDecoded}}, in: in, free: z.Close}, nil
	}
	return nil, ErrCoding
}

// capped passes on at most left bytes; it fails only when there is one more.
type capped struct {
	r    io.Reader
	left int64
	err  error
}

func (c *capped) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if int64(len(p)) > c.left+1 {
		p = p[:c.left+1]
	}
	n, err := c.r.Read(p)
	if int64(n) > c.left {
		n = int(c.left)
		c.left = 0
		return n, c.err
	}
	c.left -= int64(n)
	return n, err
}

// source remembers the body's own failure, which decoders wrap or replace.
type source struct {
	capped
	failed error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.capped.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.failed = err
	}
	return n, err
}

func (s *source) explain(err error) error {
	if s.failed != nil {
		return s.failed
	}
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return &CorruptError{err}
}

type decoded struct {
	capped
	in   *source
	free func()
}

func (d *decoded) Read(p []byte) (int, error) {
	n, err := d.capped.Read(p)
	var large *TooLargeError
	switch {
	case err == nil, errors.Is(err, io.EOF), errors.As(err, &large):
		return n, err
	case errors.Is(err, zstd.ErrDecoderSizeExceeded), errors.Is(err, zstd.ErrWindowSizeExceeded):
		return n, d.err
	}
	return n, d.in.explain(err)
}

func (d *decoded) Close() error {
	if d.free != nil {
		d.free()
	}
	return nil
}

// FrameTooLargeError is one frame of a bulk that is larger than allowed. It was passed over: the next one can be read.
type FrameTooLargeError struct {
	Size  uint64
	Limit int
}

func (e *FrameTooLargeError) Error() string {
	return fmt.Sprintf("frame has %d bytes, at most %d are allowed", e.Size, e.Limit)
}

// DelimiterError: the length before a frame is broken, or the body ends inside of a frame. Nothing after it can be read.
type DelimiterError struct{ Err error }

func (e *DelimiterError) Error() string { return "length-delimited body is broken: " + e.Err.Error() }
func (e *DelimiterError) Unwrap() error { return e.Err }

// Delimited reads a bulk: each frame behind its length as a varint.
type Delimited struct {
	r   *bufio.Reader
	max int
}

// NewDelimited reads frames of at most maxFrame bytes from r.
func NewDelimited(r io.Reader, maxFrame int) *Delimited {
	return &Delimited{r: bufio.NewReaderSize(r, 32<<10), max: maxFrame}
}

// Next gives the next frame in memory of its own, io.EOF after the last, or *FrameTooLargeError for one that was
// passed over. Every other error ends the bulk.
func (d *Delimited) Next() ([]byte, error) {
	if _, err := d.r.Peek(1); err != nil {
		return nil, err // EOF exactly between two frames is the end
	}
	size, err := d.length()
	if err != nil {
		return nil, broken(err)
	}
	if size > uint64(d.max) {
		if _, err := io.CopyN(io.Discard, d.r, int64(size)); err != nil {
			return nil, broken(err)
		}
		return nil, &FrameTooLargeError{Size: size, Limit: d.max}
	}
	return d.read(int(size))
}

var errLength = errors.New("a frame's length has more than 63 bits")

func (d *Delimited) length() (uint64, error) {
	var v uint64
	for shift := 0; shift < 63; shift += 7 {
		c, err := d.r.ReadByte()
		if err != nil {
			return 0, err
		}
		v |= uint64(c&0x7f) << shift
		if c < 0x80 {
			return v, nil
		}
	}
	return 0, errLength
}

// read takes memory as bytes come in: a length alone must not cost what it claims.
func (d *Delimited) read(size int) ([]byte, error) {
	const step = 256 << 10
	b := make([]byte, 0, min(size, step))
	for len(b) < size {
		n := min(size-len(b), max(step, len(b)))
		if cap(b)-len(b) < n {
			grown := make([]byte, len(b), len(b)+n)
			copy(grown, b)
			b = grown
		}
		at := len(b)
		b = b[:at+n]
		if _, err := io.ReadFull(d.r, b[at:]); err != nil {
			return nil, broken(err)
		}
	}
	return b, nil
}

// broken tells a bulk that is cut or garbled from a body that could not be read.
func broken(err error) error {
	var large *TooLargeError
	var corrupt *CorruptError
	switch {
	case errors.As(err, &large), errors.As(err, &corrupt):
		return err
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return &DelimiterError{io.ErrUnexpectedEOF}
	case errors.Is(err, errLength):
		return &DelimiterError{err}
	}
	return err
}
