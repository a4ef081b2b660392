package atrest

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf16"
)

// KeySize is the length of a key in bytes.
const KeySize = 32

// MaxKeyFile is the length of the longest file that is read as a key.
const MaxKeyFile = 4 << 10

// Key is a secret of 32 bytes. It never prints: its formatted, logged and JSON forms are a
// fixed word. The zero Key is no key.
type Key struct{ secret [KeySize]byte }

// NewKey makes a random key.
func NewKey() (k Key) {
	rand.Read(k.secret[:]) // never fails
	return k
}

// ParseKey reads the content of a key file. It takes URL-safe or standard base64 of 32
// bytes, 64 hexadecimal digits, each with white space, a UTF-8 byte order mark or UTF-16
// around it, or exactly 32 bytes.
func ParseKey(data []byte) (Key, error) {
	text, err := plainText(data)
	if len(data) == KeySize && (err != nil || !isText(text)) {
		return checked(data)
	}
	if err != nil {
		return Key{}, err
	}
	text = bytes.Trim(text, " \t\r\n")
	if !isText(text) {
		return Key{}, fmt.Errorf("it has %d bytes that are neither text nor a raw key of 32 bytes", len(data))
	}
	switch len(text) {
	case 0:
		return Key{}, errors.New("it is empty")
	case hex.EncodedLen(KeySize):
		raw, err := hex.DecodeString(string(text))
		if err != nil {
			return Key{}, errors.New("it has 64 characters that are not all hexadecimal digits")
		}
		return checked(raw)
	case 43, 44:
		text = bytes.TrimSuffix(text, []byte("="))
		text = bytes.ReplaceAll(bytes.ReplaceAll(text, []byte("+"), []byte("-")), []byte("/"), []byte("_"))
		raw, err := base64.RawURLEncoding.DecodeString(string(text))
		if err != nil || len(raw) != KeySize {
			return Key{}, errors.New("it is not base64 of 32 bytes")
		}
		return checked(raw)
	}
	return Key{}, fmt.Errorf("it has %d characters; a key is base64 of 32 bytes (44 characters) or 64 hexadecimal digits", len(text))
}

// checked refuses what no generator makes.
func checked(raw []byte) (k Key, err error) {
	copy(k.secret[:], raw)
	if bytes.Count(raw, raw[:1]) == len(raw) {
		return Key{}, errors.New("all its bytes are equal, so it is no random key")
	}
	return k, nil
}

// plainText removes a byte order mark, and the zero bytes of UTF-16.
func plainText(data []byte) ([]byte, error) {
	order := func(low int) ([]byte, error) {
		data = data[2:]
		if len(data)%2 != 0 {
			return nil, errors.New("it is UTF-16 with an odd number of bytes")
		}
		units := make([]uint16, len(data)/2)
		for i := range units {
			units[i] = uint16(data[2*i+low]) | uint16(data[2*i+1-low])<<8
		}
		return []byte(string(utf16.Decode(units))), nil
	}
	switch {
	case bytes.HasPrefix(data, []byte{0xFF, 0xFE}): // what Windows PowerShell writes
		return order(0)
	case bytes.HasPrefix(data, []byte{0xFE, 0xFF}):
		return order(1)
	}
	return bytes.TrimPrefix(data, []byte{0xEF, 0xBB, 0xBF}), nil
}

// isText reports whether there is nothing but printable ASCII and white space. A random key
// of 32 bytes is text once in 10^13.
func isText(data []byte) bool {
	return !bytes.ContainsFunc(data, func(c rune) bool { return (c < ' ' || c > '~') && c != '\t' && c != '\r' && c != '\n' })
}

// file is the content of a key file, the form that other programs read too.
func (k Key) file() []byte {
	return []byte(base64.URLEncoding.EncodeToString(k.secret[:]) + "\n")
}

const hidden = "[key]"

// Format prints a fixed word, whatever the verb.
func (k Key) Format(s fmt.State, _ rune) { io.WriteString(s, hidden) }

// MarshalJSON prints a fixed word.
func (k Key) MarshalJSON() ([]byte, error) { return json.Marshal(hidden) }
