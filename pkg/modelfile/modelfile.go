// Package modelfile is the file that a trained model is kept in: magic, length of the header, header as JSON, and a body whose form is the algorithm's own. Whoever trains writes it, whoever judges reads it; its version is the
// hash of all of it.
package modelfile

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
)

// IsolationForest is the algorithm whose body is that of package iforest.
const IsolationForest = "isolation_forest"

// Header is what every model's header has.
type Header struct {
	Algorithm string   `json:"algorithm"`
	Features  []string `json:"features"`
	// Reference is how its training rows were spread; nil: it was trained by a build that did not keep that.
	Reference *Reference `json:"reference,omitempty"`
}

const magic = "tocsinmodel1\n"

// ErrCorrupt is wrapped by what Split refuses.
var ErrCorrupt = errors.New("corrupt model")

// Version is the first 12 hexadecimal digits of the SHA-256 of the file.
func Version(file []byte) string {
	sum := sha256.Sum256(file)
	return hex.EncodeToString(sum[:6])
}

var version = regexp.MustCompile(`^[0-9a-f]{12}$`)

// IsVersion tells whether v can be one.
func IsVersion(v string) bool { return version.MatchString(v) }

// Key is where a version of a model is kept in the models' store.
func Key(name, version string) string { return "models/" + name + "/versions/" + version + ".model" }

// Append appends magic and header; the body follows.
func Append(dst, header []byte) []byte {
	dst = append(dst, magic...)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(header)))
	return append(dst, header...)
}

// Split parts a file into header and body. b is not trusted.
func Split(b []byte) (header, body []byte, err error) {
	head := len(magic) + 4
	if len(b) < head || string(b[:len(magic)]) != magic {
		return nil, nil, fmt.Errorf("%w: no model's file", ErrCorrupt)
	}
	n := int(binary.LittleEndian.Uint32(b[len(magic):]))
	if n > len(b)-head {
		return nil, nil, fmt.Errorf("%w: header of %d bytes", ErrCorrupt, n)
	}
	return b[head : head+n], b[head+n:], nil
}

// Read is Split with the header read.
func Read(b []byte) (Header, []byte, error) {
	var h Header
	raw, body, err := Split(b)
	if err != nil {
		return h, nil, err
	}
	if err := json.Unmarshal(raw, &h); err != nil {
		return h, nil, fmt.Errorf("%w: header: %w", ErrCorrupt, err)
	}
	return h, body, nil
}
