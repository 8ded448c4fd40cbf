package httpreceiver

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"mime"
	"strings"

	"github.com/tocsin-io/tocsin/pkg/frame"
	"github.com/tocsin-io/tocsin/services/ingest-gateway/internal/intake"
	"github.com/tocsin-io/tocsin/services/ingest-gateway/internal/jsonframe"
	"github.com/tocsin-io/tocsin/services/ingest-gateway/internal/payload"
)

// form is how frames lie in a body.
type form int

const (
	single    form = iota // one protobuf SensorFrame
	delimited             // protobuf, each behind its length as a varint
	jsonAny               // JSON: one, several behind each other, or an array
	jsonLines             // JSON: one on each line
)

const acceptPost = "application/x-protobuf, application/x-protobuf; delimited=true, application/json, application/x-ndjson"

// formOf reads a Content-Type.
func formOf(contentType string) (form, error) {
	t, params, err := mime.ParseMediaType(contentType)
	if err != nil {
		return 0, fmt.Errorf("Content-Type %q cannot be read; known are %s", contentType, acceptPost)
	}
	switch t {
	case "application/x-protobuf", "application/protobuf", "application/vnd.google.protobuf":
		if strings.EqualFold(params["delimited"], "true") || strings.EqualFold(params["encoding"], "delimited") {
			return delimited, nil
		}
		return single, nil
	case "application/json":
		return jsonAny, nil
	case "application/x-ndjson", "application/jsonl", "application/jsonlines":
		return jsonLines, nil
	}
	return 0, fmt.Errorf("Content-Type %q is not known; known are %s", t, acceptPost)
}

// source gives the frames of a body. next returns the bytes of a frame, or why this one frame is refused (and what it was), or the
// error that ends the body (io.EOF: all was read).
type source interface {
	next() (raw []byte, refused *intake.Outcome, err error)
	bulk() bool // right after the end: the body was not simply one frame
}

func isEOF(err error) bool { return err == io.EOF } //nolint:errorlint // a wrapped EOF is not the end of the body

func sourceOf(f form, body io.Reader, maxFrame, maxValues int) source {
	switch f {
	case delimited:
		return delimitedSource{payload.NewDelimited(body, maxFrame)}
	case jsonAny:
		r := jsonframe.NewReader(body, maxFrame)
		return &jsonSource{read: r.Next, many: r.Bulk, maxValues: maxValues}
	case jsonLines:
		r := jsonframe.NewLines(body, maxFrame)
		return &jsonSource{read: r.Next, many: func() bool { return true }, maxValues: maxValues}
	default:
		return &singleSource{body: body}
	}
}

type singleSource struct {
	body io.Reader
	done bool
}

func (s *singleSource) bulk() bool { return false }

func (s *singleSource) next() ([]byte, *intake.Outcome, error) {
	if s.done {
		return nil, nil, io.EOF
	}
	s.done = true
	var b bytes.Buffer
	if _, err := b.ReadFrom(s.body); err != nil {
		return nil, nil, err
	}
	return b.Bytes(), nil, nil
}

type delimitedSource struct{ r *payload.Delimited }

func (delimitedSource) bulk() bool { return true }

func (s delimitedSource) next() ([]byte, *intake.Outcome, error) {
	raw, err := s.r.Next()
	var large *payload.FrameTooLargeError
	if errors.As(err, &large) {
		return nil, &intake.Outcome{Cause: intake.TooLarge, Field: "frame", Reason: large.Error()}, nil
	}
	return raw, nil, err
}

type jsonSource struct {
	read      func() ([]byte, error)
	many      func() bool
	maxValues int
	f         frame.Frame
}

func (s *jsonSource) bulk() bool { return s.many() }

func (s *jsonSource) next() ([]byte, *intake.Outcome, error) {
	src, err := s.read()
	var long *jsonframe.TooLongError
	if errors.As(err, &long) {
		return nil, &intake.Outcome{Cause: intake.TooLarge, Field: "frame", Reason: long.Error()}, nil
	}
	if err != nil {
		return nil, nil, err
	}
	if err := jsonframe.Decode(src, &s.f, s.maxValues); err != nil {
		return src, intake.Refusal(&s.f, err), nil
	}
	return s.f.AppendTo(nil), nil, nil
}
