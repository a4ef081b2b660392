package records

import (
	"encoding/json"
	"time"
)

// State is the state of a message.
type State string

// The states.
const (
	Queued     State = "queued"
	Processing State = "processing"
	Delivered  State = "delivered"
	Failed     State = "failed"
)

// states are all states, in the order of a message's life.
var states = []State{Queued, Processing, Delivered, Failed}

// Message is a message in clear.
type Message struct {
	ID     string // 1 to 36 bytes
	Client string
	// ClientKey is the client's own key for the message, or empty.
	ClientKey string
	Domain    string // empty is DefaultDomain
	Number    string
	Body      string
	Metadata  json.RawMessage // or nil
	QueuedAt  time.Time       // zero is now
	// Sealed says that the message came sealed to the main server, and Proxy by whom. Proxy may be
	// empty.
	Sealed bool
	Proxy  string
}

// Delivery says that a message was delivered.
type Delivery struct {
	// Message names the message by ID and, unless the id is unique, by Client. With a Number
	// it is complete: then the row is made if it is missing, and compared if it is there.
	Message Message
	Worker  string
	// Attempts is how many attempts were made; -1 leaves the count as it is, and is 1 for a
	// row that is made.
	Attempts int
}

// Update changes the state of a message.
type Update struct {
	ID string
	// Client may be empty if the id is unique.
	Client   string
	State    State
	Attempts int    // -1 leaves the count as it is
	Error    string // why an attempt failed; cut at 500 characters
	Worker   string
	// At is when the attempt failed, for a report that comes later than other news of the
	// message: then it changes nothing that is newer. Zero is now.
	At time.Time
	// Requeue allows to move a failed message back to Queued. It is for administrators.
	Requeue bool
}

// Outcome says what became of an entry of a call.
type Outcome string

// The outcomes.
const (
	Registered   Outcome = "registered"
	Duplicate    Outcome = "duplicate" // registered before, with the same number and text
	Conflict     Outcome = "conflict"  // the id is there with another number or text
	Invalid      Outcome = "invalid"   // a value breaks a rule
	Refused      Outcome = "refused"   // the client is revoked or unknown, or the database takes no such row
	WasDelivered Outcome = "delivered"
	Already      Outcome = "already" // delivered before
	Updated      Outcome = "updated"
	Kept         Outcome = "kept" // the life cycle has no such change; the row stays as it is
	NotFound     Outcome = "not_found"
	// Unavailable says that a key is missing or is another one: nothing was done, and the same
	// entry may succeed once the key is back.
	Unavailable Outcome = "unavailable"
)

// Result answers one entry of a call.
type Result struct {
	Outcome Outcome
	RowID   int64
	// At is when it was registered, delivered or updated: the first time, if that was before.
	At time.Time
	// State is the state of the row afterwards.
	State State
	// Reason is a sentence for Conflict, Invalid, Refused and Unavailable. It repeats no value.
	Reason string
}

// DefaultDomain is the domain of a message that names none.
const DefaultDomain = "default"

// Limits.
const (
	// MaxBatch is how many entries a call may have.
	MaxBatch = 500
	// MaxBody is the length of the longest text in bytes.
	MaxBody = 256 << 10
	// MaxNumber is the length of the longest number in bytes.
	MaxNumber = 64
	// MaxMetadata is the length of the longest metadata in bytes.
	MaxMetadata = 16 << 10
	// MaxError is the length of the longest error text in characters.
	MaxError = 500
	maxID    = 36
	maxName  = 255
	maxKey   = 255
	maxWork  = 100
)
