package records

import (
	"encoding/json"
	"time"

	"github.com/sealmq/sealmq/pipeline"
)

// states are all states, in the order of a message's life.
var states = []pipeline.State{pipeline.Queued, pipeline.Processing, pipeline.Delivered, pipeline.Failed}

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
