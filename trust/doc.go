// Package trust decides whom to believe: which authorities sign for senders of sealed
// messages, which roles count, and which certificates were revoked.
//
// It promises that a file of authorities with a certificate that is none is refused as a
// whole; that a revoked certificate is refused within a second of the change of its list,
// without a restart; and that a damaged list never revokes less than the last good one.
//
// It does not build a tls.Config or read an identity from a certificate (package mtls),
// issue or sign certificates (package ca), or say what an identity may do (package broker).
package trust
