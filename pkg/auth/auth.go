// Package auth tells who asks and what they may touch: bearer tokens (RFC 6750), and the machines that they are bound to.
//
// What somebody may do is each service's own: it keeps its identities in a Tokens of its own type.
package auth

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"net"
	"net/http"
	"strings"
)

// MinToken is the length of the shortest token taken.
const MinToken = 16

// ErrUnauthenticated: no token, or not one of ours. It does not say which: that would help a guesser.
var ErrUnauthenticated = errors.New("valid credentials are needed: Authorization: Bearer <token>")

// ErrTwice: the token is somebody's already.
var ErrTwice = errors.New("given twice")

// CheckToken tells whether a token may be used at all.
func CheckToken(token string) error {
	if len(token) < MinToken {
		return errors.New("must have at least 16 characters")
	}
	if strings.ContainsAny(token, " \t\r\n") {
		return errors.New("must not contain white space")
	}
	return nil
}

// Tokens says whose each token is. Once filled it is safe for concurrent use.
//
// A token is looked up by its SHA-256 under a secret salt. A guesser cannot steer the digest, so the time that the look-up takes says
// nothing of how much of a guess is right: as good as a constant-time comparison, for any number of tokens.
type Tokens[T any] struct {
	salt      [32]byte
	byDigest  map[[sha256.Size]byte]T
	open      bool
	anonymous T
}

// NewTokens knows nobody.
func NewTokens[T any]() *Tokens[T] {
	t := &Tokens[T]{byDigest: map[[sha256.Size]byte]T{}}
	_, _ = rand.Read(t.salt[:]) // never fails: the process ends first
	return t
}

// Add makes a token, which CheckToken must take, that of who. It returns ErrTwice when it is somebody's already.
func (t *Tokens[T]) Add(token string, who T) error {
	d := t.digest(token)
	if _, ok := t.byDigest[d]; ok {
		return ErrTwice
	}
	t.byDigest[d] = who
	return nil
}

// AllowAnonymous makes who of a request without a token. One with a wrong token is nobody all the same.
func (t *Tokens[T]) AllowAnonymous(who T) { t.open, t.anonymous = true, who }

// Authenticate takes the value of an Authorization header ("" when there is none). The only error is ErrUnauthenticated.
func (t *Tokens[T]) Authenticate(authorization string) (T, error) {
	var nobody T
	if authorization == "" {
		if t.open {
			return t.anonymous, nil
		}
		return nobody, ErrUnauthenticated
	}
	scheme, token, ok := strings.Cut(authorization, " ")
	if !ok || !strings.EqualFold(scheme, "bearer") {
		return nobody, ErrUnauthenticated
	}
	if who, ok := t.byDigest[t.digest(strings.TrimSpace(token))]; ok {
		return who, nil
	}
	return nobody, ErrUnauthenticated
}

func (t *Tokens[T]) digest(token string) [sha256.Size]byte {
	return sha256.Sum256(append(t.salt[:len(t.salt):len(t.salt)], token...))
}

// Challenge says in an answer 401 what is asked for (RFC 9110, 11.6.1).
func Challenge(h http.Header) { h.Set("WWW-Authenticate", `Bearer realm="tocsin"`) }

// Loopback tells whether only this machine can reach an address to listen on. A name other than localhost may resolve to anything.
func Loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// Here tells whether a request's Host header names this machine by a loopback name or address. Where anybody on it is let in without a token, that is asked of each request: a page elsewhere
// can give its own name our address (DNS rebinding), and then its origin is ours.
func Here(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	ip := net.ParseIP(host)
	return strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback()
}
