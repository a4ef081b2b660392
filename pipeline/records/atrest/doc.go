// Package atrest keeps message texts and sender numbers unreadable in the database.
//
// There are two kinds of key files, which an operator keeps apart from the data: one for
// encryption, one for the hashes of numbers. Each is versioned ([Ring]), so that a new key
// can replace an old one while rows of both exist.
//
// A text is encrypted under the scope key of its client ([Scope]), a random key that is
// itself encrypted under a file key. If a scope key is destroyed, everything of that client
// becomes unreadable in every copy of the data at once.
//
// The key of a row is derived from the scope key, 16 random bytes and the message id, and
// encrypts one text with AES-256-GCM:
//
//	"v3." base64url( file key version (2) | scope key id (4) | random (16) | ciphertext | tag (16) )
//
// Two older forms can be read: "v2." ([Ring.OpenOld]) and Fernet tokens in base64.
//
// No error of this package, and nothing it logs, contains a key, a text, a number or a
// ciphertext.
package atrest
