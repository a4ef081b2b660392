// Package jsonform reads and prints the flat JSON objects that envelopes are. It is
// stricter than the standard library, so that no two readers understand one envelope
// differently, and its errors quote nothing of what they met.
package jsonform

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Base64 refuses the second spellings of the same bytes that a lenient decoder takes.
var Base64 = base64.StdEncoding.Strict()

// Members calls f for each member of the JSON object in body, which must hold nothing else.
func Members(body []byte, f func(name string, value json.RawMessage) error) error {
	d := json.NewDecoder(bytes.NewReader(body))
	// The decoder's own errors quote what they met, which may be a stranger's text.
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return errors.New("it is not a JSON object")
	}
	bad := func() error { return fmt.Errorf("bad JSON at byte %d", d.InputOffset()) }
	for d.More() {
		t, err := d.Token()
		name, ok := t.(string)
		if err != nil || !ok {
			return bad()
		}
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return bad()
		}
		if err := f(name, value); err != nil {
			return err
		}
	}
	if _, err := d.Token(); err != nil {
		return bad()
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("something follows the JSON object")
	}
	return nil
}

// String takes a member's value as a string.
func String(member string, value json.RawMessage) (string, error) {
	var s string
	if len(value) == 0 || value[0] != '"' || json.Unmarshal(value, &s) != nil {
		return "", fmt.Errorf("%s is not a string", member)
	}
	return s, nil
}

// Bytes takes a member's text as base64.
func Bytes(member, text string) ([]byte, error) {
	p, err := Base64.DecodeString(text)
	if err != nil || strings.ContainsAny(text, "\r\n") { // which the decoder skips
		return nil, fmt.Errorf("%s is not base64", member)
	}
	return p, nil
}

// AppendString quotes a string for JSON. Other characters than those that must be escaped
// stay as they are, as CipherMQ's clients write them.
func AppendString(dst []byte, s string) []byte {
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
