package sealmq

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Defaults and bounds of queue options.
const (
	// DefaultMaxLineBytes is the longest line that every known CipherMQ client can
	// read (specification 3.4, R29).
	DefaultMaxLineBytes = 65_536
	// MaxLineBytes is the largest value of QueueOptions.MaxLineBytes.
	MaxLineBytes = 4 << 20
	// DefaultPrefetch is the credit of a consumer that asked for nothing else.
	DefaultPrefetch = 100
	// MaxPrefetch bounds what one consumer can hold unacknowledged.
	MaxPrefetch = 10_000
	// DefaultDeliveryLimit is how often a message is delivered before it is dead-lettered.
	DefaultDeliveryLimit = 16
	// DefaultAckTimeout is how long a delivery may stay unacknowledged on a
	// connection that sends no ack at all.
	DefaultAckTimeout = 30 * time.Second
	// DefaultDeadMaxMessages and DefaultDeadMaxBytes bound a dead-letter queue that
	// the broker creates by itself. At the bound its oldest messages are removed and counted.
	DefaultDeadMaxMessages = 100_000
	DefaultDeadMaxBytes    = 256 << 20
)

// DeadSuffix is appended to a queue's name to name its dead-letter queue.
const DeadSuffix = ".dead"

// The reasons of dead letters for which nobody gave one.
const (
	DeathRejected      = "rejected"       // a consumer asked for it
	DeathDeliveryLimit = "delivery limit" // it came back once too often
)

// DeadLetterOptions are the options of a dead-letter queue that is created for a queue
// with options o: bounded, and able to take every message that o lets in.
func DeadLetterOptions(o QueueOptions) QueueOptions {
	return QueueOptions{
		MaxMessages:  DefaultDeadMaxMessages,
		MaxBytes:     DefaultDeadMaxBytes,
		MaxLineBytes: o.MaxLineBytes,
		DropOldest:   true,
	}.Normalize()
}

// PushOverheadBytes is what "Message: <id> <body>" adds to id and body, without the
// line feed. A push must fit in the queue's MaxLineBytes.
const PushOverheadBytes = len("Message: ") + 1

// QueueOptions are what a queue is declared with. The zero value of a field means
// its default; Normalize fills the defaults in. The JSON form, that of the declare_queue
// command, has the same fields in lower case with underscores (queuejson.go).
type QueueOptions struct {
	// MaxMessages and MaxBytes refuse a publish that would exceed them; waiting,
	// unacknowledged and not yet synced messages count. 0 is no limit.
	MaxMessages int64
	MaxBytes    int64
	// TTL removes a message that waits longer; 0 keeps it for ever.
	TTL time.Duration
	// DeliveryLimit dead-letters a message that comes back after so many deliveries.
	DeliveryLimit uint32
	// AckTimeout returns a delivery to the queue.
	AckTimeout time.Duration
	// Prefetch is the credit of its consumers unless they ask for another.
	Prefetch int
	// MaxLineBytes bounds a pushed line of the text protocol, without its line feed.
	MaxLineBytes int
	// DropOldest removes the oldest messages at the limit instead of refusing.
	DropOldest bool
	// Sealed makes a queue for ciphertext only: a publish is refused whose body is not a
	// well-formed sealed envelope of one of these suites. It is their names in order, joined
	// by commas (SealedSuites makes it); empty lets everything in. What is dead-lettered or
	// moved to the queue is not looked at again.
	Sealed string
}

// MaxSealedSuites bounds the suites of QueueOptions.Sealed.
const MaxSealedSuites = 16

// SealedSuites makes a value of QueueOptions.Sealed.
func SealedSuites(suites ...string) string {
	suites = slices.Clone(suites)
	slices.Sort(suites)
	return strings.Join(slices.Compact(suites), ",")
}

// Suites are the suites that Sealed names, nil if it names none.
func (o QueueOptions) Suites() []string {
	if o.Sealed == "" {
		return nil
	}
	return strings.Split(o.Sealed, ",")
}

// validateSealed demands the one spelling of a list. Which suites there are is known
// elsewhere.
func (o QueueOptions) validateSealed() error {
	suites := o.Suites()
	if len(suites) > MaxSealedSuites {
		return fmt.Errorf("sealed names more than %d suites", MaxSealedSuites)
	}
	for _, s := range suites {
		if err := CheckName("suite in sealed", s); err != nil {
			return err
		}
	}
	if SealedSuites(suites...) != o.Sealed {
		return errors.New("sealed does not name its suites in order, each once")
	}
	return nil
}

// Normalize returns o with defaults filled in.
func (o QueueOptions) Normalize() QueueOptions {
	if o.DeliveryLimit == 0 {
		o.DeliveryLimit = DefaultDeliveryLimit
	}
	if o.AckTimeout == 0 {
		o.AckTimeout = DefaultAckTimeout
	}
	if o.Prefetch == 0 {
		o.Prefetch = DefaultPrefetch
	}
	if o.MaxLineBytes == 0 {
		o.MaxLineBytes = DefaultMaxLineBytes
	}
	return o
}

// Validate reports the first option that is out of its range, with code BadArgument.
func (o QueueOptions) Validate() error {
	bad := func(format string, args ...any) error {
		return &Error{Code: BadArgument, Message: fmt.Sprintf(format, args...)}
	}
	switch {
	case o.MaxMessages < 0:
		return bad("max_messages is negative")
	case o.MaxBytes < 0:
		return bad("max_bytes is negative")
	case o.TTL < 0 || o.TTL > 0 && o.TTL < time.Millisecond:
		return bad("ttl is shorter than a millisecond")
	case o.AckTimeout < 0 || o.AckTimeout > 0 && o.AckTimeout < time.Millisecond:
		return bad("ack_timeout is shorter than a millisecond")
	case o.Prefetch < 0 || o.Prefetch > MaxPrefetch:
		return bad("prefetch is not between 1 and %d", MaxPrefetch)
	case o.MaxLineBytes < 0 || o.MaxLineBytes > 0 && o.MaxLineBytes < 1024 || o.MaxLineBytes > MaxLineBytes:
		return bad("max_line_bytes is not between 1024 and %d", MaxLineBytes)
	}
	if err := o.validateSealed(); err != nil {
		return bad("%v", err)
	}
	return nil
}
