package seal

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/sealmq/sealmq"
)

// Envelope is the outer form of a sealed message, parsed and not opened. Nothing in it
// is to be believed before a key has opened it; MessageID is not protected by
// CipherMQRSA even then.
type Envelope struct {
	MessageID     string // message_id
	EncSessionKey []byte // enc_session_key: the wrapped content key
	Nonce         []byte // nonce
	Tag           []byte // tag
	Ciphertext    []byte // ciphertext, without the tag
}

// b64 refuses the second spellings of the same bytes that a lenient decoder takes.
var b64 = base64.StdEncoding.Strict()

// Parse reads a published body. It wants one JSON object in which every member that it
// knows stands at most once and is a string, base64 in the standard alphabet with
// padding where it holds bytes. It skips members that it does not know and does not ask
// for any but message_id: which ones must be there is the suite's affair. The error
// wraps ErrMalformed.
func Parse(body []byte) (*Envelope, error) {
	env := new(Envelope)
	fields := map[string]*[]byte{
		"enc_session_key": &env.EncSessionKey,
		"nonce":           &env.Nonce,
		"tag":             &env.Tag,
		"ciphertext":      &env.Ciphertext,
	}
	seen := make(map[string]bool, len(fields)+1)
	err := members(body, func(name string, value json.RawMessage) error {
		field, known := fields[name]
		if !known && name != "message_id" {
			return nil
		}
		if seen[name] {
			return malformed("%s stands twice", name)
		}
		seen[name] = true
		var text string
		if len(value) == 0 || value[0] != '"' || json.Unmarshal(value, &text) != nil {
			return malformed("%s is not a string", name)
		}
		if !known {
			env.MessageID = text
			return nil
		}
		if strings.ContainsAny(text, "\r\n") { // the decoder would skip them
			return malformed("%s is not base64", name)
		}
		var err error
		if *field, err = b64.DecodeString(text); err != nil {
			return malformed("%s is not base64", name)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := sealmq.CheckName("message_id", env.MessageID); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
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

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

// JSON prints the envelope byte for byte as CipherMQ's own G2 sender does: member
// order, one space after each colon and comma.
func (e *Envelope) JSON() []byte {
	size := len(`{"message_id": "", "enc_session_key": "", "nonce": "", "tag": "", "ciphertext": ""}`) + len(e.MessageID)
	for _, p := range [][]byte{e.EncSessionKey, e.Nonce, e.Tag, e.Ciphertext} {
		size += b64.EncodedLen(len(p))
	}
	dst := make([]byte, 0, size+16)
	dst = append(dst, `{"message_id": `...)
	dst = appendString(dst, e.MessageID)
	dst = append(dst, `, "enc_session_key": "`...)
	dst = b64.AppendEncode(dst, e.EncSessionKey)
	dst = append(dst, `", "nonce": "`...)
	dst = b64.AppendEncode(dst, e.Nonce)
	dst = append(dst, `", "tag": "`...)
	dst = b64.AppendEncode(dst, e.Tag)
	dst = append(dst, `", "ciphertext": "`...)
	dst = b64.AppendEncode(dst, e.Ciphertext)
	return append(dst, `"}`...)
}

// appendString quotes a valid message id, which has no control characters.
func appendString(dst []byte, s string) []byte {
	dst = append(dst, '"')
	for i := 0; i < len(s); i++ {
		if s[i] == '"' || s[i] == '\\' {
			dst = append(dst, '\\')
		}
		dst = append(dst, s[i])
	}
	return append(dst, '"')
}
