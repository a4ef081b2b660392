package seal

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/sealmq/sealmq"
)

// Envelope is the outer form of a message that one of CipherMQ's suites sealed, parsed
// and not opened. Nothing in it is to be believed before a key has opened it, and of
// what is beside the ciphertext nothing even then.
type Envelope struct {
	MessageID     string // message_id
	Receiver      string // receiver_client_id; G3 and later
	EncSessionKey []byte // enc_session_key: the wrapped content key
	Nonce         []byte // nonce
	Tag           []byte // tag; nil from G5 on
	Ciphertext    []byte // ciphertext, from G5 on with the tag at its end
	SentTime      string // sent_time; G4 and later
	RoutingKey    string // routing_key; G4
}

// b64 refuses the second spellings of the same bytes that a lenient decoder takes.
var b64 = base64.StdEncoding.Strict()

// Parse reads a published body of CipherMQ's suites. It wants one JSON object in which
// every member that it knows stands at most once and is a string, base64 in the standard
// alphabet with padding where it holds bytes. It skips members that it does not know and
// asks for message_id and one that holds bytes: which ones must be there is the suite's
// affair. The error wraps ErrMalformed, ErrNotSealed if it is no envelope at all.
func Parse(body []byte) (*Envelope, error) {
	env := new(Envelope)
	texts := map[string]*string{
		"message_id":         &env.MessageID,
		"receiver_client_id": &env.Receiver,
		"sent_time":          &env.SentTime,
		"routing_key":        &env.RoutingKey,
	}
	fields := map[string]*[]byte{
		"enc_session_key": &env.EncSessionKey,
		"nonce":           &env.Nonce,
		"tag":             &env.Tag,
		"ciphertext":      &env.Ciphertext,
	}
	seen := make(map[string]bool, len(fields)+len(texts))
	err := members(body, func(name string, value json.RawMessage) error {
		text, field := texts[name], fields[name]
		if text == nil && field == nil {
			return nil
		}
		if seen[name] {
			return malformed("%s stands twice", name)
		}
		seen[name] = true
		s, err := stringOf(name, value)
		if err != nil {
			return err
		}
		if text != nil {
			*text = s
			return nil
		}
		*field, err = bytesOf(name, s)
		return err
	})
	if err != nil {
		return nil, err
	}
	if env.EncSessionKey == nil && env.Nonce == nil && env.Tag == nil && env.Ciphertext == nil {
		return nil, notSealed() // it is JSON of another kind
	}
	if err := sealmq.CheckName("message_id", env.MessageID); err != nil {
		return nil, &Error{Kind: ErrMalformed, Err: err}
	}
	return env, nil
}

// members calls f for each member of the JSON object in body, which must hold nothing else.
func members(body []byte, f func(name string, value json.RawMessage) error) error {
	d := json.NewDecoder(bytes.NewReader(body))
	// The decoder's own errors quote what they met, which may be a stranger's text.
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return malformed("it is not a JSON object")
	}
	for d.More() {
		t, err := d.Token()
		name, ok := t.(string)
		if err != nil || !ok {
			return malformed("bad JSON at byte %d", d.InputOffset())
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return malformed("bad JSON at byte %d", d.InputOffset())
		}
		if err := f(name, value); err != nil {
			return err
		}
	}
	if _, err := d.Token(); err != nil {
		return malformed("bad JSON at byte %d", d.InputOffset())
	}
	if _, err := d.Token(); err != io.EOF {
		return malformed("something follows the JSON object")
	}
	return nil
}

func stringOf(member string, value json.RawMessage) (string, error) {
	var s string
	if len(value) == 0 || value[0] != '"' || json.Unmarshal(value, &s) != nil {
		return "", malformed("%s is not a string", member)
	}
	return s, nil
}

func bytesOf(member, text string) ([]byte, error) {
	p, err := b64.DecodeString(text)
	if err != nil || strings.ContainsAny(text, "\r\n") { // which the decoder skips
		return nil, malformed("%s is not base64", member)
	}
	return p, nil
}

// form is how the sender of a generation prints its JSON.
type form struct {
	members []string
	colon   string
	comma   string
	time    string // layout of sent_time
}

