package message

import (
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// Septets that fit into one short message, and into each part of a longer one (3GPP TS 23.040: a part gives six octets to its header).
const (
	smsAlone = 160
	smsPart  = 153
)

// SMS is the page for a short message of at most so many parts (1 or 2): what must be known first, and a link when it fits whole. It holds GSM 03.38
// characters only, so that a part holds 160 or 153 of them and not 70; others are written as what looks like them. One line.
func SMS(p *Page, parts int) string {
	limit := smsAlone
	if parts > 1 {
		limit = smsPart * parts
	}
	a := p.Lead()
	pieces := []string{p.Headline}
	if !p.Single() {
		pieces = append(pieces, Count(p))
	}
	if p.Reason == "not_acknowledged_in_time" {
		pieces = append(pieces, "Not acknowledged in time")
	}
	if p.Single() {
		if a.Since != "" {
			when, _, _ := strings.Cut(a.Since, ",")
			pieces = append(pieces, "since "+when)
		}
		if a.Confident > 0 {
			pieces = append(pieces, trust(clamp(a.Confident)))
		}
	}
	link := smsLink(p)
	room := limit
	if link != "" && septets(link)+1 <= limit/2+20 {
		room -= septets(link) + 1
	} else {
		link = ""
	}
	out := ""
	for i, piece := range pieces {
		piece = gsm(piece)
		if i > 0 {
			piece = ". " + piece
		}
		if septets(out)+septets(piece) > room {
			if i == 0 {
				out = cutSeptets(piece, room)
			}
			break
		}
		out += piece
	}
	if link != "" {
		out += " " + link
	}
	return out
}

// smsLink is the one link worth its room: where the alert is acknowledged, else its chart.
func smsLink(p *Page) string {
	for _, u := range []string{p.Links.Acknowledge, p.Links.Chart, p.Lead().Links.Chart} {
		if u != "" && gsm(u) == u {
			return u
		}
	}
	return ""
}

// Septets of a text in GSM 03.38, -1 if it holds anything else.
func Septets(s string) int {
	for _, r := range s {
		if !basic(r) && !extended(r) {
			return -1
		}
	}
	return septets(s)
}

func septets(s string) int {
	n := 0
	for _, r := range s {
		n++
		if extended(r) {
			n++
		}
	}
	return n
}

func cutSeptets(s string, limit int) string {
	if septets(s) <= limit {
		return s
	}
	const mark = ".."
	n := 0
	for i, r := range s {
		need := 1
		if extended(r) {
			need = 2
		}
		if n+need > limit-len(mark) {
			return strings.TrimRight(s[:i], " ") + mark
		}
		n += need
	}
	return s
}

// The GSM 03.38 alphabet without its control characters (LF, CR, ESC): a page is one line.
const (
	gsmLetters  = "@£$¥èéùìòÇØøÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
	gsmExtended = "^{}\\[~]|€"
)

func basic(r rune) bool    { return strings.ContainsRune(gsmLetters, r) }
func extended(r rune) bool { return strings.ContainsRune(gsmExtended, r) }

var gsmInstead = strings.NewReplacer("°C", "C", "°F", "F", "°", " deg", "µ", "u", "μ", "u", "–", "-", "—", "-", "−", "-", "…", "..", "“", "\"", "”", "\"",
	"„", "\"", "‘", "'", "’", "'", "·", "-", "•", "-", "×", "x", "²", "2", "³", "3", "`", "'", "\u00a0", " ", "\u202f", " ", "≤", "<=", "≥", ">=", "±", "+-", "ẞ", "SS")

// gsm writes a line in the GSM alphabet: accents that it lacks are dropped, what has no likeness becomes "?".
func gsm(s string) string {
	s = gsmInstead.Replace(s)
	var sb strings.Builder
	for _, r := range s {
		if basic(r) || extended(r) {
			sb.WriteRune(r)
			continue
		}
		wrote := false
		for _, d := range norm.NFKD.String(string(r)) {
			if unicode.Is(unicode.Mn, d) {
				continue
			}
			if basic(d) || extended(d) {
				sb.WriteRune(d)
				wrote = true
			}
		}
		if !wrote && !unicode.Is(unicode.Mn, r) {
			sb.WriteByte('?')
		}
	}
	return sb.String()
}
