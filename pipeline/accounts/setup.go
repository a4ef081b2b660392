package accounts

import (
	"context"
	"errors"
	"net/netip"
	"time"
)

// setupFor is how long a setup link is in force.
const setupFor = 30 * time.Minute

// NewSetupLink makes the link with which the first administrator chooses a password. It returns
// the link's secret, and replaces an earlier link. There is none once there is an administrator.
func (s *Service) NewSetupLink(ctx context.Context) (token string, expires time.Time, err error) {
	has, err := s.cfg.Store.HasAdmin(ctx)
	if err != nil {
		return "", time.Time{}, err
	}
	if has {
		return "", time.Time{}, ErrHasAdmin
	}
	token, expires = newSecret(""), s.now().Add(setupFor).UTC().Truncate(time.Microsecond)
	return token, expires, s.cfg.Store.PutSetupLink(ctx, hashSecret(token), expires)
}

// CheckSetup returns ErrLink unless a setup link is good, or ErrHasAdmin. The link stays good.
func (s *Service) CheckSetup(ctx context.Context, token string, o Origin) error {
	return s.checkLink(o, func() error { return s.cfg.Store.SetupLink(ctx, hashSecret(token), s.now()) })
}

// checkLink counts a link that is not good as a failure of an address.
func (s *Service) checkLink(o Origin, check func() error) error {
	address := network(o.Address)
	if wait, ok := s.addresses.take(address, s.now()); !ok {
		return s.refuse(ErrFlood, wait)
	}
	err := check()
	if !errors.Is(err, ErrLink) {
		s.addresses.giveBack(address)
	}
	return err
}

// Setup makes the first administrator and logs in.
func (s *Service) Setup(ctx context.Context, token, email, name, password string, o Origin) (Opened, error) {
	if err := s.CheckSetup(ctx, token, o); err != nil { // before a hash is worked out
		return Opened{}, err
	}
	u, err := s.newUser(ctx, User{Email: email, Name: name, Role: Admin, PasswordByAdmin: true}, password)
	if err != nil {
		return Opened{}, err
	}
	u.ID, err = s.cfg.Store.AddFirstAdmin(ctx, hashSecret(token), s.now(), u)
	if err != nil {
		return Opened{}, err
	}
	return s.open(ctx, u, o)
}

// Bootstrap makes the first administrator with a password that must be changed before anything
// else. It does nothing if there is an administrator. With published a published password is
// taken; without it such a password is refused, also if the account has it from an earlier time.
func (s *Service) Bootstrap(ctx context.Context, email, password string, published bool) (u User, made bool, err error) {
	has, err := s.cfg.Store.HasAdmin(ctx)
	if err != nil {
		return u, false, err
	}
	taken := Published(password) && !published
	if has {
		if !taken {
			return u, false, nil
		}
		u, err = s.cfg.Store.UserByEmail(ctx, normalEmail(email))
		if errors.Is(err, ErrNotFound) {
			return u, false, nil
		}
		right := false
		if err == nil {
			right, err = s.verify(ctx, u.PasswordHash, password)
		}
		if err != nil || !right {
			return u, false, err
		}
	}
	if taken {
		return u, false, ErrPublished
	}
	if !Published(password) {
		err = checkPassword("password", password, User{Email: email})
	}
	if err == nil {
		u, err = s.complete(ctx, User{Email: email, Role: Admin, MustChange: true, PasswordByAdmin: true}, password)
	}
	if err != nil {
		return u, false, err
	}
	u.ID, err = s.cfg.Store.AddUser(ctx, u)
	return u, err == nil, err
}

// newUser checks what is given of a new account, and completes it. Its error names everything that
// is wrong.
func (s *Service) newUser(ctx context.Context, u User, password string) (User, error) {
	if err := errors.Join(checkPerson(u), checkPassword("password", password, u)); err != nil {
		return u, err
	}
	return s.complete(ctx, u, password)
}

// checkPerson checks e-mail address and name.
func checkPerson(u User) error {
	if normalEmail(u.Email) == "" {
		return errors.Join(invalid("email", "The e-mail address is not valid"), checkName(u.Name))
	}
	return checkName(u.Name)
}

// complete is newUser without a look at the password.
func (s *Service) complete(ctx context.Context, u User, password string) (User, error) {
	if err := checkPerson(u); err != nil {
		return u, err
	}
	hash, err := s.hash(ctx, password)
	now := s.now().UTC().Truncate(time.Microsecond)
	u.Email, u.PasswordHash, u.Active, u.CreatedAt, u.UpdatedAt = normalEmail(u.Email), hash, true, now, now
	return u, err
}

// network is what counts as one address: with IPv6 a customer has 2^64.
func network(address string) string {
	a, err := netip.ParseAddr(address)
	if err != nil || a.Is4() {
		return address
	}
	p, _ := a.Prefix(64) // 64 is a length that IPv6 has
	return p.String()
}
