package verdict

import (
	"bytes"
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

var now = time.Date(2026, 11, 21, 2, 3, 48, 0, time.UTC)

func key(id string) Key { return Key{ID: id, Secret: bytes.Repeat([]byte(id), 32)} }

func ring(t testing.TB, keys ...Key) *Keyring {
	t.Helper()
	r, err := NewKeyring(keys...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func claims() Claims {
	return Claims{Subject: "press-07/behaviour/1795226602000000", Recipient: "anna@example.com", Action: Real, Expires: now.Add(72 * time.Hour)}
}

func TestSignedClaimsComeBack(t *testing.T) {
	r := ring(t, key("a"), key("b"))
	rapid.Check(t, func(t *rapid.T) {
		c := Claims{
			Subject:   string(rapid.SliceOfN(rapid.Byte(), 1, maxSubject).Draw(t, "subject")),
			Recipient: string(rapid.SliceOfN(rapid.Byte(), 0, maxRecip).Draw(t, "recipient")),
			Action:    Action(rapid.IntRange(1, 6).Draw(t, "action")),
			Expires:   now.Add(time.Duration(rapid.IntRange(1, 365*24*3600).Draw(t, "seconds")) * time.Second),
		}
		token, err := r.Sign(c)
		if err != nil {
			t.Fatal(err)
		}
		got, err := r.Verify(token, now)
		if err != nil {
			t.Fatal(err)
		}
		if got.Subject != c.Subject || got.Recipient != c.Recipient || got.Action != c.Action || !got.Expires.Equal(c.Expires) || len(got.ID) != 2*macSize {
			t.Fatalf("signed %+v, got %+v", c, got)
		}
	})
}

// Any one bit of a token changed, any byte cut off or added, makes it invalid: none of what it is bound to can be exchanged.
func TestForgedTokens(t *testing.T) {
	r := ring(t, key("a"), key("b"))
	token, err := r.Sign(claims())
	if err != nil {
		t.Fatal(err)
	}
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil {
		t.Fatal(err)
	}
	refused := func(what, forged string) {
		t.Helper()
		if c, err := r.Verify(forged, now); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v %+v", what, err, c)
		}
	}
	for i := range raw {
		for bit := range 8 {
			b := bytes.Clone(raw)
			b[i] ^= 1 << bit
			refused("bit flipped", base64.RawURLEncoding.EncodeToString(b))
		}
		refused("cut", base64.RawURLEncoding.EncodeToString(raw[:i]))
	}
	refused("longer", base64.RawURLEncoding.EncodeToString(append(bytes.Clone(raw), 0)))
	refused("empty", "")
	refused("padding", token+"=")
	refused("a line break within", token[:9]+"\n"+token[9:])
	refused("standard alphabet", base64.StdEncoding.EncodeToString(raw)+"/")
	refused("very long", strings.Repeat("A", maxToken+1))
	// The last character of unpadded base64 has bits that decode to nothing: another character there would be a second name for one link.
	if n := len(raw) % 3; n != 0 {
		last := strings.IndexByte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", token[len(token)-1])
		refused("loose bits", token[:len(token)-1]+string("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[last^1]))
	}
	other, err := ring(t, Key{ID: "a", Secret: bytes.Repeat([]byte("z"), 32)}).Sign(claims())
	if err != nil {
		t.Fatal(err)
	}
	refused("another secret under the same key id", other)
	foreign, err := ring(t, key("c")).Sign(claims())
	if err != nil {
		t.Fatal(err)
	}
	refused("a key that is not known", foreign)
}

func TestExpiry(t *testing.T) {
	r := ring(t, key("a"))
	token, _ := r.Sign(claims())
	for _, tc := range []struct {
		at   time.Time
		want error
	}{{claims().Expires.Add(-time.Second), nil}, {claims().Expires, ErrExpired}, {claims().Expires.Add(time.Hour), ErrExpired}} {
		if _, err := r.Verify(token, tc.at); !errors.Is(err, tc.want) {
			t.Errorf("at %s: %v, want %v", tc.at, err, tc.want)
		}
	}
}

// A new key signs at once; links of the old one work until it is taken away.
func TestKeyRotation(t *testing.T) {
	before, during, after := ring(t, key("a")), ring(t, key("b"), key("a")), ring(t, key("b"))
	old, _ := before.Sign(claims())
	fresh, _ := during.Sign(claims())
	for _, tc := range []struct {
		name  string
		ring  *Keyring
		token string
		want  error
	}{{"old link, both keys", during, old, nil}, {"new link, both keys", during, fresh, nil}, {"new link, new key", after, fresh, nil}, {"old link, new key", after, old, ErrInvalid}} {
		if _, err := tc.ring.Verify(tc.token, now); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v, want %v", tc.name, err, tc.want)
		}
	}
}

func TestNewKeyringRefuses(t *testing.T) {
	for name, keys := range map[string][]Key{
		"none": nil, "no id": {{Secret: make([]byte, 32)}}, "short": {{ID: "a", Secret: make([]byte, 31)}}, "twice": {key("a"), key("a")},
		"long id": {{ID: strings.Repeat("a", maxKeyID+1), Secret: make([]byte, 32)}},
	} {
		if _, err := NewKeyring(keys...); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}

func TestSignRefuses(t *testing.T) {
	r := ring(t, key("a"))
	for name, change := range map[string]func(*Claims){
		"action": func(c *Claims) { c.Action = 8 }, "no subject": func(c *Claims) { c.Subject = "" }, "long subject": func(c *Claims) { c.Subject = strings.Repeat("a", maxSubject+1) },
		"long recipient": func(c *Claims) { c.Recipient = strings.Repeat("a", maxRecip+1) }, "no expiry": func(c *Claims) { c.Expires = time.Time{} },
	} {
		c := claims()
		change(&c)
		if _, err := r.Sign(c); err == nil {
			t.Errorf("%s: signed", name)
		}
	}
}

func FuzzVerify(f *testing.F) {
	r := ring(f, key("a"))
	token, _ := r.Sign(claims())
	f.Add(token)
	f.Add("")
	f.Add(base64.RawURLEncoding.EncodeToString(append([]byte{version, 255}, make([]byte, 64)...)))
	f.Fuzz(func(t *testing.T, s string) {
		if c, err := r.Verify(s, now); err == nil && s != token {
			t.Errorf("%q verified as %+v", s, c)
		}
	})
}

func TestLinksDifferByRecipientAndAlertAndAction(t *testing.T) {
	l := &Links{Keys: ring(t, key("a")), Base: "https://tocsin.example.com/", Lifetime: 72 * time.Hour}
	seen := make(map[string]bool)
	for _, subject := range []string{"m-1/limit/1", "m-2/limit/1"} {
		for _, to := range []string{"anna@example.com", "ben@example.com"} {
			out := l.For(subject, to, now)
			for _, u := range []string{out.Acknowledge, out.Shelve, out.Verdicts[0].URL, out.Verdicts[1].URL, out.Verdicts[2].URL, out.Verdicts[3].URL} {
				if seen[u] {
					t.Errorf("%s is there twice", u)
				}
				seen[u] = true
				token, ok := strings.CutPrefix(u, "https://tocsin.example.com/v/")
				if !ok {
					t.Fatal(u)
				}
				c, err := l.Keys.Verify(token, now)
				if err != nil || c.Subject != subject || c.Recipient != to {
					t.Errorf("%+v %v", c, err)
				}
			}
		}
	}
	if first, again := l.For("m", "a", now), l.For("m", "a", now.Add(time.Minute)); first.Acknowledge != again.Acknowledge {
		t.Error("made again a minute later, the link is another")
	}
}
