package sealmq

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Defaults and limits of queue options.
const (
	// DefaultMaxLineBytes is the longest line that every known CipherMQ client can
	// read (specification 3.4, R29).
	DefaultMaxLineBytes = 65_536
	// MaxLineBytes is the largest value of QueueOptions.MaxLineBytes.
	MaxLineBytes = 4 << 20
	// DefaultPrefetch is the default credit of a consumer.
	DefaultPrefetch = 100
	// MaxPrefetch is the largest credit of a consumer.
	MaxPrefetch = 10_000
	// DefaultDeliveryLimit is how often a message is delivered before it is dead-lettered.
	DefaultDeliveryLimit = 16
	// DefaultAckTimeout is how long a delivery may stay unacknowledged on a connection
	// that sends no acks.
	DefaultAckTimeout = 30 * time.Second
	// DefaultDeadMaxMessages and DefaultDeadMaxBytes limit a dead-letter queue that the
	// broker creates. At a limit its oldest messages are dropped and counted.
	DefaultDeadMaxMessages = 100_000
	DefaultDeadMaxBytes    = 256 << 20
)

// CheckPrefetch checks the number of a prefetch.
func CheckPrefetch(n int) error {
	if n < 1 || n > MaxPrefetch {
		return &Error{Code: BadArgument, Message: fmt.Sprintf("prefetch is not between 1 and %d", MaxPrefetch)}
	}
	return nil
}

// DeadSuffix is appended to a queue's name to name its dead-letter queue.
const DeadSuffix = ".dead"

// The reasons of dead letters if the consumer gives none.
const (
	DeathRejected      = "rejected"       // by a consumer
	DeathDeliveryLimit = "delivery limit" // returned after its last allowed delivery
)

// DeadLetterOptions are the options of the dead-letter queue that is created for a queue
// with options o. It is bounded, accepts every message that the queue accepts, and belongs to the
// same owner.
func DeadLetterOptions(o QueueOptions) QueueOptions {
	return QueueOptions{
		MaxMessages:  DefaultDeadMaxMessages,
		MaxBytes:     DefaultDeadMaxBytes,
		MaxLineBytes: o.MaxLineBytes,
		DropOldest:   true,
		Private:      o.Private,
		Owner:        o.Owner,
	}.Normalize()
}

// PushOverheadBytes is the length that "Message: <id> <body>" adds to id and body, without
// the line feed. A push must fit in the queue's MaxLineBytes.
const PushOverheadBytes = len("Message: ") + 1

// QueueOptions are the options of a queue's declaration. A zero field has its default, which
// Normalize fills in. The JSON form of the declare_queue command has the same fields in
// lower case with underscores (queuejson.go).
type QueueOptions struct {
	// MaxMessages and MaxBytes are the maximum content of the queue; publishes beyond
	// are refused. Waiting, unacknowledged and not yet synced messages count. 0 is no
	// limit.
	MaxMessages int64
	MaxBytes    int64
	// TTL is how long a message may wait before it is removed; 0 is for ever.
	TTL time.Duration
	// DeliveryLimit is the number of deliveries after which a returned message is
	// dead-lettered.
	DeliveryLimit uint32
	// AckTimeout is how long a delivery may stay unacknowledged before it is returned.
	AckTimeout time.Duration
	// Prefetch is the default credit of the queue's consumers.
	Prefetch int
	// MaxLineBytes is the maximum length of a pushed line of the text protocol, without
	// its line feed.
	MaxLineBytes int
	// DropOldest drops the oldest messages at a limit instead of refusing publishes.
	DropOldest bool
	// Sealed makes a queue accept only ciphertext: a publish is refused if its body is not
	// a well-formed sealed envelope of one of these suites. The value is the sorted names
	// of the suites, joined by commas (see SealedSuites); empty accepts everything.
	// Messages that are dead-lettered or moved to the queue are not checked.
	Sealed string
	// Private lets nobody but the owner consume. Administrators may still look at the queue,
	// move its messages, purge and delete it.
	Private bool
	// Owner is who declared the queue, and not part of the JSON form: the broker sets it. The
	// zero value is the administrators.
	Owner Owner
}

