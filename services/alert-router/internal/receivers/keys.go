package receivers

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/tocsin-io/tocsin/services/alert-router/internal/verdict"
)

// keyFile keeps the key that is made when none is configured. Routers that share their work need one in the receivers file: each must believe the other's links.
const keyFile = "link.key"

// Keyring is that of the file, or of the key kept in dir, which is made at the first call.
func (f *File) Keyring(dir string) (*verdict.Keyring, error) {
	if len(f.keys) > 0 {
		return verdict.NewKeyring(f.keys...)
	}
	name := filepath.Join(dir, keyFile)
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		b, err = makeKey(name)
	}
	if err != nil {
		return nil, fmt.Errorf("key of links: %w", err)
	}
	secret, err := hex.DecodeString(strings.TrimSpace(string(b)))
	if err != nil {
		return nil, fmt.Errorf("key of links: %s: %w", name, err)
	}
	return verdict.NewKeyring(verdict.Key{ID: "0", Secret: secret})
}

func makeKey(name string) ([]byte, error) {
	secret := make([]byte, 32)
	if _, err := rand.Read(secret); err != nil {
		return nil, err
	}
	out := []byte(hex.EncodeToString(secret) + "\n")
	if err := os.MkdirAll(filepath.Dir(name), 0o750); err != nil {
		return nil, err
	}
	temporary := name + ".new"
	if err := os.WriteFile(temporary, out, 0o600); err != nil {
		return nil, err
	}
	return out, os.Rename(temporary, name)
}
