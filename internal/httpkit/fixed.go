package httpkit

import "net/http"

// Fixed answers with a public document that does not change while the process runs.
func Fixed(contentType string, body []byte) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "public, max-age=300")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		WriteBytes(w, contentType, http.StatusOK, body)
	})
}

// Page is Fixed for HTML with a content security policy.
func Page(html []byte, policy string) http.Handler {
	page := Fixed("text/html; charset=utf-8", html)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("Referrer-Policy", "no-referrer")
		page.ServeHTTP(w, r)
	})
}