// MaxSealedSuites is the maximum number of suites in QueueOptions.Sealed.
const MaxSealedSuites = 16

// SealedSuites makes a value of QueueOptions.Sealed.
func SealedSuites(suites ...string) string {
	suites = slices.Clone(suites)
	slices.Sort(suites)
	return strings.Join(slices.Compact(suites), ",")
}

// Suites are the suites in Sealed, or nil.
func (o QueueOptions) Suites() []string {
	if o.Sealed == "" {
		return nil
	}
	return strings.Split(o.Sealed, ",")
}

// validateSealed checks the form of the list. Package seal knows which suites exist.
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
	case o.Prefetch != 0 && CheckPrefetch(o.Prefetch) != nil:
		return CheckPrefetch(o.Prefetch)
	case o.MaxLineBytes < 0 || o.MaxLineBytes > 0 && o.MaxLineBytes < 1024 || o.MaxLineBytes > MaxLineBytes:
		return bad("max_line_bytes is not between 1024 and %d", MaxLineBytes)
	}
	if err := o.validateSealed(); err != nil {
		return bad("%v", err)
	}
	return nil
}

// QueueInfo describes a queue at one moment.
type QueueInfo struct {
	Name      string       `json:"name"`
	Owner     string       `json:"owner,omitempty"` // Options.Owner.ID; empty: the administrators
	Options   QueueOptions `json:"options"`
	Paused    bool         `json:"paused,omitempty"` // nothing is delivered
	Ready     int          `json:"ready"`            // waiting, delayed ones included
	Delayed   int          `json:"delayed"`          // waiting, and not due yet
	Unacked   int          `json:"unacked"`          // in consumers' hands
	Bytes     int64        `json:"bytes"`            // of bodies, ready and unacked
	Consumers int          `json:"consumers"`        // subscriptions
	// Oldest is when the message came to the queue that is at its front and not delayed: when
	// it was published, moved or dead-lettered. It is zero if there is none.
	Oldest time.Time `json:"oldest,omitzero"`
	// Totals since the broker was started.
	Published    uint64 `json:"published"`
	Delivered    uint64 `json:"delivered"`
	Acked        uint64 `json:"acked"` // by a consumer, or delivered without acknowledgement
	Returned     uint64 `json:"returned"`
	Expired      uint64 `json:"expired"`       // removed by the queue's TTL
	Dropped      uint64 `json:"dropped"`       // removed by drop_oldest, or by the verdict Drop
	DeadLettered uint64 `json:"dead_lettered"` // moved to the dead-letter queue
	Refused      uint64 `json:"refused"`       // publishes refused at a limit
}

// ExchangeInfo describes an exchange.
type ExchangeInfo struct {
	Name     string `json:"name"`
	Owner    string `json:"owner,omitempty"` // who declared it; empty: the administrators
	Kind     string `json:"kind"`            // direct, fanout or topic
	Bindings int    `json:"bindings"`
}

// BindingInfo is a binding of a queue to an exchange.
type BindingInfo struct {
	Queue    string `json:"queue"`
	Exchange string `json:"exchange"`
	Key      string `json:"key"` // a routing key, or a pattern if the exchange is a topic exchange
}

// BrokerStatus is how a broker is.
type BrokerStatus struct {
	Version     string    `json:"version"`
	Started     time.Time `json:"started"`
	Health      string    `json:"health"` // "ok", or what is wrong
	Connections int       `json:"connections"`
	Queues      int       `json:"queues"`
	Exchanges   int       `json:"exchanges"`
	Bindings    int       `json:"bindings"`
}

