// Package sealmq is the vocabulary of the product: messages, deliveries, names, limits,
// identities and errors. Every other package uses it.
//
// It does nothing by itself, and imports only the standard library.
package sealmq

import "time"

// Message is one message as it was published and as it is stored. The broker never changes
// its body.
type Message struct {
	// ID identifies the message for acknowledgement and duplicate detection. If the
	// protocol has none it is empty, and duplicates are not detected. It has at most
	// MaxNameBytes bytes, without white space or control characters.
	ID string
	// Publisher is the identity (Identity.ID) of the connection that published it.
	Publisher string
	// Exchange and Key are as published. Dead-lettering and moving do not change them.
	Exchange, Key string
	// Published is when the broker accepted the message, in whole milliseconds.
	Published time.Time
	// Properties are opaque to broker and engine. A protocol may store its own there.
	Properties []byte
	// Body is stored and delivered byte for byte.
	Body []byte
	// Digest identifies the content if the same content may have other bytes, for example
	// because it is sealed anew. If it is not empty, a message repeats an earlier one if ID and
	// Digest are the same, whatever its exchange, key and body are; it never repeats one
	// without a Digest. It has at most MaxDigestBytes bytes, and no effect without an ID. It is
	// for publishing only: it is neither stored with the message nor delivered.
	Digest []byte
}

// MaxDigestBytes is the maximum length of Message.Digest.
const MaxDigestBytes = 64

// PublishResult is what became of a message that was published.
type PublishResult struct {
	// Repeated says that the message was stored before and not a second time: an earlier one
	// had its ID and the same content.
	Repeated bool
	// Err is nil if the message is on stable storage in all its queues.
	Err error
}

// DeliveryTag names one delivery of one message to one session. Only the engine makes tags;
// callers compare them and pass them back.
type DeliveryTag struct {
	Queue   uint32
	Attempt uint32
	Seq     uint64
}

// SubscriptionID names a subscription within one session. 0 is none.
type SubscriptionID uint32

// Delivery is a message that was delivered to a consumer.
type Delivery struct {
	Message
	Tag   DeliveryTag
	Queue string
	// Subscription is the subscription of the delivery; 0 if the message was fetched.
	Subscription SubscriptionID
	// Attempt is the number of this delivery of this copy, from one. Deliveries that were
	// released do not count.
	Attempt uint32
	// Returned says that this copy was returned or released before.
	Returned bool
	// DeathReason and DeathQueue say why and from which queue a message was
	// dead-lettered. Both are empty for other messages.
	DeathReason, DeathQueue string
}

// Redelivered reports whether this copy was delivered before.
func (d *Delivery) Redelivered() bool { return d.Returned || d.Attempt > 1 }

// Identity is who the peer of a connection is. It comes from a verified certificate and from
// nowhere else.
type Identity struct {
	// ID is stable and unique within one authority: the client name in the SAN URI, else
	// the common name, else "sha256:<hex>" of the certificate.
	ID string
	// Issuer identifies the authority, because two authorities may use the same ID.
	Issuer string
	// CommonName is the first common name of the subject, or empty. CipherMQ's key
	// commands need it.
	CommonName string
	// Role is the role in the certificate, or RoleClient.
	Role Role
}

// Owner is who declared a queue or an exchange: the identity of one authority, or, if it is zero,
// the administrators.
type Owner struct {
	ID     string `json:"id"`
	Issuer string `json:"issuer,omitempty"`
}

// Owner is whom what the identity declares belongs to.
func (i Identity) Owner() Owner {
	if i.Role == RoleAdmin {
		return Owner{}
	}
	return Owner{ID: i.ID, Issuer: i.Issuer}
}

// Role is what a certificate may be used for.
type Role string

// The roles. Only certificates of our own authority can have RoleAdmin.
const (
	RoleClient Role = "client"
	RoleAdmin  Role = "admin"
	RoleProxy  Role = "proxy"
	RoleWorker Role = "worker"
	RoleServer Role = "server"
	// RoleMonitor may read metrics, and nothing else.
	RoleMonitor Role = "monitor"
)
