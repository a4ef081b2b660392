package text

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"unicode"
	"unicode/utf8"

	"github.com/sealmq/sealmq"
)

// The literal replies. Those in the first block are CipherMQ's and must not change:
// clients compare whole lines (specification R5).
const (
	replyUnknown            = "Unknown command\n"
	replyQueueDeclared      = "Queue declared\n"
	replyExchangeDeclared   = "Exchange declared\n"
	replyQueueBound         = "Queue bound\n"
	replySubscribed         = "Subscribed to queue\n"
	replyNoMessages         = "No messages\n"
	replyStatsReset         = "Stats reset\n"
	replyKeyRegistered      = "Public key registered\n"
	replyNoKeyV13           = "No public key found\n"
	replyNoKey              = "Public key not found\n"
	replyResend             = "Resend requested\n"
	replyResendUnauthorized = "Unauthorized resend request\n"
	replyResendUnknown      = "Message ID not found\n"
	replyResendFailed       = "Error retrieving message metadata\n"

	replyMissingQueue       = "Missing queue name\n"
	replyMissingExchange    = "Missing exchange name\n"
	replyMissingParameters  = "Missing parameters\n"
	replyMissingMessageID   = "Missing message ID\n"
	replyMissingClient      = "Missing client ID\n"
	replyMissingClientOrKey = "Missing client ID or public key\n"
	replyMissingKey         = "Missing public key\n"

	prefixAck             = "ACK "
	prefixAckConfirmed    = "ACK_CONFIRMED "
	prefixMessage         = "Message: "
	prefixPublicKey       = "Public key: "
	prefixStats           = "Stats: "
	prefixError           = "Error: "
	prefixBadMessage      = "Invalid message format: "
	prefixBadBatch        = "Invalid batch format: "
	prefixRegisteringKey  = "Error registering key: "
	suffixForMessage      = " for message "
	textDuplicate         = "Duplicate message "
	textDuplicateEnd      = " ignored"
	internalErrorTextHead = "internal error ("
)

// The replies that SealMQ adds.
const (
	replyQueueUnbound     = "Queue unbound\n"
	replyExchangeDeleted  = "Exchange deleted\n"
	replyMetaOn           = "Meta on\n"
	replyMetaOff          = "Meta off\n"
	replyMetaEnds         = "Meta ends\n"
	replyPong             = "Pong\n"
	replyConnectionClosed = "Connection closed\n"

	prefixQueueDeleted  = "Queue deleted "
	prefixQueuePurged   = "Queue purged "
	prefixMoved         = "Moved "
	prefixNackConfirmed = "NACK_CONFIRMED "
	prefixReleased      = "RELEASE_CONFIRMED "
	prefixExtended      = "EXTEND_CONFIRMED "
	prefixPrefetch      = "Prefetch "
	prefixMeta          = "Meta: "
	prefixEnded         = "Ended: "
	prefixMessages      = "Messages: "
	prefixQueues        = "Queues: "
	prefixQueue         = "Queue: "
	prefixExchanges     = "Exchanges: "
	prefixConnections   = "Connections: "
	prefixWhoami        = "Whoami: "
)

// codeTexts is the one table from error codes to what a peer reads after "Error: ",
// for an error that brings no sentence of its own. An error whose code is not here is
// an internal error.
var codeTexts = map[sealmq.Code]string{
	sealmq.BadName:      "the name is not valid",
	sealmq.BadArgument:  "the argument is not valid",
	sealmq.NoExchange:   "no such exchange",
	sealmq.NoQueue:      "no such queue",
	sealmq.NoKey:        "no such key",
	sealmq.Unroutable:   "no queue is bound for this routing key",
	sealmq.Mismatch:     "it exists with other options",
	sealmq.Duplicate:    "the message id was used for other content",
	sealmq.QueueFull:    "the queue is full",
	sealmq.TooLarge:     "the message is too large",
	sealmq.NotSealed:    "the queue takes sealed messages only",
	sealmq.LimitReached: "a limit of the broker is reached",
	sealmq.Denied:       "not allowed",
	sealmq.NoStorage:    "the broker's disk is full; try again later",
	sealmq.Unsupported:  "the storage engine cannot do this",
	sealmq.InUse:        "it is still in use",
	sealmq.NotHeld:      "this connection does not hold the message",
	sealmq.Unavailable:  "the broker is stopping or its store has failed",
}

// errorText is what a peer may read about err. ok is false for an error that has no
// code: it may carry anything, so nothing of it is shown.
func errorText(err error) (text string, ok bool) {
	var e *sealmq.Error
	if !errors.As(err, &e) {
		return "", false
	}
	text, ok = codeTexts[e.Code]
	if ok && e.Message != "" {
		text = e.Message
	}
	return text, ok
}

// explain is errorText for a session: an internal error goes to the log with an id,
// and the peer gets the id.
func (s *Session) explain(verb Verb, err error) string {
	if text, ok := errorText(err); ok {
		s.metrics.refused(sealmq.CodeOf(err))
		return text
	}
	var raw [4]byte
	_, _ = rand.Read(raw[:])
	id := hex.EncodeToString(raw[:])
	s.metrics.fault(faultInternal)
	s.log.Error("internal error answered", "command", s.table[verb].word, "error_id", id, "err", err)
	return internalErrorTextHead + id + ")"
}

// appendLine appends one reply line whose free text may hold anything: it is made one
// line of valid UTF-8, because a name in it may be what a client made up.
func appendLine(dst []byte, prefix, free string) []byte {
	dst = append(dst, prefix...)
	dst = appendFree(dst, free)
	return append(dst, '\n')
}

// maxFreeBytes bounds what is echoed in an error text.
const maxFreeBytes = 1024

func appendFree(dst []byte, free string) []byte {
	if len(free) > maxFreeBytes {
		free = free[:maxFreeBytes] + "…"
	}
	for _, r := range free {
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' {
			r = '?'
		}
		dst = utf8.AppendRune(dst, r)
	}
	return dst
}

// appendPublishError appends the reply to one publish that was not stored
// (specification R14, R17, R18). batch adds the suffix that tells the elements of a
// publish_batch apart.
func (s *Session) appendPublishError(dst, id []byte, batch bool, err error) []byte {
	dst = append(dst, prefixError...)
	if sealmq.CodeOf(err) == sealmq.Duplicate {
		s.metrics.refused(sealmq.Duplicate)
		dst = append(append(append(dst, textDuplicate...), id...), textDuplicateEnd...)
	} else {
		dst = appendFree(dst, s.explain(Publish, err))
	}
	if batch {
		dst = append(append(dst, suffixForMessage...), id...)
	}
	return append(dst, '\n')
}
