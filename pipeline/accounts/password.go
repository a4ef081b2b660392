package accounts

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/crypto/bcrypt"

	"github.com/sealmq/sealmq"
)

const (
	defaultCost  = 12
	hashesAtOnce = 2
	// hashWait bounds the wait for a place.
	hashWait = 10 * time.Second
	// nobody is salt and hash of no password that anybody knows.
	nobody = "eHk2bVd0QmZqUzNaWnA4UePq1mZr0uYw5nTt7Qb2sKcXgJd9oLhVa"
	// minPassword is in characters, maxPassword in bytes: bcrypt looks at no more.
	minPassword = 8
	maxPassword = 72
)

// published are passwords and secrets that stand in the design documents.
var published = []string{"AdminPass123!", "SuperSecretJWTKey"}

// Published reports whether a password or secret stands in published documents, so that everybody
// can know it.
func Published(secret string) bool { return slices.Contains(published, secret) }

// checkPassword checks a new password of an account.
func checkPassword(field, password string, u User) error {
	switch {
	case !utf8.ValidString(password):
		return invalid(field, "The password is not valid UTF-8")
	case utf8.RuneCountInString(password) < minPassword:
		return invalid(field, fmt.Sprintf("A password has at least %d characters", minPassword))
	case len(password) > maxPassword:
		return invalid(field, fmt.Sprintf("A password has at most %d bytes", maxPassword))
	case Published(password):
		return invalid(field, "Everybody can know this password: it stands in published documents; choose another one")
	case strings.ContainsRune(password, 0):
		return invalid(field, "A password has no zero byte")
	case weak(password):
		return invalid(field, "This password is one that everybody tries first; choose another one, such as three or four words that do not belong together")
	case named(password, u):
		return invalid(field, "A password has neither the account's name in it nor the product's; choose another one")
	}
	return nil
}

// place waits for a place to hash.
func (s *Service) place(ctx context.Context) (free func(), err error) {
	select {
	case s.hashing <- struct{}{}:
		return func() { <-s.hashing }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-time.After(hashWait):
		return nil, ErrBusy
	}
}

func (s *Service) hash(ctx context.Context, password string) (string, error) {
	free, err := s.place(ctx)
	if err != nil {
		return "", err
	}
	defer free()
	h, err := bcrypt.GenerateFromPassword([]byte(password), s.cfg.Cost)
	return string(h), err
}

// verify reports whether a hash is a password's.
func (s *Service) verify(ctx context.Context, hash, password string) (bool, error) {
	free, err := s.place(ctx)
	if err != nil {
		return false, err
	}
	defer free()
	return compare(hash, password), nil
}

// compare reports whether a hash is a password's. Its caller has a place.
func compare(hash, password string) bool {
	return bcrypt.CompareHashAndPassword([]byte(hash), []byte(password[:min(len(password), maxPassword)])) == nil
}

// secretBytes is the size of what nobody can guess.
const secretBytes = 32

// newSecret is a secret that begins with a prefix, which says what it is for.
func newSecret(prefix string) string {
	b := make([]byte, secretBytes)
	rand.Read(b) // never fails
	return prefix + base64.RawURLEncoding.EncodeToString(b)
}

// hashSecret is what is kept of a secret. It has 256 random bits, so that a fast hash is enough.
func hashSecret(secret string) string {
	h := sha256.Sum256([]byte(secret))
	return hex.EncodeToString(h[:])
}

const maxEmail = 254

// normalEmail is an e-mail address as it is stored, and empty if it cannot be one. It has no
// character that means something in a header.
func normalEmail(email string) string {
	email = strings.ToLower(strings.TrimSpace(email))
	local, domain, ok := strings.Cut(email, "@")
	odd := func(text, signs string) bool {
		return strings.ContainsFunc(text, func(c rune) bool {
			return (c < 'a' || c > 'z') && (c < '0' || c > '9') && !strings.ContainsRune(signs, c)
		})
	}
	if !ok || len(email) > maxEmail || local == "" || len(local) > 64 || strings.Contains(email, "..") || strings.HasPrefix(local, ".") || strings.HasSuffix(local, ".") ||
		odd(local, "!#$%&'*+-/=?^_`{|}~.") {
		return ""
	}
	for label := range strings.SplitSeq(domain, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' || odd(label, "-") {
			return ""
		}
	}
	return email
}

const maxName = 100

func checkName(name string) error {
	switch {
	case utf8.RuneCountInString(name) > maxName:
		return invalid("name", fmt.Sprintf("A name has at most %d characters", maxName))
	case !utf8.ValidString(name) || strings.ContainsFunc(name, func(r rune) bool { return !sealmq.Visible(r) }):
		return invalid("name", "A name has no control characters, and none that are invisible or change the direction of writing")
	}
	return nil
}

// ShownEmail is what somebody gave as an e-mail address, for a record: an address, or nothing,
// because people type passwords into the wrong field.
func ShownEmail(email string) string { return normalEmail(email) }
