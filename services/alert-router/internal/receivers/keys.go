package receivers

import (
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
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

// vapidFile keeps the key pair that is made where webpush_configs name none. Subscriptions are bound to it: routers that share their work need one in the receivers file.
const vapidFile = "vapid.key"

// aPublicKey stands for one that is not made yet: P-256's generator.
const aPublicKey = "BGsX0fLhLEJH-Lzm5WOkQPJ3A32BLeszoPShOUXYmMKWT-NC4v4af5uO5-tKfA-eFivOM1drMV7Oy7ZAaDe_UfU"

func (c *WebPush) madeHere() bool {
	return c.PublicKey == "" && c.PrivateKey == "" && c.PrivateKeyFile == ""
}

// Identify gives webpush_configs without keys the pair kept in dir, which is made at the first call.
func (f *File) Identify(dir string) error {
	for i := range f.Receivers {
		for j := range f.Receivers[i].WebPush {
			c := &f.Receivers[i].WebPush[j]
			if !c.madeHere() {
				continue
			}
			name := filepath.Join(dir, vapidFile)
			b, err := os.ReadFile(name)
			if errors.Is(err, fs.ErrNotExist) {
				b, err = makeKey(name)
			}
			if err != nil {
				return fmt.Errorf("key of Web Push: %w", err)
			}
			secret, err := hex.DecodeString(strings.TrimSpace(string(b)))
			if err != nil {
				return fmt.Errorf("key of Web Push: %s: %w", name, err)
			}
			key, err := ecdh.P256().NewPrivateKey(secret) // one in 2^32 numbers is none: then the file is to be removed
			if err != nil {
				return fmt.Errorf("key of Web Push: %s: %w", name, err)
			}
			c.PrivateKey = base64.RawURLEncoding.EncodeToString(key.Bytes())
			c.PublicKey = base64.RawURLEncoding.EncodeToString(key.PublicKey().Bytes())
		}
	}
	return nil
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
