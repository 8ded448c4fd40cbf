// Package schema gives wide frames' sensor names an id made from their content, and finds the names again.
//
// A frame of 25,000 features would carry a megabyte of names each second. Instead its sender registers the names
// once as a FrameSchema, on the compacted topic equipment.registry.v1, and each frame names only the schema's id.
package schema

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

const (
	idPrefix = "sha256-"
	idDigits = 32
)

// ID is the id of the schema of these sensors in this order: "sha256-" and the first 32 hexadecimal digits of the SHA-256
// of the names, each followed by a zero byte.
func ID(sensors []string) string {
	h := sha256.New()
	buf := make([]byte, 0, 256)
	for _, s := range sensors {
		buf = append(append(buf[:0], s...), 0)
		h.Write(buf)
	}
	return idPrefix + hex.EncodeToString(h.Sum(nil))[:idDigits]
}

// WellFormed tells whether id could be the id of a schema.
func WellFormed(id string) bool {
	digits, ok := strings.CutPrefix(id, idPrefix)
	if !ok || len(digits) != idDigits {
		return false
	}
	for _, c := range []byte(digits) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}
