package portal

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"net/http"
	"path"
	"strings"

	"github.com/sealmq/sealmq/internal/httpkit"
)

//go:embed static
var staticFiles embed.FS

// assets are the style sheets and scripts. Their addresses hold a hash of all of them, so a
// browser keeps them until the portal has others.
type assets struct {
	version string
	files   map[string]asset
}

type asset struct {
	contentType  string
	plain, small []byte
}

func loadAssets() (*assets, error) {
	entries, err := staticFiles.ReadDir("static")
	if err != nil {
		return nil, err
	}
	a := &assets{files: make(map[string]asset)}
	sum := sha256.New()
	for _, e := range entries {
		data, err := staticFiles.ReadFile("static/" + e.Name())
		if err != nil {
			return nil, err
		}
		sum.Write([]byte(e.Name()))
		sum.Write(data)
		a.files[e.Name()] = asset{contentTypes[path.Ext(e.Name())], data, compressed(data, gzip.BestCompression)}
	}
	a.version = hex.EncodeToString(sum.Sum(nil)[:6])
	return a, nil
}

// contentTypes are by the ends of names. The system is not asked: its table may say anything.
var contentTypes = map[string]string{".css": "text/css; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml", ".txt": "text/plain; charset=utf-8"}

// ServeHTTP implements http.Handler.
func (a *assets) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f, ok := a.files[r.PathValue("file")]
	if !ok {
		httpkit.WriteError(w, r, httpkit.Errorf(httpkit.CodeNotFound, "There is no such file"))
		return
	}
	h := w.Header()
	secure(h)
	h.Set("Cache-Control", "public, max-age=300")
	if r.PathValue("version") == a.version {
		h.Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	h.Set("Vary", "Accept-Encoding")
	body := f.plain
	if acceptsGzip(r) {
		h.Set("Content-Encoding", "gzip")
		body = f.small
	}
	httpkit.WriteBytes(w, f.contentType, http.StatusOK, body)
}

func acceptsGzip(r *http.Request) bool {
	for word := range strings.SplitSeq(r.Header.Get("Accept-Encoding"), ",") {
		if name, q, _ := strings.Cut(strings.TrimSpace(word), ";"); name == "gzip" && strings.TrimSpace(q) != "q=0" {
			return true
		}
	}
	return false
}

// compressed is data in gzip. level is one of package gzip.
func compressed(data []byte, level int) []byte {
	var b bytes.Buffer
	z, _ := gzip.NewWriterLevel(&b, level) // of a known level
	z.Write(data)                          //nolint:errcheck // into memory
	z.Close()                              //nolint:errcheck // into memory
	return b.Bytes()
}
