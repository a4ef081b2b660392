package accounts

import (
	"context"
	"errors"
	"time"
)

const (
	resetFor      = time.Hour
	resetsPerHour = 3
)

// Forgot makes a reset link for an account. It returns the link's secret and its owner. The
// secret is empty if there is no such account, or it had enough links within the hour: the caller
// must not tell the difference, neither by its answer nor by the time that it takes.
func (s *Service) Forgot(ctx context.Context, email string) (token string, u User, err error) {
	u, err = s.cfg.Store.UserByEmail(ctx, normalEmail(email))
	if errors.Is(err, ErrNotFound) || err == nil && !u.Active {
		return "", User{}, nil
	}
	if err != nil {
		return "", User{}, err
	}
	now := s.now()
	token = newSecret("")
	err = s.cfg.Store.PutReset(ctx, u.ID, hashSecret(token), now, now.Add(resetFor), now.Add(-time.Hour), resetsPerHour)
	if errors.Is(err, ErrTooMany) {
		return "", User{}, nil
	}
	return token, u, err
}

// AllowForgot refuses an address that asks for links too often.
func (s *Service) AllowForgot(o Origin) error {
	if wait, ok := s.addresses.take(network(o.Address), s.now()); !ok {
		return &Error{Kind: ErrLocked.Kind, Message: "There were too many requests; try again later", RetryAfter: wait}
	}
	return nil
}

// ResetPassword sets a password with a reset link, and ends all logins of the account.
func (s *Service) ResetPassword(ctx context.Context, token, password string, o Origin) (User, error) {
	if err := checkPassword("new_password", password, User{}); err != nil {
		return User{}, err
	}
	address := network(o.Address)
	if wait, ok := s.addresses.take(address, s.now()); !ok {
		return User{}, s.locked("from this network address", wait)
	}
	owner, err := s.cfg.Store.Reset(ctx, hashSecret(token), s.now())
	if err != nil { // before a hash is worked out
		return User{}, err
	}
	s.addresses.giveBack(address)
	if err := checkPassword("new_password", password, owner); err != nil {
		return User{}, err
	}
	hash, err := s.hash(ctx, password)
	if err != nil {
		return User{}, err
	}
	u, err := s.cfg.Store.UseReset(ctx, hashSecret(token), s.now(), hash)
	if err == nil {
		s.failures.forget(u.Email)
	}
	return u, err
}
