package httpkit

import (
	"context"
	"net/http"
	"net/netip"
	"strings"
)

type relayKey struct{}

// Relayed marks the requests of a context as made in this process for somebody else, whose
// address is in X-Forwarded-For.
func Relayed(ctx context.Context) context.Context { return context.WithValue(ctx, relayKey{}, true) }

// relayed reports whether what a request says about somebody else is believed: the peer shows a
// certificate of the role server by our own authority (Config.OwnIssuer), or the request was
// made in this process (Relayed).
func relayed(r *http.Request) bool {
	own, _ := r.Context().Value(relayKey{}).(bool)
	return own || requestOf(r.Context()).relay
}

// UnattendedHeader marks a request that a page makes by itself, as when it refreshes a list.
const UnattendedHeader = "X-Sealmq-Unattended"

// Unattended reports whether a page made a request by itself. The header is believed from those
// whose X-Forwarded-For is believed.
func Unattended(r *http.Request) bool { return r.Header.Get(UnattendedHeader) != "" && relayed(r) }

// ClientAddress is the IP address that a request comes from. The last one in X-Forwarded-For
// is believed from a portal: the peer shows a certificate of the role server by our own
// authority (Config.OwnIssuer), or the request was made in this process (Relayed). The address is
// empty if it is not known.
func ClientAddress(r *http.Request) string { return AddressOf(r, relayed(r)) }

// AddressOf is ClientAddress for a listener that decides by itself whether X-Forwarded-For is
// believed.
func AddressOf(r *http.Request, believed bool) string {
	if values := r.Header["X-Forwarded-For"]; len(values) > 0 && believed {
		list := strings.Split(values[len(values)-1], ",")
		if a, err := netip.ParseAddr(strings.TrimSpace(list[len(list)-1])); err == nil {
			return a.Unmap().WithZone("").String()
		}
	}
	if a := Peer(r); a.IsValid() {
		return a.String()
	}
	return ""
}

// Peer is the IP address of whom a request comes from directly. It is not valid if it is not known.
func Peer(r *http.Request) netip.Addr {
	a, _ := netip.ParseAddrPort(r.RemoteAddr) // without an address it is the zero one
	return a.Addr().Unmap().WithZone("")
}
