package sealmq

import "slices"

// Code classifies an error for the peer. An error without a code, or with one that is not
// in the table of codes, is internal and is shown as a fixed sentence.
type Code string

// The codes. Codes explains each of them.
const (
	BadName      Code = "bad_name"
	BadArgument  Code = "bad_argument"
	NoExchange   Code = "no_exchange"
	NoQueue      Code = "no_queue"
	NoKey        Code = "no_key"
	Unroutable   Code = "unroutable"
	Mismatch     Code = "mismatch"
	Duplicate    Code = "duplicate"
	QueueFull    Code = "queue_full"
	TooLarge     Code = "too_large"
	NotSealed    Code = "not_sealed"
	LimitReached Code = "limit_reached"
	Denied       Code = "denied"
	NoStorage    Code = "no_storage"
	Unsupported  Code = "unsupported"
	InUse        Code = "in_use"
	NotHeld      Code = "not_held"
	Unavailable  Code = "unavailable"
)

// CodeInfo explains a code.
type CodeInfo struct {
	Code Code
	// Sentence is what a peer is told if the error has none of its own.
	Sentence string
	// Meaning says in one sentence what is wrong.
	Meaning string
	// Retry says whether the same command may succeed later, although its sender changes
	// nothing.
	Retry bool
	// Remedy says what to do. It is empty if the error's own sentence says that.
	Remedy string
}

// codes is the table of codes. docs/errors.md is made from it, and the command line
// prints the remedies as hints.
var codes = [...]CodeInfo{
	{BadName, "the name is not valid", "A name of an exchange, a queue, a key or a message is not valid.", false,
		"use 1 to 255 bytes of UTF-8 without white space and control characters, and in a new name only characters that can be seen"},
	{BadArgument, "the argument is not valid", "An argument of the command, or the message itself, is not valid.", false, ""},
	{NoExchange, "no such exchange", "The exchange does not exist.", false,
		`bind a queue first, with "sealmq bind QUEUE EXCHANGE KEY" or with --declare`},
	{NoQueue, "no such queue", "The queue does not exist.", false, `"sealmq queue list" shows all queues`},
	{NoKey, "no such key", "The key directory has no such key.", false,
		`its owner publishes it with "sealmq key publish NAME --as NAME"`},
	{Unroutable, "no queue is bound for this routing key", "The exchange has no binding for the routing key. The message was not stored.", false,
		`bind a queue first, with "sealmq bind QUEUE EXCHANGE KEY" or with --declare`},
	{Mismatch, "it exists with other options", "A queue or an exchange with this name exists with other options, or a key entry does not follow the current one.", false,
		"omit the options to use it as it is, or change a queue's with \"sealmq queue change\"; an exchange's kind cannot be changed"},
	{Duplicate, "the message id was used for other content", "The message id was used before, with another exchange, routing key or body. The message was not stored.", false,
		"give every message its own id; if you send a message again, do not change it"},
	{QueueFull, "the queue is full", "A queue of the message is at its limit, or the broker is at its limit of messages or memory. The message was not stored.", true,
		"wait until consumers have taken messages from the queue, or add consumers"},
	{TooLarge, "the message is too large", "The message is longer than the queue's limit, or the request is longer than the broker's.", false,
		`allow longer lines with "sealmq queue declare QUEUE --max-line-bytes SIZE", or "sealmq queue change" for an existing queue`},
	{NotSealed, "the queue takes sealed messages only", "The queue accepts only messages that are sealed with certain suites.", false,
		"send with a receiver's key of one of the suites that the error names"},
	{LimitReached, "a limit of the broker is reached", "A limit on definitions, on changes of keys, or on connections is reached.", false,
		"remove what is not needed, or raise the limit in the broker's configuration"},
	{Denied, "not allowed", "The identity has no permission for the command.", false,
		"use an identity with permission, for example --as admin"},
	{NoStorage, "the broker's disk is full; try again later", "The broker's disk is full or almost full. The message was not stored.", true,
		"free some space on the broker's disk, of which storage.min_free_bytes stays free; then publishing goes on by itself"},
	{Unsupported, "the storage engine cannot do this", "The broker does not know the command, or its storage engine cannot carry it out.", false,
		"upgrade the broker, or do without the command or option"},
	{InUse, "it is still in use", "Another change of the same object is under way, or the object is still used.", true,
		"try again later, or remove what still uses it"},
	{NotHeld, "this connection does not hold the message", "The connection does not hold the delivery: it is settled, or the broker took it back after the ack timeout.", false,
		"settle a delivery within the queue's ack timeout, or extend it; the message will be delivered again"},
	{Unavailable, "the broker is stopping or its store has failed", "The broker is stopping, or its store has failed.", true,
		"connect again when the broker runs; its log says why it stopped"},
}

// Codes is the table of codes.
func Codes() []CodeInfo { return slices.Clone(codes[:]) }

// Info explains a code; for an unknown one it has only the code.
func (c Code) Info() CodeInfo {
	for _, info := range codes {
		if info.Code == c {
			return info
		}
	}
	return CodeInfo{Code: c}
}
