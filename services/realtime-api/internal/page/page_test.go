package page

import (
	"compress/gzip"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

var handler = sync.OnceValues(func() (http.Handler, error) {
	h, _, err := Handler()
	return h, err
})

func get(t *testing.T, method, path string, header map[string]string) *httptest.ResponseRecorder {
	t.Helper()
	h, err := handler()
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

func TestCompressed(t *testing.T) {
	plain := get(t, "GET", "/assets/app.js", nil)
	for header, packed := range map[string]bool{"gzip, deflate, br": true, "br;q=1.0, GZIP;q=0.5": true, "gzip;q=0": false, "gzip; q=0.00": false, "identity": false, "": false} {
		w := get(t, "GET", "/assets/app.js", map[string]string{"Accept-Encoding": header})
		if (w.Header().Get("Content-Encoding") == "gzip") != packed || w.Header().Get("Vary") != "Accept-Encoding" {
			t.Errorf("%q: %v", header, w.Header())
			continue
		}
		if !packed {
			continue
		}
		z, err := gzip.NewReader(w.Body)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(z)
		if err != nil || string(body) != plain.Body.String() {
			t.Errorf("%q: another text, %d bytes: %v", header, len(body), err)
		}
	}
	if w := get(t, "GET", "/icon-192.png", map[string]string{"Accept-Encoding": "gzip"}); w.Code != 200 || w.Header().Get("Content-Encoding") != "" || w.Header().Get("Content-Type") != "image/png" {
		t.Errorf("a picture: %d %v", w.Code, w.Header())
	}
}

// What the service worker keeps is all that the page is made of, and all of it is served.
func TestWorkerKeepsThePage(t *testing.T) {
	body := get(t, "GET", "/sw.js", nil).Body.String()
	line := regexp.MustCompile(`const files = (\[.*\]);`).FindStringSubmatch(body)
	if line == nil || strings.Contains(body, "%") {
		t.Fatalf("sw.js was not completed by the build: %.300s", body)
	}
	var files []string
	if err := json.Unmarshal([]byte(line[1]), &files); err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if w := get(t, "GET", strings.TrimPrefix(f, "."), nil); w.Code != 200 {
			t.Errorf("%s: %d", f, w.Code)
		}
	}
	for _, f := range []string{"./", "./assets/app.js", "./assets/app.css", "./manifest.webmanifest", "./icon-192.png"} {
		if !slices.Contains(files, f) {
			t.Errorf("%s is not kept", f)
		}
	}
}

func TestManifest(t *testing.T) {
	w := get(t, "GET", "/manifest.webmanifest", nil)
	var m struct {
		Name, Display string
		StartURL      string `json:"start_url"`
		Icons         []struct{ Src, Sizes, Type, Purpose string }
	}
	if err := json.Unmarshal(w.Body.Bytes(), &m); err != nil || w.Header().Get("Content-Type") != "application/manifest+json" {
		t.Fatalf("%v %v", err, w.Header())
	}
	sizes := map[string]bool{}
	for _, i := range m.Icons {
		sizes[i.Sizes+i.Purpose] = true
		if w := get(t, "GET", strings.TrimPrefix(i.Src, "."), nil); w.Code != 200 || w.Header().Get("Content-Type") != i.Type {
			t.Errorf("%s: %d %s", i.Src, w.Code, w.Header().Get("Content-Type"))
		}
	}
	if m.Name == "" || m.Display != "standalone" || m.StartURL != "./" || !sizes["192x192"] || !sizes["512x512"] || !sizes["512x512maskable"] {
		t.Errorf("not installable: %+v", m)
	}
}
