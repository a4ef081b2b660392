// Package proxyapi is the proxy's part of the HTTP API, generated from openapi.yaml: its
// types, the interface of its operations with their routes (Handler), and a client.
//
// The proxy reads request bodies itself, because it refuses more than encoding/json does.
package proxyapi
