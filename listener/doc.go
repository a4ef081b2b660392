// Package listener accepts connections over mutual TLS, identifies the peer, chooses the
// protocol by the first bytes, and moves bytes.
//
// It promises that no byte of a peer without a verified certificate reaches a protocol;
// that a peer that is silent, slow, or accepts nothing costs the others nothing and little
// memory; that a panic in one connection ends that one only; and that Shutdown returns
// after every accepted command is answered, if the peer reads.
//
// It deliberately knows no commands and no queues: protocols do. It makes no TLS policy:
// package mtls does.
package listener
