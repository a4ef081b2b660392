package pipeline

import (
	"context"
	"errors"
	"time"
)

// ErrUnsent is in the error of a call of Main that did not leave: no entry is to blame for it.
var ErrUnsent = errors.New("nothing was sent")

// Main is the main server as proxies and workers see it: the service itself in one
// process, an HTTPS client between processes. The caller is known from the connection; in
// one process the caller is given when the value is made.
//
// Batches have 1 to MaxBatch entries; result i answers entry i. An error is for the whole
// call: code Unavailable if the main server or its database cannot be reached, Denied if
// the caller may not do this. The methods are safe for concurrent use.
type Main interface {
	// Register stores rows for items that were enqueued. A row that is there stays as it
	// is. It may wait up to a second for the delivery of the same item. Proxies and workers may
	// call it.
	Register(ctx context.Context, items []Item) ([]Result, error)
	// Deliver stores the items as delivered, and makes the rows that are missing. Workers
	// may call it.
	Deliver(ctx context.Context, worker string, items []Item) ([]Result, error)
	// Status changes rows. Workers may call it.
	Status(ctx context.Context, updates []Update) ([]Result, error)
	// Find returns the state of a client's message; found is false if it has no row, as
	// happens for up to a second after it was queued. Proxies and workers may call it.
	Find(ctx context.Context, clientID, messageID string) (m MessageState, found bool, err error)
	// Keys returns what proxies seal and make ids with.
	Keys(ctx context.Context) (Keys, error)
}

// Keys are what proxies need of the main server.
type Keys struct {
	// Entries are its key entries (seal.ParseKeyEntry), the one to seal for first.
	Entries [][]byte
	// IDKey is a secret of IDKeyBytes that all proxies make ids and digests with (MessageIDFor,
	// DigestOf). Callers that are no proxies do not get it.
	IDKey []byte
}

// State is the state of a message's row (specification 5.5).
type State string

// The states.
const (
	Queued     State = "queued"
	Processing State = "processing"
	Delivered  State = "delivered"
	Failed     State = "failed"
)

// MessageState is what a client is told about its own message.
type MessageState struct {
	MessageID string    `json:"message_id"`
	ClientID  string    `json:"client_id"`
	ClientKey string    `json:"client_key,omitempty"`
	State     State     `json:"status"`
	Attempts  int       `json:"attempt_count"`
	Domain    string    `json:"domain,omitempty"`
	QueuedAt  time.Time `json:"queued_at"`
	// DeliveredAt is zero unless State is Delivered.
	DeliveredAt time.Time `json:"delivered_at,omitzero"`
	// Error says why the last attempt failed.
	Error string `json:"error_message,omitempty"`
}

// Update changes the state of one message.
type Update struct {
	MessageID string `json:"message_id"`
	// ClientID may be empty if the id is unique.
	ClientID string `json:"client_id,omitempty"`
	State    State  `json:"status"`
	Attempts int    `json:"attempt_count"`           // -1 leaves the count as it is
	Error    string `json:"error_message,omitempty"` // why it failed; cut at 500 characters
	Worker   string `json:"worker_id,omitempty"`
	// At is when an attempt failed, if it is reported later than it could be: then it goes into
	// the history of the message, and changes nothing that is newer.
	At time.Time `json:"at,omitzero"`
}

// Result answers one entry of a call to Main.
type Result struct {
	MessageID string       `json:"message_id"`
	Status    ResultStatus `json:"status"`
	RowID     int64        `json:"id,omitempty"`
	// At is when it was registered, delivered or updated: the first time, if it had been
	// before.
	At time.Time `json:"at,omitzero"`
	// State is the state of the row afterwards.
	State State `json:"state,omitempty"`
	// Reason is a sentence for Invalid, Conflict, Refused and Unavailable.
	Reason string `json:"reason,omitempty"`
}

// ResultStatus says what became of an entry (specification 5.1).
type ResultStatus string

// The statuses.
const (
	StatusRegistered ResultStatus = "registered"
	StatusDuplicate  ResultStatus = "duplicate" // registered before, with the same content
	StatusConflict   ResultStatus = "conflict"  // the id is there with another content
	StatusInvalid    ResultStatus = "invalid"   // the item breaks a rule, or cannot be opened; it will not be taken later either
	StatusRefused    ResultStatus = "refused"   // this client or its proxy may not, which an administrator can change, or the database takes no such row
	// StatusUnavailable says that the entry cannot be taken now: the same one may be later,
	// once an operator has repaired something.
	StatusUnavailable ResultStatus = "unavailable"
	StatusDelivered   ResultStatus = "delivered"
	StatusAlready     ResultStatus = "already" // delivered before
	StatusUpdated     ResultStatus = "updated"
	StatusKept        ResultStatus = "kept" // the change was not applied: the life cycle does not have it
	StatusNotFound    ResultStatus = "not_found"
)
