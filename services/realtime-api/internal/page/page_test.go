package page

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"
)

func get(t *testing.T, method, path string, header map[string]string) *httptest.ResponseRecorder {
	t.Helper()
	h, _, err := Handler()
	if err != nil {
		t.Fatal(err)
	}
	r := httptest.NewRequest(method, path, nil)
	for k, v := range header {
		r.Header.Set(k, v)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// Everything that index.html refers to is there, and it holds nothing that the policy forbids.
func TestIndexIsComplete(t *testing.T) {
	w := get(t, "GET", "/", nil)
	body := w.Body.String()
	if w.Code != 200 || !strings.Contains(body, `id="root"`) {
		t.Fatalf("%d %s", w.Code, body)
	}
	refs := regexp.MustCompile(`(?:src|href)="\./([^"]+)"`).FindAllStringSubmatch(body, -1)
	if len(refs) < 3 {
		t.Errorf("only %d references: %v", len(refs), refs)
	}
	for _, ref := range refs {
		if w := get(t, "GET", "/"+ref[1], nil); w.Code != 200 {
			t.Errorf("%s: %d", ref[1], w.Code)
		}
	}
	if regexp.MustCompile(`(?i)<style|\sstyle=|<script[^>]*>[^<]|\son[a-z]+=`).MatchString(body) {
		t.Errorf("inline script or style: %s", body)
	}
}

func TestPolicy(t *testing.T) {
	for _, path := range []string{"/", "/assets/app.js", "/nothing"} {
		p := get(t, "GET", path, nil).Header().Get("Content-Security-Policy")
		if !strings.HasPrefix(p, "default-src 'none'") || strings.Contains(p, "unsafe") || strings.Contains(p, "*") {
			t.Errorf("%s: policy %q", path, p)
		}
	}
}

func TestRevalidation(t *testing.T) {
	tag := get(t, "GET", "/assets/app.js", nil).Header().Get("ETag")
	if w := get(t, "GET", "/assets/app.js", map[string]string{"If-None-Match": "W/" + tag}); tag == "" || w.Code != http.StatusNotModified || w.Body.Len() != 0 {
		t.Errorf("tag %s: %d, %d bytes", tag, w.Code, w.Body.Len())
	}
	if w := get(t, "HEAD", "/", nil); w.Code != 200 || w.Body.Len() != 0 || w.Header().Get("Content-Length") == "0" {
		t.Errorf("HEAD: %d, %d bytes", w.Code, w.Body.Len())
	}
	if w := get(t, "POST", "/", nil); w.Code != http.StatusMethodNotAllowed {
		t.Errorf("POST: %d", w.Code)
	}
	for _, path := range []string{"/assets", "/assets/", "/../page.go", "//", "/index.html/"} {
		if w := get(t, "GET", path, nil); w.Code != 404 {
			t.Errorf("%s: %d", path, w.Code)
		}
	}
}

func TestLicencesAreShipped(t *testing.T) {
	body := get(t, "GET", "/third-party-licences.txt", nil).Body.String()
	for _, name := range []string{"react ", "react-dom ", "scheduler ", "uplot "} {
		if !strings.Contains(body, "\n"+name) {
			t.Errorf("no licence of %s", name)
		}
	}
}
