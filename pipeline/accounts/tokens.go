package accounts

import (
	"context"
	"errors"
	"regexp"
	"slices"
	"strings"
	"time"
)

// TokenPrefix begins an API token.
const TokenPrefix = "smqt_"

const (
	maxTokens = 20
	maxScopes = 20
)

var scopeForm = regexp.MustCompile(`^[a-z]{1,20}:(read|write)$`)

// NewToken makes an API token of an account. It returns the token itself, which is shown once.
// No scopes are all of what the account may; a zero time is no end.
func (s *Service) NewToken(ctx context.Context, user int64, name string, scopes []string, expires time.Time) (secret string, t Token, err error) {
	now := s.now().UTC().Truncate(time.Microsecond)
	switch {
	case strings.TrimSpace(name) == "":
		return "", t, invalid("name", "A token needs a name that says what it is for")
	case !expires.IsZero() && !expires.After(now):
		return "", t, invalid("expires_at", "The time has passed")
	case len(scopes) > maxScopes || slices.ContainsFunc(scopes, func(s string) bool { return !scopeForm.MatchString(s) }):
		return "", t, invalid("scopes", "A scope is a task and read or write, for example messages:read")
	}
	if err := checkName(name); err != nil {
		return "", t, err
	}
	secret = newSecret(TokenPrefix)
	t = Token{User: user, Name: strings.TrimSpace(name), Hash: hashSecret(secret), Scopes: scopes, CreatedAt: now, ExpiresAt: expires.UTC().Truncate(time.Microsecond)}
	t.ID, err = s.cfg.Store.AddToken(ctx, t, maxTokens)
	return secret, t, err
}

// Allows reports whether a token may do something of a task. Who may write may read.
func (t *Token) Allows(task string, write bool) bool {
	return len(t.Scopes) == 0 || slices.Contains(t.Scopes, task+":write") || !write && slices.Contains(t.Scopes, task+":read")
}

// byToken is Authenticate for API tokens.
func (s *Service) byToken(ctx context.Context, secret string, o Origin) (Login, error) {
	t, u, err := s.cfg.Store.Token(ctx, hashSecret(secret))
	if errors.Is(err, ErrNotFound) {
		return Login{}, ErrEnded
	}
	if err != nil {
		return Login{}, err
	}
	now := s.now()
	if !u.Active || !t.ExpiresAt.IsZero() && !now.Before(t.ExpiresAt) {
		return Login{}, ErrEnded
	}
	if now.Sub(t.LastUsed) >= touchEvery || t.Address != o.Address {
		if err := s.cfg.Store.TouchToken(ctx, t.ID, now, o.Address); err != nil && !noRoom(err) {
			return Login{}, err
		}
	}
	return Login{User: u, Token: &t}, nil
}
