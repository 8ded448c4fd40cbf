// Package verdict makes the links that a page carries: acknowledge, shelve, and what the alert was, in one tap. A link needs no login: it is the authority to do one thing to one alert
// in one recipient's name until it expires, and nothing else.
//
// Following a link changes nothing (mail scanners and chat previews follow them all); it shows what it would do, and a button. Pressing it is recorded once, however often it is
// pressed or replayed.
package verdict

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Action is what a link does.
type Action byte

// Actions. The numbers stand in links that people have: they never change.
const (
	Real        Action = 1 // a fault, rightly paged
	False       Action = 2 // nothing was wrong
	Known       Action = 3 // planned or known: right, but no page needed
	Sensor      Action = 4 // the sensor or its line was at fault, not the machine
	Acknowledge Action = 5
	Shelve      Action = 6
	// AcknowledgeAll acknowledges several alerts: its subject is a Set.
	AcknowledgeAll Action = 7
)

var actionNames = [...]string{
	Real: "real", False: "false", Known: "known", Sensor: "sensor", Acknowledge: "acknowledge", Shelve: "shelve", AcknowledgeAll: "acknowledge_all",
}

// String is the action's name in the journal: "real", "false", "known", "sensor", "acknowledge", "shelve", "acknowledge_all".
func (a Action) String() string {
	if a.valid() {
		return actionNames[a]
	}
	return fmt.Sprintf("action-%d", byte(a))
}

func (a Action) valid() bool { return a >= Real && a <= AcknowledgeAll }

// Verdict tells whether the action says what an alert was.
func (a Action) Verdict() bool { return a >= Real && a <= Sensor }

// Claims is what a link is bound to.
type Claims struct {
	// Subject is the id of an alert or of an incident; of AcknowledgeAll a Set.
	Subject string
	// Recipient is whom the link was sent to: an address, a number, or "slack/on-call".
	Recipient string
	Action    Action
	// Expires, to the second.
	Expires time.Time
	// ID names the link: the same for every use of it. Set by Verify.
	ID string
}

// Key signs links. ID stands in them, so that keys can be changed: the new one first, the old one kept until its links have expired.
type Key struct {
	ID     string
	Secret []byte
}

// Keyring signs with its first key and believes all of them. Safe for concurrent use.
type Keyring struct{ keys []Key }

// Errors of Verify. What they say to whom is the caller's; why a token is not valid is nobody's business.
var (
	ErrInvalid = errors.New("not a valid link")
	ErrExpired = errors.New("the link has expired")
)

const (
	version     = 1
	macSize     = 16 // of HMAC-SHA256's 32: forging needs 2^127 tries on average, and the link fits into a short message
	maxSubject  = 512
	maxRecip    = 254
	maxKeyID    = 16
	minSecret   = 32
	maxToken    = 1200 // characters
	fixed       = 1 + 1 + 5 + 1 + 2
	domain      = "tocsin link v1\x00"
	maxLifetime = 366 * 24 * time.Hour
)

// strict refuses all but one way to write the same bytes.
var strict = base64.RawURLEncoding.Strict()

// NewKeyring checks the keys: at least one, ids of 1 to 16 bytes that differ, secrets of 32 bytes or more.
func NewKeyring(keys ...Key) (*Keyring, error) {
	if len(keys) == 0 {
		return nil, errors.New("no key to sign links with")
	}
	seen := make(map[string]bool)
	for i, k := range keys {
		switch {
		case k.ID == "" || len(k.ID) > maxKeyID:
			return nil, fmt.Errorf("key %d: its id has %d bytes, not 1 to %d", i, len(k.ID), maxKeyID)
		case seen[k.ID]:
			return nil, fmt.Errorf("key id %q is there twice", k.ID)
		case len(k.Secret) < minSecret:
			return nil, fmt.Errorf("key %q: a secret of %d bytes, fewer than %d", k.ID, len(k.Secret), minSecret)
		}
		seen[k.ID] = true
	}
	return &Keyring{keys: append([]Key(nil), keys...)}, nil
}

// Sign makes the token of a link, in the URL-safe base64 alphabet. The same claims and key give the same token.
func (r *Keyring) Sign(c Claims) (string, error) {
	switch {
	case !c.Action.valid():
		return "", fmt.Errorf("sign: %s", c.Action)
	case c.Subject == "" || len(c.Subject) > maxSubject:
		return "", fmt.Errorf("sign: a subject of %d bytes", len(c.Subject))
	case len(c.Recipient) > maxRecip:
		return "", fmt.Errorf("sign: a recipient of %d bytes", len(c.Recipient))
	case c.Expires.Unix() <= 0:
		return "", errors.New("sign: no expiry")
	}
	k := &r.keys[0]
	b := make([]byte, 0, fixed+len(k.ID)+len(c.Subject)+len(c.Recipient)+macSize)
	b = append(b, version, byte(len(k.ID)))
	b = append(b, k.ID...)
	b = append(b, byte(c.Expires.Unix()>>32))
	b = binary.BigEndian.AppendUint32(b, uint32(c.Expires.Unix()))
	b = append(b, byte(c.Action))
	b = binary.BigEndian.AppendUint16(b, uint16(len(c.Subject)))
	b = append(b, c.Subject...)
	b = append(b, c.Recipient...)
	return strict.EncodeToString(append(b, k.mac(b)...)), nil
}

// Verify gives back what a token was signed for. It costs one HMAC whatever it is given, and compares in constant time.
func (r *Keyring) Verify(token string, now time.Time) (Claims, error) {
	if len(token) > maxToken || strings.ContainsAny(token, "\r\n") { // which the decoder would pass over
		return Claims{}, ErrInvalid
	}
	b, err := strict.DecodeString(token)
	if err != nil || len(b) < fixed+1+macSize {
		return Claims{}, ErrInvalid
	}
	body, mac := b[:len(b)-macSize], b[len(b)-macSize:]
	k, rest := r.find(body)
	if !hmac.Equal(mac, k.mac(body)) || rest == nil {
		return Claims{}, ErrInvalid
	}
	c, err := decode(rest)
	if err != nil {
		return Claims{}, err
	}
	c.ID = hex.EncodeToString(mac)
	if !now.Before(c.Expires) || c.Expires.Sub(now) > maxLifetime {
		return c, ErrExpired
	}
	return c, nil
}

// find is the key that a token names and what follows the name; of one that it does not know, some key and nil.
func (r *Keyring) find(body []byte) (k *Key, rest []byte) {
	n := int(body[1])
	if body[0] != version || len(body) < fixed+n {
		return &r.keys[0], nil
	}
	for i := range r.keys {
		if r.keys[i].ID == string(body[2:2+n]) {
			return &r.keys[i], body[2+n:]
		}
	}
	return &r.keys[0], nil
}

func decode(rest []byte) (Claims, error) {
	if len(rest) < 8 {
		return Claims{}, ErrInvalid
	}
	seconds := int64(rest[0])<<32 | int64(binary.BigEndian.Uint32(rest[1:5]))
	c := Claims{Action: Action(rest[5]), Expires: time.Unix(seconds, 0)}
	n := int(binary.BigEndian.Uint16(rest[6:8]))
	if len(rest) < 8+n || !c.Action.valid() {
		return Claims{}, ErrInvalid
	}
	c.Subject, c.Recipient = string(rest[8:8+n]), string(rest[8+n:])
	return c, nil
}

func (k *Key) mac(body []byte) []byte {
	h := hmac.New(sha256.New, k.Secret)
	h.Write([]byte(domain))
	h.Write(body)
	return h.Sum(nil)[:macSize]
}
