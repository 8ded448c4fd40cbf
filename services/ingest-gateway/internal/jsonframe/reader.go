package jsonframe

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
)

// SyntaxError: from some point on the body cannot be split into values. Nothing after it can be read.
type SyntaxError struct{ Reason string }

func (e *SyntaxError) Error() string { return "body is not valid JSON: " + e.Reason }

// TooLongError is a value or line that is longer than a frame may be. It was passed over.
type TooLongError struct{ Limit int }

func (e *TooLongError) Error() string {
	return fmt.Sprintf("JSON of one frame has more than %d bytes", e.Limit)
}

// Reader splits a JSON body into the values it holds: one object, several behind each other, or an array of them. It only
// matches brackets and quotes, so what is wrong inside of a value is found by Decode, which can name the field, and does not
// harm the values after it.
type Reader struct {
	src    *bufio.Reader
	max    int
	opened bool
	array  bool
	count  int
}

// NewReader reads values of at most maxFrame bytes from r.
func NewReader(r io.Reader, maxFrame int) *Reader {
	return &Reader{src: bufio.NewReaderSize(r, 32<<10), max: maxFrame}
}

// Bulk tells whether the body was not simply one object. Only right after Next has said io.EOF.
func (r *Reader) Bulk() bool { return r.array || r.count != 1 }

// Next gives the next value as it stands, in memory of its own; io.EOF after the last; *TooLongError for one that was
// passed over. Every other error ends the body.
func (r *Reader) Next() ([]byte, error) {
	c, err := r.skipSpace()
	if err != nil {
		return nil, r.inside(err)
	}
	if !r.opened {
		r.opened = true
		if r.array = c == '['; r.array {
			if c, err = r.skipSpace(); err != nil {
				return nil, r.inside(err)
			}
			if c == ']' {
				return nil, r.end()
			}
			return r.value(c)
		}
	} else if r.array {
		switch c {
		case ']':
			return nil, r.end()
		case ',':
			if c, err = r.skipSpace(); err != nil {
				return nil, r.inside(err)
			}
		default:
			return nil, &SyntaxError{"a comma or ] is missing after a value of the array"}
		}
	}
	return r.value(c)
}

// end wants nothing to follow the array.
func (r *Reader) end() error {
	_, err := r.skipSpace()
	if err == nil {
		return &SyntaxError{"more follows after the array"}
	}
	return err
}

func (r *Reader) skipSpace() (byte, error) {
	for {
		c, err := r.src.ReadByte()
		if err != nil || !isSpace(c) {
			return c, err
		}
	}
}

// inside makes an end that comes too early an error.
func (r *Reader) inside(err error) error {
	if errors.Is(err, io.EOF) && r.array {
		return &SyntaxError{"it ends inside of the array"}
	}
	return err
}

// value reads on to the end of the value that begins with c.
func (r *Reader) value(c byte) ([]byte, error) {
	if c == ',' || c == ']' || c == '}' || c == ':' {
		return nil, &SyntaxError{fmt.Sprintf("%q where a value should begin", c)}
	}
	r.count++
	var v []byte
	size, depth, quoted, escaped := 0, 0, false, false
	for {
		if size++; size <= r.max {
			v = append(v, c)
		} else {
			v = nil
		}
		switch {
		case escaped:
			escaped = false
		case quoted:
			escaped = c == '\\'
			quoted = c != '"'
		case c == '"':
			quoted = true
		case c == '{' || c == '[':
			depth++
		case c == '}' || c == ']':
			depth--
		}
		if depth == 0 && !quoted && (c == '}' || c == ']' || c == '"') {
			break
		}
		next, err := r.src.ReadByte()
		if errors.Is(err, io.EOF) {
			if depth == 0 && !quoted && !r.array {
				break // a bare word at the end of the body
			}
			return nil, &SyntaxError{"it ends inside of a value"}
		}
		if err != nil {
			return nil, err
		}
		if depth == 0 && !quoted && (isSpace(next) || next == ',' || next == ']') { // the end of a bare word
			if err := r.src.UnreadByte(); err != nil {
				return nil, err
			}
			break
		}
		c = next
	}
	if size > r.max {
		return nil, &TooLongError{r.max}
	}
	return v, nil
}

func isSpace(c byte) bool { return c == ' ' || c == '\t' || c == '\r' || c == '\n' }

// Lines finds the frames of an NDJSON body. A bad line does not harm the next one.
type Lines struct {
	src *bufio.Reader
	max int
}

// NewLines reads lines of at most maxFrame bytes from r.
func NewLines(r io.Reader, maxFrame int) *Lines {
	return &Lines{src: bufio.NewReaderSize(r, 32<<10), max: maxFrame}
}

// Next gives the next line that is not empty, in memory of its own, io.EOF after the last, or *TooLongError for one
// that was passed over. Every other error ends the body.
func (l *Lines) Next() ([]byte, error) {
	for {
		line, err := l.line()
		if err != nil && !(errors.Is(err, io.EOF) && len(line) > 0) {
			return nil, err
		}
		if line = bytes.TrimSpace(line); len(line) > 0 {
			return line, nil
		}
	}
}

func (l *Lines) line() ([]byte, error) {
	var line []byte
	long := false
	for {
		part, err := l.src.ReadSlice('\n')
		if long = long || len(line)+len(part) > l.max+2; long {
			line = nil
		} else {
			line = append(line, part...)
		}
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case long && (err == nil || errors.Is(err, io.EOF)):
			return nil, &TooLongError{l.max}
		}
		return line, err
	}
}
