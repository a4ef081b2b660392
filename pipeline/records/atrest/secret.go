package atrest

import (
	"encoding/base64"
	"fmt"
	"strconv"
	"strings"
)

const (
	secretPrefix = "u1."
	secretInfo   = "sealmq/records/secret/v1"
)

// SealSecret encrypts a short secret that belongs to no client, under the current file key.
// owner says what it is for: a text of one owner cannot be moved to another.
func (r *Ring) SealSecret(owner, plain string) string {
	sealed := seal(r.keys[r.current], secretInfo, nil, []byte(plain), []byte(owner))
	return fmt.Sprintf("%s%s", r.CurrentSecrets(), base64.RawURLEncoding.EncodeToString(sealed))
}

// CurrentSecrets begins the secrets that are encrypted under the current file key.
func (r *Ring) CurrentSecrets() string { return fmt.Sprintf("%s%d.", secretPrefix, r.current) }

// OpenSecret decrypts what SealSecret made for the same owner.
func (r *Ring) OpenSecret(owner, text string) (string, error) {
	rest, ok := strings.CutPrefix(text, secretPrefix)
	number, rest, _ := strings.Cut(rest, ".")
	version, err := strconv.ParseUint(number, 10, 16)
	if !ok || err != nil {
		return "", ErrUnreadable
	}
	file, ok := r.keys[uint16(version)]
	if !ok {
		return "", &NoKeyError{Version: uint16(version)}
	}
	raw, err := decode(rest, "")
	if err != nil {
		return "", err
	}
	plain, err := open(file, secretInfo, []byte(owner), raw)
	return string(plain), err
}
