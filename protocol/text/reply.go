package text

import (
	"crypto/rand"
	"encoding/hex"
	"strings"
	"unicode"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/protocol"
)

// What is not a command's own reply. CipherMQ's clients compare whole lines (specification R5).
const (
	prefixAck     = "ACK "
	prefixMessage = "Message: "
	prefixMeta    = "Meta: "
	prefixEnded   = "Ended: "
	prefixError   = "Error: "
	prefixCoded   = "Error " // and a code
)

// explain is what a peer may know of an error. An internal error goes to the log with an
// id, and the peer gets the id.
func (s *Session) explain(verb Verb, err error) (code sealmq.Code, sentence string) {
	if code, sentence, ok := protocol.ReplyTo(err); ok {
		s.cfg.Metrics.refused(code)
		return code, sentence
	}
	var raw [4]byte
	_, _ = rand.Read(raw[:])
	id := hex.EncodeToString(raw[:])
	s.cfg.Metrics.fault(faultInternal)
	s.peer.Log.Error("internal error answered", "command", s.table[verb].word, "error_id", id, "err", err)
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

// classic is how CipherMQ's errors about a command begin.
func classic(v Verb) string {
	if v == RegisterKey {
		return "Error registering key: "
	}
	return prefixError
}

// maxFreeBytes bounds what is echoed in an error text.
const maxFreeBytes = 1024

// appendFree appends free text as a part of one line of valid UTF-8, because a name in it
// may be what a client made up.
func appendFree(dst []byte, free string) []byte {
	if len(free) > maxFreeBytes {
		free = free[:maxFreeBytes] + "…"
	}
	return append(dst, sealmq.Escape(strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' {
			return '?'
		}
		return r
	}, free))...)
}

// appendPublishError appends the reply to one publish that was not stored
// (specification R14, R17, R18).
func (g *group) appendPublishError(dst, id []byte, err error) []byte {
	code, sentence := g.s.explain(g.verb, err)
	dst = g.beginError(dst, prefixError, code)
	if code == sealmq.Duplicate {
		dst = append(append(append(dst, "Duplicate message "...), id...), " ignored"...)
	} else {
		dst = appendFree(dst, sentence)
	}
	if g.batch {
		dst = append(append(dst, " for message "...), id...)
	}
	return append(dst, '\n')
}
