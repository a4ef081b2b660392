package jsonl

import (
	"encoding/base64"
	"strconv"
	"time"
	"unicode/utf8"
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

// line is the part of a line that is read again.
type line struct {
	MessageID string  `json:"message_id"`
	Message   *string `json:"message"`
	Base64    []byte  `json:"message_base64"`
	Sender    string  `json:"sender"`
}

// appendJSON appends the record as a JSON object. It does not use encoding/json, because
// this is most of a receiver's work apart from opening messages.
func (r *Record) appendJSON(dst []byte) []byte {
	dst = appendString(append(dst, `{"message_id":`...), r.MessageID)
	if utf8.Valid(r.Message) {
		dst = appendString(append(dst, `,"message":`...), r.Message)
	} else {
		dst = append(dst, `,"message_base64":"`...)
		dst = append(base64.StdEncoding.AppendEncode(dst, r.Message), '"')
	}
	dst = append(dst, `,"timestamp":`...)
	dst = strconv.AppendFloat(dst, float64(r.Received.UnixMilli())/1000, 'f', -1, 64)
	dst = appendMember(dst, `,"sender":`, r.Sender)
	dst = appendTime(dst, `,"sealed_at":"`, r.SealedAt)
	dst = appendMember(dst, `,"queue":`, r.Queue)
	dst = appendMember(dst, `,"publisher":`, r.Publisher)
	dst = appendMember(dst, `,"exchange":`, r.Exchange)
	dst = appendMember(dst, `,"key":`, r.Key)
	dst = appendTime(dst, `,"published":"`, r.Published)
	if r.Attempt > 0 {
		dst = strconv.AppendUint(append(dst, `,"attempt":`...), uint64(r.Attempt), 10)
	}
	return append(dst, '}')
}

func appendMember(dst []byte, name, value string) []byte {
	if value == "" {
		return dst
	}
	return appendString(append(dst, name...), value)
}

func appendTime(dst []byte, name string, t time.Time) []byte {
	if t.IsZero() {
		return dst
	}
	return append(t.UTC().AppendFormat(append(dst, name...), time.RFC3339Nano), '"')
}

// appendString quotes text for JSON. Invalid UTF-8 becomes U+FFFD. U+2028 and U+2029 are
// escaped, because some readers treat them as the end of a line.
func appendString[T string | []byte](dst []byte, s T) []byte {
	const digits = "0123456789abcdef"
	dst = append(dst, '"')
	from := 0 // start of the text that is not copied yet
	for i := 0; i < len(s); {
		c, n := rune(s[i]), 1
		if c >= utf8.RuneSelf {
			c, n = utf8.DecodeRuneInString(string(s[i:min(len(s), i+utf8.UTFMax)]))
		}
		i += n
		if c >= ' ' && c != '"' && c != '\\' && c != '\u2028' && c != '\u2029' && (c != utf8.RuneError || n > 1) {
			continue
		}
		dst = append(dst, s[from:i-n]...)
		from = i
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', byte(c))
		case '\n':
			dst = append(dst, `\n`...)
		case '\r':
			dst = append(dst, `\r`...)
		case '\t':
			dst = append(dst, `\t`...)
		default:
			dst = append(dst, '\\', 'u', digits[c>>12], digits[c>>8&15], digits[c>>4&15], digits[c&15])
		}
	}
	return append(append(dst, s[from:]...), '"')
}
