package sealmq

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf16"
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

// CheckNewName is CheckName for a name that is about to be made. It also refuses characters
// that are not Visible. A name that is stored already may have them.
func CheckNewName(kind, name string) error {
	if err := CheckName(kind, name); err != nil {
		return err
	}
	if strings.ContainsFunc(name, func(r rune) bool { return !Visible(r) }) {
		return &Error{Code: BadName, Message: kind + " contains a character that cannot be seen or changes how others are read"}
	}
	return nil
}

// blanks are characters of other kinds that show nothing.
const blanks = "\u2800\ufffc\U0001d159"

// Visible reports whether a reader sees a character for what it is. It is false of control
// characters and formatting such as a change of the direction of writing, of all white space
// but the blank, of what is usually not shown at all (Unicode's Default_Ignorable_Code_Point),
// and of what is not assigned.
func Visible(r rune) bool {
	if r < utf8.RuneSelf {
		return ' ' <= r && r < 0x7f
	}
	return unicode.IsPrint(r) && !unicode.In(r, unicode.Other_Default_Ignorable_Code_Point, unicode.Variation_Selector) && !strings.ContainsRune(blanks, r)
}

// Escape replaces characters beyond ASCII that are not Visible by their escape in JSON, so that
// text can be shown to people, and JSON keeps its meaning.
func Escape(text string) string {
	hidden := func(r rune) bool { return r >= utf8.RuneSelf && !Visible(r) }
	if !strings.ContainsFunc(text, hidden) {
		return text
	}
	var b strings.Builder
	for len(text) > 0 {
		r, n := utf8.DecodeRuneInString(text)
		if hidden(r) {
			for _, unit := range utf16.AppendRune(nil, r) {
				fmt.Fprintf(&b, `\u%04x`, unit)
			}
		} else {
			b.WriteString(text[:n])
		}
		text = text[n:]
	}
	return b.String()
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

// OneLine makes one line of text that CheckLine accepts and people can read, cut after max
// bytes.
func OneLine(text string, max int) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && !unicode.IsSpace(r) {
			return '?'
		}
		return r
	}, strings.Join(strings.Fields(strings.ToValidUTF8(text, "?")), " "))
	text = Escape(text)
	if len(text) > max {
		text = strings.ToValidUTF8(text[:max], "")
	}
	return text
}
