package verdict

import (
	"strings"
	"time"

	"github.com/tocsin-io/tocsin/services/alert-router/internal/message"
)

// Path is where the links lead, below the router's external URL; the token follows.
const Path = "/v/"

// Links makes the links of pages. Safe for concurrent use.
type Links struct {
	Keys *Keyring
	// Base is how people reach this service: "https://tocsin.example.com".
	Base string
	// Lifetime of a link.
	Lifetime time.Duration
}

// For makes all links of an alert or incident for one recipient; it is a message.Composer's Actions. Links of one hour expire together, so that a
// message that is made again an instant later is the same. What cannot be signed (an id of more than 512 bytes) has no links.
func (l *Links) For(subject, recipient string, at time.Time) message.Links {
	link := func(a Action) string { return l.link(a, subject, recipient, at) }
	out := message.Links{Acknowledge: link(Acknowledge), Shelve: link(Shelve)}
	for _, a := range []Action{Real, False, Known, Sensor} {
		if u := link(a); u != "" {
			out.Verdicts = append(out.Verdicts, message.Verdict{Name: a.String(), Label: message.VerdictLabel(a.String()), URL: u})
		}
	}
	return out
}

// All makes the link that acknowledges several alerts at once for one recipient; it is a message.Composer's All. More than MaxSet have none.
func (l *Links) All(ids []string, recipient string, at time.Time) string {
	set, ok := NewSet(ids)
	if !ok {
		return ""
	}
	return l.link(AcknowledgeAll, set, recipient, at)
}

func (l *Links) link(a Action, subject, recipient string, at time.Time) string {
	expires := at.Add(l.Lifetime).Truncate(time.Hour).Add(time.Hour)
	token, err := l.Keys.Sign(Claims{Subject: subject, Recipient: recipient, Action: a, Expires: expires})
	if err != nil {
		return ""
	}
	return strings.TrimRight(l.Base, "/") + Path + token
}
