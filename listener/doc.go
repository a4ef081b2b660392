// Package listener is the broker's listener: it accepts connections over mutual TLS,
// learns who the peer is, gives the conversation to a protocol, and moves bytes.
//
// It promises that no byte reaches a protocol from a peer without a verified
// certificate; that a peer that is silent, slow, or accepts nothing costs the others
// nothing and little memory; that a panic in one connection ends that one only; and
// that what was accepted is answered before Shutdown returns, if the peer reads.
//
// It deliberately knows no commands and no queues: protocol/text does. It makes no TLS
// policy: package mtls does.
package listener
