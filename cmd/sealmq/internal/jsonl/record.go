package jsonl

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/sealmq/sealmq"
)

// Record is one received message. CipherMQ's receivers write the first three members too.
type Record struct {
	MessageID string
	// Message is printed as text if it is UTF-8, else as message_base64.
	Message []byte
	// Received is printed as timestamp, in seconds since 1970.
	Received time.Time
	// Sender and SealedAt were signed by the sender; zero values are omitted.
	Sender   string
	SealedAt time.Time
	// The rest comes from the broker; zero values are omitted.
	Queue, Publisher, Exchange, Key string
	Published                       time.Time
	Attempt                         uint32
}

// appendLine appends the record as a line, unless it is too long.
func (r *Record) appendLine(buf *bytes.Buffer) error {
	before := buf.Len()
	buf.Write(append(r.AppendJSON(buf.AvailableBuffer()), '\n'))
	if n := buf.Len() - before; n > MaxLineBytes {
		buf.Truncate(before)
		return fmt.Errorf("a received message needs a line of %d bytes, but the limit is %d", n, MaxLineBytes)
	}
	return nil
}

// AppendJSON appends the record as a JSON object. It is written by hand, because reflection over a
// line costs a tenth of all that it takes to receive a message.
func (r *Record) AppendJSON(dst []byte) []byte {
	dst = appendString(append(dst, `{"message_id":`...), r.MessageID)
	if utf8.Valid(r.Message) {
		dst = appendString(append(dst, `,"message":`...), r.Message)
	} else {
		dst = append(dst, `,"message_base64":"`...)
		dst = append(base64.StdEncoding.AppendEncode(dst, r.Message), '"')
	}
	dst = strconv.AppendFloat(append(dst, `,"timestamp":`...), float64(r.Received.UnixMilli())/1000, 'f', -1, 64)
	for _, m := range [...]struct{ name, text string }{
		{`,"sender":`, r.Sender}, {`,"sealed_at":`, stamp(r.SealedAt)}, {`,"queue":`, r.Queue}, {`,"publisher":`, r.Publisher},
		{`,"exchange":`, r.Exchange}, {`,"key":`, r.Key}, {`,"published":`, stamp(r.Published)},
	} {
		if m.text != "" {
			dst = appendString(append(dst, m.name...), m.text)
		}
	}
	if r.Attempt > 0 {
		dst = strconv.AppendUint(append(dst, `,"attempt":`...), uint64(r.Attempt), 10)
	}
	return append(dst, '}')
}

// appendString appends a JSON string. If it needs escapes, the library writes it. What cannot be
// seen is escaped too, because people read the lines.
func appendString[T string | []byte](dst []byte, s T) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			var escaped strings.Builder
			enc := json.NewEncoder(&escaped)
			enc.SetEscapeHTML(false)
			_ = enc.Encode(string(s)) // no string fails
			return append(dst, sealmq.Escape(strings.TrimSuffix(escaped.String(), "\n"))...)
		}
	}
	return append(append(append(dst, '"'), s...), '"')
}

// readLine is the part of a line that is read again. The rest may be of any kind.
type readLine struct {
	MessageID string  `json:"message_id"`
	Message   *string `json:"message"`
	Base64    []byte  `json:"message_base64"`
	Sender    string  `json:"sender"`
}

func (l *readLine) message() []byte {
	if l.Message != nil {
		return []byte(*l.Message)
	}
	return l.Base64
}

// stamp accepts all times; a year of five digits, which a sender can sign, is no JSON time.
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}