// ConnectionInfo describes an authenticated connection of the broker to operators.
type ConnectionInfo struct {
	ID       uint64    `json:"id"`
	Client   string    `json:"client"`   // the identity
	Issuer   string    `json:"issuer"`   // of the identity
	Role     string    `json:"role"`     // of the identity
	Serial   string    `json:"serial"`   // of the certificate
	Address  string    `json:"address"`  // of the peer
	Protocol string    `json:"protocol"` // "" until it is known
	Since    time.Time `json:"since"`
	Commands uint64    `json:"commands"`
	Unacked  int       `json:"unacked"`
	BytesIn  uint64    `json:"bytes_in"`
	BytesOut uint64    `json:"bytes_out"`
	Prefetch int       `json:"prefetch,omitempty"` // that it asked for; 0: what its queues say
	Consumes []string  `json:"consumes,omitempty"` // the queues
}

// KeyInfo describes a key in a broker's key directory. It is the broker's word: package keydir
// checks what it proves.
type KeyInfo struct {
	Client string `json:"client"`
	Suite  string `json:"suite,omitempty"` // a bare key has none
	// Proven says that the owner has signed the entry.
	Proven      bool      `json:"proven"`
	Issuer      string    `json:"issuer,omitempty"` // the authority of who published it
	Fingerprint string    `json:"fingerprint"`
	Entry       uint64    `json:"entry,omitempty"` // its number, counted by the owner
	Record      int64     `json:"record"`          // its place in the log; -1 if it has none
	Since       time.Time `json:"since,omitzero"`  // when the owner signed it
}

// Who is what a broker knows of a client.
type Who struct {
	ID         string `json:"id"`
	Issuer     string `json:"issuer"`
	CommonName string `json:"common_name"`
	Role       Role   `json:"role"`
	// DedupWindow and DedupMaxIDs are for how many seconds, and until how many others were
	// settled, the broker remembers the id of a settled message; 0 if it does not say.
	DedupWindow int64 `json:"dedup_window_s,omitempty"`
	DedupMaxIDs int   `json:"dedup_max_ids,omitempty"`
	// DedupReach is for how many seconds back it remembers all ids now: less than DedupWindow
	// if DedupMaxIDs was reached, nil if it does not say.
	DedupReach *int64 `json:"dedup_reach_s,omitempty"`
}

// Bounds of a peek.
const (
	DefaultPeek = 10  // messages that are shown if no number is given
	MaxPeek     = 100 // the most that are shown
)

// MaxMoveIDs is the most ids of messages that are moved with one call.
const MaxMoveIDs = 1000

// PeekedMessage is a waiting message that was looked at and not taken.
type PeekedMessage struct {
	ID          string          `json:"id"`
	Seq         uint64          `json:"seq"` // its place: it ascends in the order of the queue
	Publisher   string          `json:"publisher"`
	Exchange    string          `json:"exchange"`
	Key         string          `json:"key"`
	Time        time.Time       `json:"time"`
	Attempts    uint32          `json:"attempts"`
	DeathReason string          `json:"death_reason,omitempty"`
	DeathQueue  string          `json:"death_queue,omitempty"`
	Size        int             `json:"size"`
	Body        json.RawMessage `json:"body,omitempty"`        // unless it is too large to be shown
	BodyBytes   []byte          `json:"body_base64,omitempty"` // of a body that is not JSON
}

// Hidden reports whether the broker has not shown the body, because it is too large, or because
// those before it on the page are.
func (m *PeekedMessage) Hidden() bool { return len(m.Body)+len(m.BodyBytes) == 0 && m.Size > 0 }

// CutPage cuts a page of Manager.Peek off in front of a hidden body that may be shown at the front
// of the next page, and returns where that begins.
func CutPage(page []PeekedMessage) (cut []PeekedMessage, next uint64) {
	for i := range page {
		if i > 0 && page[i].Hidden() {
			return page[:i], page[i].Seq
		}
		next = page[i].Seq + 1
	}
	return page, next
}
