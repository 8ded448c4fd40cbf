package rest

import (
	"strconv"

	eventv1 "github.com/tocsin-io/tocsin/proto/gen/tocsin/event/v1"

	"github.com/tocsin-io/tocsin/services/realtime-api/internal/query"
	"github.com/tocsin-io/tocsin/services/realtime-api/internal/wire"
)

var severities = map[string]eventv1.Severity{
	"": eventv1.Severity_SEVERITY_UNSPECIFIED, "info": eventv1.Severity_SEVERITY_INFO, "warning": eventv1.Severity_SEVERITY_WARNING, "critical": eventv1.Severity_SEVERITY_CRITICAL,
}

func (a *API) alerts(dst []byte, r *asked) ([]byte, *fault) {
	page, f := r.page()
	if f != nil {
		return nil, f
	}
	q := query.Alerts{Page: page, Where: r.where(), EquipmentID: r.q.Get("equipment_id"), Search: r.q.Get("search")}
	if s := r.q.Get("include_closed"); s != "" {
		v, err := strconv.ParseBool(s)
		if err != nil {
			return nil, bad("include_closed", "%.40q is not true or false", s)
		}
		q.IncludeClosed = v
	}
	var ok bool
	if q.Least, ok = severities[r.q.Get("severity")]; !ok {
		return nil, bad("severity", "%.40q is not one of info, warning, critical", r.q.Get("severity"))
	}
	list, no := a.desk.Alerts(r.who, q)
	if no != nil {
		return nil, refusal(no)
	}
	return closePage(appendList(dst, "alerts", list.Events, wire.AppendAlert), list.Next, list.Total), nil
}
