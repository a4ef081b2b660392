// Package sealmq is the vocabulary of the product: messages, deliveries, names,
// limits, identities and errors. Every other package speaks it.
//
// It deliberately does nothing: no sockets, no files, no routing, and it imports
// the standard library only.
package sealmq

import "time"

// Message is one message as a publisher handed it over and as it is stored.
//
// The broker never looks inside Body and never changes it.
type Message struct {
	// ID identifies the message for acknowledgement and for duplicate detection.
	// Empty means the protocol has none; then duplicates are not detected.
	// At most MaxNameBytes bytes, without white space or control characters.
	ID string
	// Publisher is the identity (Identity.ID) of the connection that published it.
	Publisher string
	// Exchange and Key are the routing as published. They are never rewritten,
	// neither by dead-lettering nor by a move.
	Exchange, Key string
	// Published is when the broker accepted the message, in whole milliseconds.
	Published time.Time
	// Properties are opaque to broker and engine; a protocol may keep its own in them.
	Properties []byte
	// Body is stored and delivered byte for byte.
	Body []byte
}

// DeliveryTag names one delivery of one message to one session. The numbers are the
// engine's; callers compare and return tags and never build them.
type DeliveryTag struct {
	Queue   uint32
	Attempt uint32
	Seq     uint64
}

// SubscriptionID names a subscription within one session. 0 is none.
type SubscriptionID uint32

// Delivery is a message in a consumer's hands.
type Delivery struct {
	Message
	Tag   DeliveryTag
	Queue string
	// Subscription is the one that the message came through; 0 if it was fetched.
	Subscription SubscriptionID
	// Attempt counts deliveries of this copy from one, without those that were given back
	// uncounted. Above one it is a redelivery.
	Attempt uint32
	// Returned says that this copy came back before, counted or not.
	Returned bool
	// DeathReason and DeathQueue say why and from where a dead letter came; both are
	// empty for a message that never died.
	DeathReason, DeathQueue string
}

// Redelivered reports whether this copy was delivered before.
func (d *Delivery) Redelivered() bool { return d.Returned || d.Attempt > 1 }

// Identity is who a connection is. It comes from a verified certificate and from
// nowhere else.
type Identity struct {
	// ID is stable and unique within one authority: the SAN URI's client name, the
	// common name, or "sha256:<hex>" of a certificate that has neither.
	ID string
	// Issuer tells the same ID of two authorities apart.
	Issuer string
	// CommonName is the first common name of the subject, which CipherMQ's key
	// commands need; empty if the certificate has none.
	CommonName string
	// Role is what the certificate's profile says; plain clients have RoleClient.
	Role Role
}

// Role is the part a certificate plays.
type Role string

// The roles. Only certificates of our own authority can be RoleAdmin.
const (
	RoleClient Role = "client"
	RoleAdmin  Role = "admin"
	RoleProxy  Role = "proxy"
	RoleWorker Role = "worker"
	RoleServer Role = "server"
)
