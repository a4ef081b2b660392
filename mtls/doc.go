// Package mtls is the only place that builds a tls.Config and the only place that
// turns a certificate into an identity.
//
// It promises that no byte of a protocol is read from a peer before its certificate
// has been verified against the configured authorities, is within its dates and is not
// revoked, also when a session is resumed (over HTTPS a client may show none); that
// certificate files are picked up when they change; and that a role is believed only in
// certificates of our own authority.
//
// It does not issue certificates (package ca), decide what an identity may do (package
// broker), or open connections.
package mtls