const microseconds = "2006-01-02T15:04:05.000000"

var forms = map[Suite]form{
	CipherMQRSA: {[]string{"message_id", "enc_session_key", "nonce", "tag", "ciphertext"}, ": ", ", ", ""},
	CipherMQG3:  {[]string{"message_id", "receiver_client_id", "enc_session_key", "nonce", "tag", "ciphertext"}, ": ", ", ", ""},
	CipherMQG4: {[]string{"message_id", "receiver_client_id", "enc_session_key", "nonce", "tag", "ciphertext", "sent_time", "routing_key"},
		": ", ", ", microseconds + "Z"},
	CipherMQG5: {[]string{"message_id", "ciphertext", "receiver_client_id", "enc_session_key", "nonce", "sent_time"}, ": ", ", ", microseconds + "+00:00"},
	CipherMQG6: {[]string{"ciphertext", "enc_session_key", "message_id", "nonce", "receiver_client_id", "sent_time"}, ":", ",",
		"2006-01-02T15:04:05.000000000+00:00"},
}

func (f form) sentTime(t time.Time) string {
	if f.time == "" {
		return ""
	}
	return t.UTC().Format(f.time)
}

// JSON prints the envelope byte for byte as CipherMQ's own sender does, for every
// generation but G6, which writes the members of G5 in another order.
func (e *Envelope) JSON() []byte {
	if e.Tag == nil && e.Receiver != "" && e.RoutingKey == "" {
		return e.print(CipherMQG5)
	}
	return e.print(CipherMQG4) // G2 and G3 are the same with less
}

// print prints the members of a generation, those that are there, in its order and with
// its white space.
func (e *Envelope) print(s Suite) []byte {
	f := forms[s]
	size := 192 + len(e.MessageID) + len(e.Receiver) + len(e.SentTime) + len(e.RoutingKey)
	for _, p := range [][]byte{e.EncSessionKey, e.Nonce, e.Tag, e.Ciphertext} {
		size += b64.EncodedLen(len(p))
	}
	dst := append(make([]byte, 0, size), '{')
	for _, name := range f.members {
		if e.lacks(name) {
			continue
		}
		if len(dst) > 1 {
			dst = append(dst, f.comma...)
		}
		dst = append(dst, '"')
		dst = append(dst, name...)
		dst = append(dst, '"')
		dst = append(dst, f.colon...)
		dst = e.appendMember(dst, name)
	}
	return append(dst, '}')
}

func (e *Envelope) lacks(member string) bool {
	switch member {
	case "receiver_client_id":
		return e.Receiver == ""
	case "sent_time":
		return e.SentTime == ""
	case "routing_key":
		return e.RoutingKey == ""
	case "tag":
		return e.Tag == nil
	}
	return false
}

func (e *Envelope) appendMember(dst []byte, name string) []byte {
	var p []byte
	switch name {
	case "message_id":
		return appendString(dst, e.MessageID)
	case "receiver_client_id":
		return appendString(dst, e.Receiver)
	case "sent_time":
		return appendString(dst, e.SentTime)
	case "routing_key":
		return appendString(dst, e.RoutingKey)
	case "enc_session_key":
		p = e.EncSessionKey
	case "nonce":
		p = e.Nonce
	case "tag":
		p = e.Tag
	case "ciphertext":
		p = e.Ciphertext
	}
	dst = append(dst, '"')
	dst = b64.AppendEncode(dst, p)
	return append(dst, '"')
}

// appendString quotes a string for JSON. Other characters than those that must be
// escaped stay as they are, as CipherMQ's clients write them.
func appendString(dst []byte, s string) []byte {
	const digits = "0123456789abcdef"
	dst = append(dst, '"')
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c < ' ':
			dst = append(dst, '\\', 'u', '0', '0', digits[c>>4], digits[c&15])
		default:
			dst = append(dst, c)
		}
	}
	return append(dst, '"')
}

// errEmpty: CipherMQ's receivers take an empty text for a failure and never acknowledge
// it, so it would come back to them for ever.
func errEmpty(s Suite) error {
	return fmt.Errorf("suite %s cannot carry an empty message", s)
}
