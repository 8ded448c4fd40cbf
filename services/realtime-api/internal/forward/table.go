package forward

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Route is one thing that may be asked of a service. Paths are patterns of net/http's with the same wildcards.
type Route struct {
	To           Service
	Method, Path string
	There        string
}

// Table lists all that is forwarded; openapi.yaml describes the same (a test compares).
func Table() []Route {
	var out []Route
	add := func(to Service, ours, theirs string, what ...string) {
		for _, w := range what {
			method, path, _ := strings.Cut(w, " ")
			out = append(out, Route{To: to, Method: method, Path: ours + path, There: theirs + path})
		}
	}
	add(Router, "/v1/router", "/v1",
		"GET /alerts", "GET /alerts/{id}", "GET /alerts/{id}/transitions", "GET /alerts/{id}/notifications", "GET /transitions", "GET /figures", "GET /oncall",
		"POST /alerts/{id}/acknowledge", "POST /alerts/{id}/shelve", "POST /alerts/{id}/unshelve", "POST /alerts/{id}/out-of-service",
		"POST /alerts/{id}/in-service", "POST /alerts/{id}/verdict", "POST /routes/test",
		"GET /push/keys", "GET /push/subscriptions", "POST /push/subscriptions", "DELETE /push/subscriptions/{id}")
	add(History, "/v1/history", "/v1",
		"GET /tables", "GET /series", "GET /episodes", "GET /availability", "GET /compare", "GET /anomalies", "GET /anomalies/check", "GET /jobs",
		"POST /sql", "GET /sql", "DELETE /sql/{id}")
	add(Models, "/v1", "/v1",
		"GET /models", "GET /models/{name}", "POST /models", "PUT /models/{name}/roles", "GET /trainings", "GET /trainings/{id}", "GET /comparison", "GET /drift")
	add(Tuning, "/v1", "/v1", "GET /tuning/settings", "GET /tuning/trials", "POST /tuning/trials", "GET /tuning/trials/{id}", "DELETE /tuning/trials/{id}")
	add(Detection, "/v1", "/v1", "GET /detection", "GET /detection/revisions", "POST /detection/changes", "POST /detection/corrections")
	return out
}

var errSegment = errors.New("a name in the path is empty, too long, or not one")

// target is what to ask the service for. The request's own path is not used beyond the values of its wildcards.
func (rt Route) target(base string, r *http.Request) (string, error) {
	path := rt.There
	for {
		before, rest, ok := strings.Cut(path, "{")
		if !ok {
			break
		}
		name, after, _ := strings.Cut(rest, "}")
		v := r.PathValue(name)
		if v == "" || v == "." || v == ".." || len(v) > maxSegment || !utf8.ValidString(v) || strings.ContainsFunc(v, unicode.IsControl) {
			return "", errSegment
		}
		path = before + url.PathEscape(v) + after
	}
	if len(r.URL.RawQuery) > maxQuery {
		return "", fmt.Errorf("the query is longer than %d bytes", maxQuery)
	}
	q, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return "", fmt.Errorf("the query: %w", err)
	}
	if len(q) > 0 {
		path += "?" + q.Encode()
	}
	return base + path, nil
}
