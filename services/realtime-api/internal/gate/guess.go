package gate

import (
	"math"
	"net"
	"net/netip"
	"strconv"
	"time"
)

// Wrong tokens: so many at once from one address, and one more each so often. At most so many addresses are remembered, those that guessed last.
const (
	guessBurst    = 10
	guessEvery    = 6 * time.Second
	maxGuessers   = 4096
	unknownPlaces = "?"
)

// guesses counts wrong tokens by address. Gate.mu guards it.
type guesses struct{ by map[string]*guess }

// guess is a bucket: spent is how many tries are gone as of at.
type guess struct {
	spent float64
	at    time.Time
}

func (g *guess) now(t time.Time) float64 {
	return math.Max(0, g.spent-float64(t.Sub(g.at))/float64(guessEvery))
}

// address is where somebody is as far as guessing goes: an IPv4 address, or the /64 of an IPv6 one, since whoever has one has all of it.
func address(remote string) string {
	host, _, err := net.SplitHostPort(remote)
	if err != nil {
		return unknownPlaces
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return unknownPlaces
	}
	ip = ip.Unmap().WithZone("")
	if ip.Is6() {
		return netip.PrefixFrom(ip, 64).Masked().String()
	}
	return ip.String()
}

// mayGuess is zero, or how long to wait.
func (g *Gate) mayGuess(from string) time.Duration {
	g.mu.Lock()
	defer g.mu.Unlock()
	e := g.guesses.by[from]
	if e == nil {
		return 0
	}
	if over := e.now(time.Now()) + 1 - guessBurst; over > 0 {
		return time.Duration(over * float64(guessEvery))
	}
	return 0
}

// guessed notes a wrong token.
func (g *Gate) guessed(from string) {
	now := time.Now()
	g.mu.Lock()
	defer g.mu.Unlock()
	e := g.guesses.by[from]
	if e == nil {
		if len(g.guesses.by) >= maxGuessers {
			g.forgetGuessers(now)
		}
		e = &guess{}
		g.guesses.by[from] = e
	}
	e.spent, e.at = e.now(now)+1, now
}

// forgetGuessers makes room: those who have waited long enough go, or else the one who guessed longest ago.
func (g *Gate) forgetGuessers(now time.Time) {
	oldest, at := "", now
	for from, e := range g.guesses.by {
		if e.now(now) == 0 {
			delete(g.guesses.by, from)
		} else if oldest == "" || e.at.Before(at) {
			oldest, at = from, e.at
		}
	}
	if len(g.guesses.by) >= maxGuessers {
		delete(g.guesses.by, oldest)
	}
}

func seconds(d time.Duration) string { return strconv.Itoa(int(math.Ceil(d.Seconds()))) }
