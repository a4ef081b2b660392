package engine

import "github.com/sealmq/sealmq"

// Fields is a set of queue options.
type Fields uint16

// The fields of sealmq.QueueOptions.
const (
	MaxMessages Fields = 1 << iota
	MaxBytes
	TTL
	DeliveryLimit
	AckTimeout
	Prefetch
	MaxLineBytes
	DropOldest
	Sealed
	Private

	AllFields = Private<<1 - 1
)

// Match reports whether two queues have the same options in these fields, with defaults
// filled in.
func (f Fields) Match(a, b sealmq.QueueOptions) bool {
	a, b = a.Normalize(), b.Normalize()
	same := func(field Fields, equal bool) bool { return equal || f&field == 0 }
	return same(MaxMessages, a.MaxMessages == b.MaxMessages) &&
		same(MaxBytes, a.MaxBytes == b.MaxBytes) &&
		same(TTL, a.TTL == b.TTL) &&
		same(DeliveryLimit, a.DeliveryLimit == b.DeliveryLimit) &&
		same(AckTimeout, a.AckTimeout == b.AckTimeout) &&
		same(Prefetch, a.Prefetch == b.Prefetch) &&
		same(MaxLineBytes, a.MaxLineBytes == b.MaxLineBytes) &&
		same(DropOldest, a.DropOldest == b.DropOldest) &&
		same(Sealed, a.Sealed == b.Sealed) &&
		same(Private, a.Private == b.Private)
}

// If is a set of conditions under which a queue is deleted.
type If uint8

// The conditions. Without one the queue is deleted whatever it holds.
const (
	IfUnused If = 1 << iota // it has no subscription
	IfEmpty                 // it has no message, neither waiting nor in a consumer's hands
)

// QueueInfo describes a queue at one moment.
type QueueInfo = sealmq.QueueInfo
