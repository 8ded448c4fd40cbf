package webhook

import (
	"bytes"
	"encoding/json"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/tocsin-io/tocsin/services/alert-router/internal/notification"
)

// appendStock adds Alertmanager's payload, field for field as its template.Data gives it, of the first so many alerts (0: all). In a burst this is what most of the bytes are made by: a group of a
// hundred alerts is told whole each time that one joins it. So it is written out by hand, into one piece of memory of the right size, from the labels that the engine holds.
func appendStock(dst []byte, n *notification.Notification, most int) []byte {
	list := n.Alerts
	if most > 0 && len(list) > most {
		list = list[:most]
	}
	dst = slices.Grow(dst, stockSize(n, list))
	dst = appendText(append(dst, `{"receiver":`...), regexp.QuoteMeta(n.Receiver))
	dst = appendText(append(dst, `,"status":`...), string(n.Status))
	dst = append(dst, `,"alerts":[`...)
	for i := range list {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendStockAlert(dst, &list[i])
	}
	dst = appendText(append(dst, `],"notification_reason":`...), strings.ReplaceAll(string(n.Reason), "_", " "))
	dst = appendSet(append(dst, `,"groupLabels":`...), n.GroupLabels)
	dst = appendSet(append(dst, `,"commonLabels":`...), n.CommonLabels)
	dst = appendSet(append(dst, `,"commonAnnotations":`...), n.CommonAnnotations)
	dst = appendText(append(dst, `,"routeLabels":{},"externalURL":`...), n.ExternalURL)
	dst = appendText(append(dst, `,"version":"4","groupKey":`...), n.GroupKey)
	dst = strconv.AppendInt(append(dst, `,"truncatedAlerts":`...), int64(len(n.Alerts)-len(list)), 10)
	return append(dst, '}')
}

func appendStockAlert(dst []byte, a *notification.Alert) []byte {
	dst = appendText(append(dst, `{"status":`...), string(a.Status))
	dst = appendSet(append(dst, `,"labels":`...), a.Labels)
	dst = appendSet(append(dst, `,"annotations":`...), a.Annotations)
	dst = appendTime(append(dst, `,"startsAt":`...), a.StartsAt)
	dst = appendTime(append(dst, `,"endsAt":`...), a.EndsAt)
	dst = appendText(append(dst, `,"generatorURL":`...), a.Links.Machine)
	dst = appendText(append(dst, `,"fingerprint":`...), a.Labels.Fingerprint().String())
	return append(dst, '}')
}

// stockSize is a little more than the payload takes, but for what has to be escaped.
func stockSize(n *notification.Notification, list []notification.Alert) int {
	size := 1024 + len(n.Receiver) + len(n.GroupKey) + len(n.ExternalURL) + setSize(n.GroupLabels) + setSize(n.CommonLabels) + setSize(n.CommonAnnotations)
	for i := range list {
		size += 256 + setSize(list[i].Labels) + setSize(list[i].Annotations) + len(list[i].Links.Machine)
	}
	return size
}

func setSize[K, V ~string](m map[K]V) (size int) {
	for k, v := range m {
		size += len(k) + len(v) + 8
	}
	return size
}

// appendSet adds an object whose fields are in the order of their names.
func appendSet[K, V ~string](dst []byte, m map[K]V) []byte {
	var few [16]K // on the stack
	names := few[:0]
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	dst = append(dst, '{')
	for i, name := range names {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendText(dst, string(name))
		dst = append(dst, ':')
		dst = appendText(dst, string(m[name]))
	}
	return append(dst, '}')
}

func appendTime(dst []byte, t time.Time) []byte {
	dst = t.AppendFormat(append(dst, '"'), time.RFC3339Nano)
	return append(dst, '"')
}

// appendText adds a string as encoding/json does when it leaves <, > and & alone.
func appendText(dst []byte, s string) []byte {
	if !plain(s) {
		return appendEscaped(dst, s)
	}
	dst = append(dst, '"')
	dst = append(dst, s...)
	return append(dst, '"')
}

// plain tells whether nothing of s has to be escaped.
func plain(s string) bool {
	ascii := true
	for i := range len(s) {
		switch b := s[i]; {
		case b < ' ', b == '"', b == '\\':
			return false
		case b >= utf8.RuneSelf:
			ascii = false
		}
	}
	return ascii || utf8.ValidString(s) && !strings.ContainsAny(s, "\u2028\u2029")
}

func appendEscaped(dst []byte, s string) []byte {
	if !strings.ContainsFunc(s, func(r rune) bool {
		return r < ' ' && r != '\n' || r == utf8.RuneError || r == '\u2028' || r == '\u2029'
	}) {
		dst = append(dst, '"')
		for i := range len(s) {
			switch b := s[i]; b {
			case '\n':
				dst = append(dst, '\\', 'n')
			case '"', '\\':
				dst = append(dst, '\\', b)
			default:
				dst = append(dst, b)
			}
		}
		return append(dst, '"')
	}
	var buf bytes.Buffer
	enc := json.NewEncoder(&buf)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(s) // a string can always be encoded, and memory always written to
	return append(dst, bytes.TrimRight(buf.Bytes(), "\n")...)
}
