// Package page serves Tocsin's web page, which is built from web/ and embedded, so that a machine with only Go can
// build the service.
package page

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"strings"
)

//go:embed all:dist
var dist embed.FS

// csp allows what the page is made of and nothing else: no inline script or style, no other host, no frames.
// React sets style properties through the CSSOM, which a policy without unsafe-inline permits.
const csp = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; " +
	"connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

type asset struct {
	body, packed []byte // packed is gzip; nil where it saves nothing
	mime, tag    string
}

// Handler serves the embedded files; "/" is index.html, and what is not there is 404. GET and HEAD only. build
// changes whenever a file does.
func Handler() (h http.Handler, build string, err error) {
	root, err := fs.Sub(dist, "dist")
	if err != nil {
		return nil, "", fmt.Errorf("page: %w", err)
	}
	all := sha256.New()
	assets := map[string]asset{}
	err = fs.WalkDir(root, ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		body, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(body)
		_, _ = all.Write(sum[:]) // a hash takes everything
		packed, err := pack(body)
		if err != nil {
			return err
		}
		assets["/"+name] = asset{body, packed, contentType(name), `"` + hex.EncodeToString(sum[:12]) + `"`}
		return nil
	})
	if err != nil {
		return nil, "", fmt.Errorf("page: %w", err)
	}
	index, ok := assets["/index.html"]
	if !ok {
		return nil, "", fmt.Errorf("page: dist holds no index.html: run the build in web/")
	}
	assets["/"] = index
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { serve(w, r, assets) }), hex.EncodeToString(all.Sum(nil)[:8]), nil
}

// pack compresses, once for all requests; nil when it saves less than a tenth. Cost: 20 ms for the whole page.
func pack(body []byte) ([]byte, error) {
	var b bytes.Buffer
	z, err := gzip.NewWriterLevel(&b, gzip.BestCompression)
	if err != nil {
		return nil, err
	}
	if _, err := z.Write(body); err != nil {
		return nil, err
	}
	if err := z.Close(); err != nil {
		return nil, err
	}
	if b.Len() > len(body)*9/10 {
		return nil, nil
	}
	return b.Bytes(), nil
}

// contentType does not ask the machine's MIME tables: they differ.
func contentType(name string) string {
	switch path.Ext(name) {
	case ".html":
		return "text/html; charset=utf-8"
	case ".js":
		return "text/javascript; charset=utf-8"
	case ".css":
		return "text/css; charset=utf-8"
	case ".png":
		return "image/png"
	case ".svg":
		return "image/svg+xml"
	case ".txt", ".md":
		return "text/plain; charset=utf-8"
	case ".webmanifest":
		return "application/manifest+json"
	}
	if t := mime.TypeByExtension(path.Ext(name)); t != "" {
		return t
	}
	return "application/octet-stream"
}

func serve(w http.ResponseWriter, r *http.Request, assets map[string]asset) {
	h := w.Header()
	h.Set("Content-Security-Policy", csp)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		h.Set("Allow", "GET, HEAD")
		http.Error(w, "method not allowed", http.StatusMethodNotAllowed)
		return
	}
	a, ok := assets[r.URL.Path]
	if !ok {
		http.Error(w, "not found", http.StatusNotFound)
		return
	}
	// Names carry no hash, so that builds are comparable; a client asks each time and mostly gets 304.
	h.Set("Cache-Control", "no-cache")
	h.Set("ETag", a.tag)
	if strings.Contains(r.Header.Get("If-None-Match"), a.tag) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Type", a.mime)
	body := a.body
	if a.packed != nil {
		h.Set("Vary", "Accept-Encoding")
		if takesGzip(r) {
			h.Set("Content-Encoding", "gzip")
			body = a.packed
		}
	}
	h.Set("Content-Length", fmt.Sprint(len(body)))
	if r.Method == http.MethodGet {
		_, _ = w.Write(body) // the client is gone: nothing left to tell it
	}
}

// takesGzip tells whether the client lists gzip and does not refuse it.
func takesGzip(r *http.Request) bool {
	for _, part := range strings.Split(r.Header.Get("Accept-Encoding"), ",") {
		name, weight, _ := strings.Cut(part, ";")
		if strings.EqualFold(strings.TrimSpace(name), "gzip") {
			w := strings.ReplaceAll(weight, " ", "")
			return w != "q=0" && strings.TrimRight(w, "0") != "q=0."
		}
	}
	return false
}
