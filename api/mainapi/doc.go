// Package mainapi is the main server's part of the HTTP API, generated from openapi.yaml:
// its types, the interface of its operations (StrictServerInterface) with their routes
// (HandlerWithOptions, NewStrictHandlerWithOptions), and a client.
package mainapi
