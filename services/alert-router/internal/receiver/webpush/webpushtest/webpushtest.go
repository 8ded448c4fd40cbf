// Package webpushtest is the other side of Web Push: a device that decrypts what a push service brings (RFC 8291), and a push service's look at who sends it (RFC 8292).
package webpushtest

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"math/big"
	"strings"
	"testing"
	"time"
)

// Device is a browser that has subscribed.
type Device struct {
	key  *ecdh.PrivateKey
	auth []byte
}

// NewDevice makes one with keys of its own.
func NewDevice(t testing.TB) *Device {
	t.Helper()
	key, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return &Device{key, []byte("0123456789abcdef")}
}

// P256dh and Auth are what it gives with its endpoint.
func (d *Device) P256dh() string {
	return base64.RawURLEncoding.EncodeToString(d.key.PublicKey().Bytes())
}

// Auth is the secret of its subscription.
func (d *Device) Auth() string { return base64.RawURLEncoding.EncodeToString(d.auth) }

// Decrypt gives what an encrypted record (RFC 8188, aes128gcm) says.
func (d *Device) Decrypt(t testing.TB, record []byte) []byte {
	t.Helper()
	salt, size, idLen := record[:16], binary.BigEndian.Uint32(record[16:20]), int(record[20])
	server, err := ecdh.P256().NewPublicKey(record[21 : 21+idLen])
	if err != nil {
		t.Fatal(err)
	}
	shared, err := d.key.ECDH(server)
	if err != nil {
		t.Fatal(err)
	}
	derive := func(secret, salt []byte, info string, n int) []byte {
		out, err := hkdf.Key(sha256.New, secret, salt, info, n)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	ikm := derive(shared, d.auth, "WebPush: info\x00"+string(d.key.PublicKey().Bytes())+string(server.Bytes()), 32)
	block, err := aes.NewCipher(derive(ikm, salt, "Content-Encoding: aes128gcm\x00", 16))
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := gcm.Open(nil, derive(ikm, salt, "Content-Encoding: nonce\x00", 12), record[21+idLen:], nil)
	if err != nil || len(record) > int(size) {
		t.Fatal(err)
	}
	return plain[:bytes.LastIndexByte(plain, 2)]
}

// Signed checks what a push service checks of an Authorization header: the key is the one that the browser subscribed with, the token is signed by it, for this service, and not for more
// than a day.
func Signed(t testing.TB, authorization, publicKey, audience string) {
	t.Helper()
	var token, key string
	for part := range strings.SplitSeq(strings.TrimPrefix(authorization, "vapid "), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(part), "=")
		switch name {
		case "t":
			token = value
		case "k":
			key = value
		}
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 || strings.TrimRight(key, "=") != publicKey {
		t.Fatalf("not a VAPID header of %s: %s", publicKey, authorization)
	}
	decode := func(s string) []byte {
		b, err := base64.RawURLEncoding.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	point, signature := decode(publicKey), decode(parts[2])
	pub := &ecdsa.PublicKey{Curve: elliptic.P256(), X: new(big.Int).SetBytes(point[1:33]), Y: new(big.Int).SetBytes(point[33:])} //nolint:staticcheck // as JSON Web Keys spell it
	sum := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	if len(signature) != 64 || !ecdsa.Verify(pub, sum[:], new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])) {
		t.Error("not signed by the key")
	}
	var claims struct {
		Aud string `json:"aud"`
		Sub string `json:"sub"`
		Exp int64  `json:"exp"`
	}
	if err := json.Unmarshal(decode(parts[1]), &claims); err != nil {
		t.Fatal(err)
	}
	if left := time.Until(time.Unix(claims.Exp, 0)); claims.Aud != audience || left < 0 || left > 24*time.Hour || !strings.HasPrefix(claims.Sub, "mailto:") || strings.HasPrefix(claims.Sub, "mailto:mailto:") {
		t.Errorf("claims %+v, want audience %s", claims, audience)
	}
}
