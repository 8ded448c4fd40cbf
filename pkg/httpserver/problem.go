package httpserver

import (
	"encoding/json"
	"net/http"
)

// Problem answers with RFC 9457 problem details. ext adds members such as the field that is wrong; it must
// not contain type, title, status or detail.
func Problem(w http.ResponseWriter, status int, title, detail string, ext map[string]any) {
	body := make(map[string]any, 4+len(ext))
	for k, v := range ext {
		body[k] = v
	}
	body["type"], body["title"], body["status"], body["detail"] = "about:blank", title, status, detail
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body) // the client is gone: nothing left to tell it
}
