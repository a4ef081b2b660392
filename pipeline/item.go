package pipeline

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	jsonv2 "github.com/go-json-experiment/json"
)

// QueueName is the name of the pipeline's queue.
const QueueName = "message_queue"

// Limits of what clients submit.
const (
	// DefaultMaxBody is the default limit of a text, in Unicode code points.
	DefaultMaxBody = 1000
	// MaxBody is the largest limit of a text that can be configured, in code points.
	MaxBody = 64 << 10
	// MaxMetadataBytes and MaxMetadataKeys bound an item's metadata, as JSON.
	MaxMetadataBytes = 4096
	MaxMetadataKeys  = 32
	// MaxKeyBytes bounds the key that a client gives a message.
	MaxKeyBytes = 128
	// MaxBatch is how many messages one call carries.
	MaxBatch = 500
	// MaxAttempts is the default number of deliveries that are tried.
	MaxAttempts = 10_000
	// RetryInterval is the default time between two deliveries of one item.
	RetryInterval = 30 * time.Second
	// MinNumber and MaxNumber bound the length of a number, its plus sign included.
	// DefaultMinNumber is the default of the shortest one that is taken.
	MinNumber        = 3
	DefaultMinNumber = 8
	MaxNumber        = 16
)

// DefaultDomain is the domain of messages that name none.
const DefaultDomain = "default"

// EncHPKE is the value of Item.Enc for items that SealItem made.
const EncHPKE = "hpke-v1"

// Item is what waits in the queue for one message. In JSON it is the object of the queue
// that outside programs see (specification 4.2).
type Item struct {
	// MessageID is ours: see NewMessageID. Items of other producers have other ids of up to
	// 36 characters.
	MessageID string `json:"message_id"`
	// ClientID is whose message it is. The proxy takes it from the client's identity.
	ClientID string `json:"client_id"`
	// ClientKey is the client's own key for the message, or empty.
	ClientKey string    `json:"client_key,omitempty"`
	Domain    string    `json:"domain,omitempty"`
	QueuedAt  time.Time `json:"queued_at"`
	// AttemptCount is how many deliveries have been tried. A queue that counts them itself
	// fills it in when the item is taken.
	AttemptCount int `json:"attempt_count"`
	// Enc says how Sealed is to be read: EncHPKE. It is empty for an item in clear, which a
	// queue takes from foreign producers only.
	Enc string `json:"enc,omitempty"`
	// Sealed is an envelope of package seal around the Content.
	Sealed json.RawMessage `json:"sealed,omitempty"`
	// SenderNumber, MessageBody and Metadata are set in items in clear only.
	SenderNumber string          `json:"sender_number,omitempty"`
	MessageBody  string          `json:"message_body,omitempty"`
	Metadata     json.RawMessage `json:"metadata,omitempty"`
	// Digest tells repeats of an id with the same content from those with another: both are
	// sealed again, so their bytes differ. It is a keyed hash (DigestOf), so that it tells a
	// reader of the queue nothing.
	Digest []byte `json:"digest,omitempty"`
}

// Content is what nobody between proxy and main server reads.
type Content struct {
	SenderNumber string `json:"sender_number"`
	MessageBody  string `json:"message_body"`
	// Metadata is what else the client said, a JSON object, or nil.
	Metadata json.RawMessage `json:"metadata,omitempty"`
}

// ErrMalformed says that bytes are no item.
var ErrMalformed = errors.New("malformed item")

// ParseItem reads an item of a queue. The error wraps ErrMalformed; it does not show what
// the item contains.
func ParseItem(b []byte) (Item, error) {
	var it Item
	if err := jsonv2.Unmarshal(b, &it); err != nil {
		return it, fmt.Errorf("%w: it is not the JSON of an item", ErrMalformed)
	}
	switch {
	case !messageID.MatchString(it.MessageID):
		return it, fmt.Errorf("%w: it has no usable message_id", ErrMalformed)
	case it.ClientID == "" || len(it.ClientID) > 255:
		return it, fmt.Errorf("%w: it has no usable client_id", ErrMalformed)
	case it.AttemptCount < 0:
		return it, fmt.Errorf("%w: its attempt_count is negative", ErrMalformed)
	case it.Enc != "" && it.Enc != EncHPKE:
		return it, fmt.Errorf("%w: it is sealed in a way that this version does not know", ErrMalformed)
	case (it.Enc != "") != (len(it.Sealed) > 0):
		return it, fmt.Errorf("%w: enc and sealed do not go together", ErrMalformed)
	}
	if it.Domain == "" {
		it.Domain = DefaultDomain
	}
	return it, nil
}

// A FieldError says which value of a request breaks a rule.
type FieldError struct {
	Field  string // its name in JSON
	Type   string // missing, value_error, string_too_short, string_too_long
	Reason string // a sentence; it does not repeat the value
}

// Error implements error.
func (e *FieldError) Error() string { return e.Reason }

var (
	number    = regexp.MustCompile(`^\+[1-9][0-9]{1,14}$`)
	messageID = regexp.MustCompile(`^[A-Za-z0-9._:-]{1,36}$`)
	domain    = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$`)
)

// CheckNumber checks a phone number: E.164 in ASCII, least to MaxNumber characters long. The
// error is a *FieldError.
func CheckNumber(s string, least int) error {
	switch {
	case s == "":
		return &FieldError{"sender_number", "missing", "Field required"}
	case len(s) < least || !number.MatchString(s):
		return &FieldError{"sender_number", "value_error",
			fmt.Sprintf(`Invalid phone number format. Must match E.164 format: ^\+[1-9][0-9]{1,14}$, %d to %d characters`, least, MaxNumber)}
	}
	return nil
}

// CheckBody checks a text: up to limit code points of UTF-8, not only white space. The
// error is a *FieldError.
func CheckBody(s string, limit int) error {
	switch {
	case !utf8.ValidString(s):
		return &FieldError{"message_body", "value_error", "Message body is not valid UTF-8"}
	case strings.TrimFunc(s, unicode.IsSpace) == "":
		return &FieldError{"message_body", "string_too_short", "Message body cannot be empty"}
	case len(s) > limit && utf8.RuneCountInString(s) > limit:
		return &FieldError{"message_body", "string_too_long", fmt.Sprintf("Message body exceeds maximum length of %d characters", limit)}
	}
	return nil
}

// CheckDomain checks the name of a domain. The error is a *FieldError.
func CheckDomain(s string) error {
	if len(s) > 255 || !domain.MatchString(s) {
		return &FieldError{"domain", "value_error", "Domain must be 1 to 255 letters, digits, dots and hyphens, and begin and end with a letter or digit"}
	}
	return nil
}

// CheckMessageID checks an id of a message: 1 to 36 of the characters A-Z, a-z, 0-9, dot,
// underscore, colon and hyphen. The error is a *FieldError.
func CheckMessageID(s string) error {
	if !messageID.MatchString(s) {
		return &FieldError{"message_id", "value_error", "message_id must be 1 to 36 letters, digits, dots, underscores, colons and hyphens"}
	}
	return nil
}
