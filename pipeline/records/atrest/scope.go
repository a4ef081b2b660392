package atrest

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// Field says which column a text is for. A text of one column cannot be moved to another.
type Field string

// The columns that are encrypted.
const (
	Body     Field = "body"
	Number   Field = "number"
	Metadata Field = "metadata"
)

// MaxText is the length of the longest encrypted text that is read.
const MaxText = 512 << 10

// ErrUnreadable says that a text cannot be decrypted: it is damaged, belongs to another row,
// or was made under another key.
var ErrUnreadable = errors.New("the stored text cannot be decrypted with this key")

// NoKeyError says that a key file of a version is not there.
type NoKeyError struct{ Version uint16 }

// Error names the version.
func (e *NoKeyError) Error() string {
	return fmt.Sprintf("there is no key of version %d", e.Version)
}

const (
	v3       = "v3."
	wrapped  = "w1."
	saltSize = 16
	idsSize  = 6 // version and scope
	tagSize  = 16
	wrapInfo = "sealmq/records/scope/v1"
	textInfo = "sealmq/records/text/v3"
)

// Scope is the key of one client's rows. It does not change, and may be used by several
// goroutines.
type Scope struct {
	id  uint32
	ver uint16
	key Key
}

// NewScope makes a scope key for a client, encrypted under the current file key. The
// caller stores it, and opens it with the id of its row.
func (r *Ring) NewScope(client string) (text string, version uint16) {
	k := NewKey()
	file := r.keys[r.current]
	sealed := seal(file, wrapInfo+"\x00"+client, nil, k.secret[:], nil)
	return wrapped + base64.RawURLEncoding.EncodeToString(sealed), r.current
}

// OpenScope decrypts a scope key. Client, version and id are those it was stored with.
func (r *Ring) OpenScope(id uint32, version uint16, client, text string) (*Scope, error) {
	file, ok := r.keys[version]
	if !ok {
		return nil, &NoKeyError{Version: version}
	}
	raw, err := decode(text, wrapped)
	if err != nil {
		return nil, err
	}
	secret, err := open(file, wrapInfo+"\x00"+client, nil, raw)
	if err != nil || len(secret) != KeySize {
		return nil, ErrUnreadable
	}
	s := &Scope{id: id, ver: version}
	copy(s.key.secret[:], secret)
	return s, nil
}

// ID is the id of the scope key's row.
func (s *Scope) ID() uint32 { return s.id }

// Version is the version of the file key that encrypts the scope key.
func (s *Scope) Version() uint16 { return s.ver }

// Format prints the ids and no key, whatever the verb.
func (s *Scope) Format(f fmt.State, _ rune) { fmt.Fprintf(f, "scope %d/%d", s.ver, s.id) }

// Seal encrypts a field of a message. Two calls never give the same text.
func (s *Scope) Seal(field Field, messageID, plain string) string {
	var ids [idsSize]byte
	binary.BigEndian.PutUint16(ids[:], s.ver)
	binary.BigEndian.PutUint32(ids[2:], s.id)
	sealed := seal(s.key, textKey(field, messageID), ids[:], []byte(plain), ids[:])
	out := make([]byte, len(v3)+base64.RawURLEncoding.EncodedLen(len(sealed)))
	copy(out, v3)
	base64.RawURLEncoding.Encode(out[len(v3):], sealed)
	return string(out)
}

// Open decrypts what Seal made for the same field and message.
func (s *Scope) Open(field Field, messageID, text string) (string, error) {
	raw, err := decode(text, v3)
	if err != nil || len(raw) < idsSize {
		return "", ErrUnreadable
	}
	ids, rest := raw[:idsSize], raw[idsSize:]
	if binary.BigEndian.Uint32(ids[2:]) != s.id {
		return "", ErrUnreadable
	}
	plain, err := open(s.key, textKey(field, messageID), ids, rest)
	return string(plain), err
}

func textKey(field Field, messageID string) string {
	return textInfo + "\x00" + string(field) + "\x00" + messageID
}

// Form is the form of an encrypted text.
type Form int

// The forms of encrypted texts.
const (
	Unknown Form = iota
	V3           // under a scope key
	V2           // under a file key
	Fernet       // of the earlier implementation
)

// Inspect tells the form of a text and, for V3, which scope key it needs.
func Inspect(text string) (form Form, scope uint32) {
	switch {
	case strings.HasPrefix(text, v3):
		const need = (idsSize*8 + 5) / 6
		if len(text) < len(v3)+need {
			return Unknown, 0
		}
		ids, err := base64.RawURLEncoding.DecodeString(text[len(v3) : len(v3)+need])
		if err != nil || len(ids) < idsSize { // the decoder skips line ends
			return Unknown, 0
		}
		return V3, binary.BigEndian.Uint32(ids[2:])
	case strings.HasPrefix(text, v2):
		return V2, 0
	case strings.HasPrefix(text, fernetTwice), strings.HasPrefix(text, fernetOnce):
		return Fernet, 0
	}
	return Unknown, 0
}

func decode(text, prefix string) ([]byte, error) {
	if len(text) > MaxText || !strings.HasPrefix(text, prefix) {
		return nil, ErrUnreadable
	}
	raw, err := base64.RawURLEncoding.DecodeString(text[len(prefix):])
	if err != nil {
		return nil, ErrUnreadable
	}
	return raw, nil
}

// seal encrypts under a key that is derived for this one text, so the nonce can be zero. It
// appends random bytes and ciphertext to a copy of prefix.
func seal(k Key, info string, prefix, plain, data []byte) []byte {
	out := make([]byte, 0, len(prefix)+saltSize+len(plain)+tagSize)
	out = append(out, prefix...)
	salt := out[len(out) : len(out)+saltSize]
	rand.Read(salt) // never fails
	out = out[:len(out)+saltSize]
	return gcm(k.derive(salt, info)).Seal(out, make([]byte, 12), plain, data)
}

func open(k Key, info string, data, raw []byte) ([]byte, error) {
	if len(raw) < saltSize+tagSize {
		return nil, ErrUnreadable
	}
	plain, err := gcm(k.derive(raw[:saltSize], info)).Open(nil, make([]byte, 12), raw[saltSize:], data)
	if err != nil {
		return nil, ErrUnreadable
	}
	return plain, nil
}

func gcm(key []byte) cipher.AEAD { return aead(key, cipher.NewGCM) }

// aead is AES in a form of GCM.
func aead(key []byte, form func(cipher.Block) (cipher.AEAD, error)) cipher.AEAD {
	block, err := aes.NewCipher(key)
	if err == nil {
		var a cipher.AEAD
		if a, err = form(block); err == nil {
			return a
		}
	}
	panic("atrest: internal error: " + err.Error()) // every key has 32 bytes
}
