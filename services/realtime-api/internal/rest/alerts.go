package rest

import (
	"encoding/base64"
	"encoding/json"
	"strconv"
	"strings"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"

	"github.com/tocsin-io/tocsin/services/realtime-api/internal/hub"
	"github.com/tocsin-io/tocsin/services/realtime-api/internal/places"
	"github.com/tocsin-io/tocsin/services/realtime-api/internal/wire"
)

var severities = map[string]eventv1.Severity{
	"": eventv1.Severity_SEVERITY_UNSPECIFIED, "info": eventv1.Severity_SEVERITY_INFO, "warning": eventv1.Severity_SEVERITY_WARNING, "critical": eventv1.Severity_SEVERITY_CRITICAL,
}

func (a *API) alerts(dst []byte, r *asked) ([]byte, *fault) {
	size, f := number(r.q, "page_size", defaultPage, 1, maxPage)
	if f != nil {
		return nil, f
	}
	query := hub.AlertQuery{In: r.scope(), EquipmentID: r.q.Get("equipment_id"), Limit: int(size) + 1}
	if s := r.q.Get("include_closed"); s != "" {
		v, err := strconv.ParseBool(s)
		if err != nil {
			return nil, bad("include_closed", "%.40q is not true or false", s)
		}
		query.IncludeClosed = v
	}
	least, ok := severities[r.q.Get("severity")]
	if !ok {
		return nil, bad("severity", "%.40q is not one of info, warning, critical", r.q.Get("severity"))
	}
	search := strings.ToLower(r.q.Get("search"))
	query.Match = func(e *eventv1.AlertEvent, at places.Place) bool {
		return e.Severity >= least && (found(search, e.EquipmentId, at) || strings.Contains(strings.ToLower(e.Summary), search) || strings.Contains(strings.ToLower(e.Cause), search))
	}
	if query.After, f = alertKey(r.q.Get("page_token")); f != nil {
		return nil, f
	}
	list, total := a.hub.Alerts(query)
	next := ""
	if len(list) > int(size) {
		list = list[:size]
		next = alertToken(hub.KeyOf(list[size-1]))
	}
	dst = appendList(dst, "alerts", list, wire.AppendAlert)
	dst = append(dst, `,"next_page_token":`...)
	dst = wire.AppendString(dst, next)
	dst = append(dst, `,"total":`...)
	return append(strconv.AppendInt(dst, int64(total), 10), '}'), nil
}

func alertToken(k hub.AlertKey) string {
	b, _ := json.Marshal(k) // numbers, a bool and a string always marshal
	return token(string(b))
}

func alertKey(s string) (*hub.AlertKey, *fault) {
	if s == "" {
		return nil, nil
	}
	b, err := base64.RawURLEncoding.DecodeString(s)
	var k hub.AlertKey
	if err == nil {
		err = json.Unmarshal(b, &k)
	}
	if err != nil {
		return nil, bad("page_token", "not a token that this service gave")
	}
	return &k, nil
}
