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
		return s.refuse(ErrFlood, wait)
	}
	return nil
}

// CheckReset returns ErrLink unless a reset link is good. The link stays good.
func (s *Service) CheckReset(ctx context.Context, token string, o Origin) error {
	_, err := s.ownerOf(ctx, token, o)
	return err
}

// ownerOf is the account of a reset link.
func (s *Service) ownerOf(ctx context.Context, token string, o Origin) (u User, err error) {
	err = s.checkLink(o, func() error {
		u, err = s.cfg.Store.Reset(ctx, hashSecret(token), s.now())
		return err
	})
	return u, err
}

// ResetPassword sets a password with a reset link, and ends all logins of the account.
func (s *Service) ResetPassword(ctx context.Context, token, password string, o Origin) (User, error) {
	if err := checkPassword("new_password", password, User{}); err != nil {
		return User{}, err
	}
	owner, err := s.ownerOf(ctx, token, o)
	if err != nil { // before a hash is worked out
		return User{}, err
	}
	if err := checkPassword("new_password", password, owner); err != nil {
		return User{}, err
	}
	hash, err := s.hash(ctx, password)
	if err != nil {
		return User{}, err
	}
	return s.cfg.Store.UseReset(ctx, hashSecret(token), s.now(), hash)
}
