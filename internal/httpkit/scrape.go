package httpkit

import (
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/sealmq/sealmq"
)

// Metrics answers GET /metrics, on a route with Optional access: to a peer on this machine that
// does not ask for somebody else, as a reverse proxy does,
// and to certificates of the roles monitor and admin, because the labels have names of
// clients.
func Metrics(reg prometheus.Gatherer) http.Handler {
	h := promhttp.HandlerFor(reg, promhttp.HandlerOpts{MaxRequestsInFlight: 4})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, known := CallerOf(r.Context())
		switch {
		case known && (c.Role == sealmq.RoleMonitor || c.Role == sealmq.RoleAdmin), Peer(r).IsLoopback() && !isForwarded(r):
			h.ServeHTTP(w, r)
		case known:
			WriteError(w, r, Errorf(CodeAuthorization, "Metrics are for certificates of the role monitor"))
		default:
			WriteError(w, r, Errorf(CodeAuthentication, "Metrics are for this machine and for certificates of the role monitor"))
		}
	})
}

// isForwarded reports whether a reverse proxy asks for somebody else.
func isForwarded(r *http.Request) bool {
	return len(r.Header["X-Forwarded-For"]) > 0 || len(r.Header["Forwarded"]) > 0
}
