// Package httpkit is what all our HTTPS listeners share: TLS, the identity of each request,
// request ids, one type of error with two forms of answers, limits, metrics, the access log,
// recovery from panics, health, and a graceful stop.
//
// It promises that a handler which is not public runs only for a caller whose certificate
// is verified, within its dates and not revoked at that moment, or whom the listener's own
// Authenticate vouches for; that what a peer can make grow has a limit; and that neither a
// log line nor an error that it writes holds a body, a query string or a header's value.
//
// It does not know what is served: routes and their handlers are the roles', and the forms
// of requests are package api's.
//
// A role makes a Router, adds its routes, and gives it to Listen:
//
//	router := httpkit.NewRouter(httpkit.Config{Component: "main_server", …})
//	router.Handle("GET /health", httpkit.Options{Access: httpkit.Public}, health)
//	mainapi.HandlerWithOptions(…, mainapi.StdHTTPServerOptions{BaseRouter: router.Mux(options)})
//	server, err := httpkit.Listen(addr, tlsConfig, router, httpkit.Limits{})
package httpkit
