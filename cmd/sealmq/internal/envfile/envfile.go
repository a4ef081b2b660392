// Package envfile reads files of environment variables such as .env.
package envfile

import (
	"bytes"
	"fmt"
	"regexp"
	"strings"
)

// Line is a line NAME=VALUE.
type Line struct {
	At          string // FILE:LINE
	Name, Value string
}

// Error says which line is wrong, and Hint how to correct it.
type Error struct {
	At      string // FILE:LINE
	problem string
	hint    string
}

func (e *Error) Error() string { return e.At + ": " + e.problem }

// Hint says what to do.
func (e *Error) Hint() string { return e.hint }

var form = regexp.MustCompile(`^(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_.-]*)[ \t]*=[ \t]*(.*)$`)

// Parse reads the text of a file, whose name it puts before lines. A value can stand in quotes, and
// in them go over several lines; a blank and # begin a comment behind it. Nothing in it is replaced,
// above all no $, which passwords contain; that is why no library reads it. Its errors are *Error.
func Parse(file string, b []byte) (list []Line, err error) {
	text := strings.ReplaceAll(string(bytes.TrimPrefix(b, []byte("\ufeff"))), "\r\n", "\n")
	for n := 1; text != ""; n++ {
		at := fmt.Sprintf("%s:%d", file, n)
		line, rest, _ := strings.Cut(text, "\n")
		text = rest
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		m := form.FindStringSubmatch(line)
		if m == nil {
			return nil, &Error{at, "is not NAME=VALUE", "correct the line, or put # before it"}
		}
		name, value := m[1], m[2]
		switch {
		case value != "" && (value[0] == '"' || value[0] == '\''):
			quoted, after, ok := cutQuoted(value[0], value[1:]+"\n"+text)
			if !ok {
				return nil, &Error{at, name + " has no closing quotation mark", "close it, or remove the one at the beginning"}
			}
			n += strings.Count(quoted, "\n")
			_, text, _ = strings.Cut(after, "\n")
			if value[0] == '"' {
				quoted = escapes.Replace(quoted)
			}
			value = quoted
		default:
			value, _, _ = strings.Cut(" "+strings.ReplaceAll(value, "\t#", " #"), " #")
			value = strings.TrimSpace(value)
		}
		list = append(list, Line{at, name, value})
	}
	return list, nil
}

// cutQuoted cuts a text behind its closing quotation mark.
func cutQuoted(mark byte, s string) (value, rest string, ok bool) {
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] == mark:
			return s[:i], s[i+1:], true
		case s[i] == '\\' && mark == '"':
			i++
		}
	}
	return "", "", false
}

var escapes = strings.NewReplacer(`\n`, "\n", `\"`, `"`, `\\`, `\`)
