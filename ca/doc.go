// Package ca is the built-in certificate authority: a root, an intermediate that issues
// certificates, and everything they have issued, as files in a data folder.
//
// It promises:
//
//   - A crash at any moment leaves each file old or new, and no certificate without its key.
//   - The next start completes what is missing.
//   - No existing key is ever replaced.
//   - Only their owner can read the key files.
//   - What it issues is recorded before anybody has it.
//   - What it revokes stays revoked, also after a backup was restored, and its numbers grow.
//
// It speaks no network protocol, and it does not check the certificates of peers
// (package mtls).
package ca
