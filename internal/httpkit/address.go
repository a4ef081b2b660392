package httpkit

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"strings"
)

type relayKey struct{}

// Relayed marks the requests of a context as made in this process for somebody else, whose
// address is in X-Forwarded-For.
func Relayed(ctx context.Context) context.Context { return context.WithValue(ctx, relayKey{}, true) }

// ClientAddress is the IP address that a request comes from. The last one in X-Forwarded-For
// is believed if the peer shows a certificate of the role server by our own authority
// (Config.OwnIssuer), or if the request was made in this process (Relayed). It is empty if the address is not known.
func ClientAddress(r *http.Request) string {
	own, _ := r.Context().Value(relayKey{}).(bool)
	if values := r.Header["X-Forwarded-For"]; len(values) > 0 && (own || requestOf(r.Context()).relay) {
		list := strings.Split(values[len(values)-1], ",")
		if a, err := netip.ParseAddr(strings.TrimSpace(list[len(list)-1])); err == nil {
			return a.Unmap().WithZone("").String()
		}
	}
	host, _, _ := net.SplitHostPort(r.RemoteAddr)
	a, err := netip.ParseAddr(host)
	if err != nil {
		return ""
	}
	return a.Unmap().WithZone("").String()
}
