package records

import (
	"cmp"
	"encoding/json"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// A rule that a value breaks, as a sentence, or "".
type reason = string

// checkName checks an identity. Blanks at its end are refused because MySQL ignores them
// when it compares.
func checkName(what, name string, most int) reason {
	switch {
	case name == "":
		return what + " is empty"
	case len(name) > most:
		return what + " is too long"
	case !utf8.ValidString(name):
		return what + " is not valid UTF-8"
	case strings.TrimSpace(name) != name:
		return what + " begins or ends with a blank"
	case strings.ContainsFunc(name, unicode.IsControl):
		return what + " has a control character"
	}
	return ""
}

// checkMessage checks a complete message, and completes what may be missing.
func checkMessage(m *Message, now time.Time) reason {
	m.Domain = cmp.Or(m.Domain, DefaultDomain)
	if m.QueuedAt.IsZero() {
		m.QueuedAt = now
	}
	why := cmp.Or(checkName("message id", m.ID, maxID), checkName("client id", m.Client, maxName), checkName("domain", m.Domain, maxName), checkName("number", m.Number, MaxNumber),
		checkOptional("client key", m.ClientKey, maxKey), checkOptional("name of the proxy", m.Proxy, maxName))
	switch {
	case why != "":
		return why
	case m.Body == "":
		return "text is empty"
	case len(m.Body) > MaxBody:
		return "text is too long"
	case !utf8.ValidString(m.Body):
		return "text is not valid UTF-8"
	case len(m.Metadata) > MaxMetadata:
		return "metadata is too long"
	case m.Metadata != nil && (!json.Valid(m.Metadata) || !utf8.Valid(m.Metadata)):
		return "metadata is not valid JSON"
	case !storable(m.QueuedAt):
		return "time of queueing is out of range"
	}
	return ""
}

// storable reports whether both databases can store a time.
func storable(t time.Time) bool {
	year := t.UTC().Year()
	return year >= 1970 && year < 9999
}

// bound is the storable time that is nearest to a bound of a filter. The zero time is no
// bound, and stays so.
func bound(t time.Time) time.Time {
	switch {
	case t.IsZero() || storable(t):
		return t
	case t.UTC().Year() < 1970:
		return time.Unix(0, 0)
	}
	return time.Date(9998, time.December, 31, 0, 0, 0, 0, time.UTC)
}

// checkOptional is checkName for what may be missing.
func checkOptional(what, name string, most int) reason {
	if name == "" {
		return ""
	}
	return checkName(what, name, most)
}

func checkWorker(worker string) reason { return checkOptional("worker id", worker, maxWork) }

func checkAttempts(n int) reason {
	if n < -1 || n > 1<<31-1 {
		return "attempt count is out of range"
	}
	return ""
}

// cleanError makes a text of another program fit for its column.
func cleanError(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, s)
	if utf8.RuneCountInString(s) > MaxError {
		s = string([]rune(s)[:MaxError])
	}
	return s
}
