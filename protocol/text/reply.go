package text

import (
	"crypto/rand"
	"encoding/hex"
	"unicode"
	"unicode/utf8"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/protocol"
)

// The literal replies. Those in the first block are CipherMQ's and must not change:
// clients compare whole lines (specification R5).
const (
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

	unknownCommand     = "Unknown command"
	missingQueue       = "Missing queue name"
	missingExchange    = "Missing exchange name"
	missingParameters  = "Missing parameters"
	missingMessageID   = "Missing message ID"
	missingClient      = "Missing client ID"
	missingClientOrKey = "Missing client ID or public key"
	missingKey         = "Missing public key"

	prefixAck            = "ACK "
	prefixAckConfirmed   = "ACK_CONFIRMED "
	prefixMessage        = "Message: "
	prefixPublicKey      = "Public key: "
	prefixStats          = "Stats: "
	prefixError          = "Error: "
	badMessage           = "Invalid message format: "
	badBatch             = "Invalid batch format: "
	prefixRegisteringKey = "Error registering key: "
	suffixForMessage     = " for message "
	textDuplicate        = "Duplicate message "
	textDuplicateEnd     = " ignored"
)

// The replies that SealMQ adds.
const (
	replyQueueUnbound     = "Queue unbound\n"
	replyExchangeDeleted  = "Exchange deleted\n"
	replyMetaOn           = "Meta on\n"
	replyMetaOff          = "Meta off\n"
	replyMetaEnds         = "Meta ends\n"
	replyCodesOn          = "Codes on\n"
	replyCodesOff         = "Codes off\n"
	replyPong             = "Pong\n"
	replyConnectionClosed = "Connection closed\n"

	prefixCoded         = "Error "
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

// explain is what a peer may know of an error. An internal error goes to the log with an
// id, and the peer gets the id.
func (s *Session) explain(verb Verb, err error) (code sealmq.Code, sentence string) {
	if r, ok := protocol.ReplyTo(err); ok {
		s.metrics.refused(r.Code)
		return r.Code, r.Sentence
	}
	var raw [4]byte
	_, _ = rand.Read(raw[:])
	id := hex.EncodeToString(raw[:])
	s.metrics.fault(faultInternal)
	s.log.Error("internal error answered", "command", s.table[verb].word, "error_id", id, "err", err)
	return codeInternal, "internal error (" + id + ")"
}

// codeInternal is the code on the wire of an error without a code.
const codeInternal sealmq.Code = "internal"

// appendError appends an error line: to a peer that asked for codes in the one form that
// has them, to others as CipherMQ's clients expect it, with classic at its beginning.
func (g *group) appendError(dst []byte, classic string, code sealmq.Code, sentence string) []byte {
	return append(appendFree(g.beginError(dst, classic, code), sentence), '\n')
}

func (g *group) beginError(dst []byte, classic string, code sealmq.Code) []byte {
	if g.coded {
		return append(append(append(dst, prefixCoded...), code...), ": "...)
	}
	return append(dst, classic...)
}

// maxFreeBytes bounds what is echoed in an error text.
const maxFreeBytes = 1024

// appendFree appends free text as a part of one line of valid UTF-8, because a name in it
// may be what a client made up.
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
// (specification R14, R17, R18).
func (g *group) appendPublishError(dst, id []byte, err error) []byte {
	code, sentence := g.s.explain(g.verb, err)
	dst = g.beginError(dst, prefixError, code)
	if code == sealmq.Duplicate {
		dst = append(append(append(dst, textDuplicate...), id...), textDuplicateEnd...)
	} else {
		dst = appendFree(dst, sentence)
	}
	if g.batch {
		dst = append(append(dst, suffixForMessage...), id...)
	}
	return append(dst, '\n')
}
