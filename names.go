package sealmq

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxNameBytes is the maximum length of names and message ids (CipherMQ specification, R36).
const MaxNameBytes = 255

// CheckName checks a name of the given kind ("queue", "exchange", "routing key", "message
// id"). It refuses white space and control characters, because a name is one word in a line
// of the text protocol. The error has code BadName and is safe to show to a peer.
func CheckName(kind, name string) error {
	switch {
	case name == "":
		return &Error{Code: BadName, Message: kind + " is empty"}
	case len(name) > MaxNameBytes:
		return &Error{Code: BadName, Message: fmt.Sprintf("%s is longer than %d bytes", kind, MaxNameBytes)}
	}
	for i := 0; i < len(name); i++ {
		c := name[i]
		if c >= utf8.RuneSelf {
			return checkNameRunes(kind, name[i:])
		}
		if c <= ' ' || c == 0x7f {
			return badNameRune(kind)
		}
	}
	return nil
}

func checkNameRunes(kind, rest string) error {
	for i, r := range rest {
		if r == utf8.RuneError {
			if _, n := utf8.DecodeRuneInString(rest[i:]); n == 1 {
				return &Error{Code: BadName, Message: kind + " is not valid UTF-8"}
			}
		}
		if unicode.IsSpace(r) || unicode.IsControl(r) {
			return badNameRune(kind)
		}
	}
	return nil
}

func badNameRune(kind string) error {
	return &Error{Code: BadName, Message: kind + " contains white space or a control character"}
}

// CheckLine refuses text that could break a line of a protocol or of a log. The error has the
// given code and is safe to show to a peer.
func CheckLine(what, text string, code Code) error {
	if !utf8.ValidString(text) {
		return &Error{Code: code, Message: what + " is not valid UTF-8"}
	}
	for _, r := range text {
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' {
			return &Error{Code: code, Message: what + " contains a control character or a line break"}
		}
	}
	return nil
}

// OneLine makes one line of text that CheckLine accepts, cut after max bytes.
func OneLine(text string, max int) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && !unicode.IsSpace(r) {
			return '?'
		}
		return r
	}, strings.Join(strings.Fields(strings.ToValidUTF8(text, "?")), " "))
	if len(text) > max {
		text = strings.ToValidUTF8(text[:max], "")
	}
	return text
}
