// Package ca is the built-in certificate authority: a root, an intermediate that
// issues, and the certificates and keys that they make, as files in a data folder.
//
// It promises that a crash at any moment leaves either the old files or the new ones
// and never a key beside the certificate of another, that the next start completes what
// is missing, that no existing key is ever replaced, and that keys are readable by
// their owner only.
//
// It speaks no network protocol, and it does not check the certificates of peers
// (package mtls).
package ca
