package accounts

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/sealmq/sealmq"
)

// Actor is who changes an account. A program with the certificate of an administrator has no id.
type Actor struct {
	ID   int64
	Role sealmq.Role
}

// NewUser is what is given of a new account.
type NewUser struct {
	Email, Name, Password, ClientID string
	Role                            sealmq.Role // empty is Plain
	MustChange                      bool
}

// Changes are what changes of an account. Nil stays as it is.
type Changes struct {
	Name, ClientID *string
	Role           *sealmq.Role
	Active         *bool
}

// manages reports whether an actor looks after accounts of a role.
func (a Actor) manages(role sealmq.Role) bool {
	return a.Role == Admin || a.Role == UserManager && role == Plain
}

// CreateUser makes an account.
func (s *Service) CreateUser(ctx context.Context, a Actor, n NewUser) (User, error) {
	n.Role = cmp.Or(n.Role, Plain)
	switch {
	case !slices.Contains(Roles, n.Role):
		return User{}, invalid("role", "The role is one of user, user_manager, operator and admin")
	case !a.manages(n.Role), n.ClientID != "" && a.Role != Admin: // it would show the client's messages to the manager
		return User{}, ErrDenied
	case !n.MustChange && a.Role != Admin: // the manager would go on knowing it
		return User{}, ErrKnown
	}
	u, err := s.newUser(ctx, User{Email: n.Email, Name: n.Name, Role: n.Role, ClientID: n.ClientID, MustChange: n.MustChange, PasswordByAdmin: a.Role == Admin}, n.Password)
	if err != nil {
		return User{}, err
	}
	u.ID, err = s.cfg.Store.AddUser(ctx, u)
	return u, err
}

// ChangeUser changes an account. It returns it as it was, too.
func (s *Service) ChangeUser(ctx context.Context, a Actor, id int64, c Changes) (before, after User, err error) {
	if c.Name != nil {
		if err := checkName(*c.Name); err != nil {
			return before, after, err
		}
	}
	if c.Role != nil && !slices.Contains(Roles, *c.Role) {
		return before, after, invalid("role", "The role is one of user, user_manager, operator and admin")
	}
	after, err = s.cfg.Store.ChangeUser(ctx, id, func(u *User, otherAdmins int) error {
		before = *u
		set(&u.Name, c.Name)
		set(&u.ClientID, c.ClientID)
		set(&u.Role, c.Role)
		set(&u.Active, c.Active)
		switch {
		case !a.manages(before.Role), a.Role != Admin && (u.Role != before.Role || u.ClientID != before.ClientID):
			return ErrDenied
		case before.Role == Plain && !before.PasswordByAdmin && (u.Role != Plain || u.ClientID != before.ClientID && u.ClientID != ""):
			return ErrByManager
		case id == a.ID && (u.Role != before.Role || u.Active != before.Active):
			return ErrOwnAccount
		case before.Role == Admin && before.Active && (u.Role != Admin || !u.Active) && otherAdmins == 0:
			return ErrLastAdmin
		}
		return nil
	})
	if err == nil && after.Active && !before.Active {
		after.LockedUntil = time.Time{}
		err = s.cfg.Store.ForgetFailures(ctx, after.Email)
	}
	return before, after, err
}

func set[T any](to *T, value *T) {
	if value != nil {
		*to = *value
	}
}

// DeleteUser deletes an account.
func (s *Service) DeleteUser(ctx context.Context, a Actor, id int64) (User, error) {
	var deleted User
	err := s.cfg.Store.RemoveUser(ctx, id, func(u User, otherAdmins int) error {
		deleted = u
		switch {
		case a.Role != Admin:
			return ErrDenied
		case id == a.ID:
			return ErrOwnAccount
		case u.Role == Admin && u.Active && otherAdmins == 0:
			return ErrLastAdmin
		}
		return nil
	})
	return deleted, err
}

// managed returns an account that an actor looks after.
func (s *Service) managed(ctx context.Context, a Actor, id int64) (User, error) {
	u, err := s.cfg.Store.User(ctx, id)
	if err == nil && !a.manages(u.Role) {
		err = ErrDenied
	}
	return u, err
}

// mayEnter refuses who could log in as an account afterwards, and so see messages that are not
// for that role.
func (a Actor) mayEnter(u User) error {
	switch {
	case !a.manages(u.Role):
		return ErrDenied
	case u.ClientID != "" && a.Role != Admin:
		return ErrOfClient
	}
	return nil
}

// SetPassword sets the password of an account, and ends its logins.
func (s *Service) SetPassword(ctx context.Context, a Actor, id int64, password string, mustChange bool) (User, error) {
	u, err := s.cfg.Store.User(ctx, id)
	if err == nil {
		err = a.mayEnter(u)
	}
	if err == nil && !mustChange && a.Role != Admin {
		err = ErrKnown
	}
	if err == nil {
		err = checkPassword("new_password", password, u)
	}
	if err != nil {
		return u, err
	}
	hash, err := s.hash(ctx, password)
	if err != nil {
		return u, err
	}
	return s.cfg.Store.ChangeUser(ctx, id, func(u *User, _ int) error {
		if err := a.mayEnter(*u); err != nil { // it may have got a client meanwhile
			return err
		}
		u.PasswordHash, u.MustChange, u.PasswordByAdmin = hash, mustChange, a.Role == Admin
		return nil
	})
}

// Unlock lets an account log in again that is locked by failures.
func (s *Service) Unlock(ctx context.Context, a Actor, id int64) (User, error) {
	u, err := s.managed(ctx, a, id)
	if err == nil {
		err = s.cfg.Store.ForgetFailures(ctx, u.Email)
	}
	return u, err
}

// Locked reports whether an account is locked by failures.
func (s *Service) Locked(u User) bool { return s.now().Before(u.LockedUntil) }

// SignOut ends all logins of an account.
func (s *Service) SignOut(ctx context.Context, a Actor, id int64) (User, error) {
	u, err := s.managed(ctx, a, id)
	if err == nil {
		err = s.cfg.Store.EndSessions(ctx, id, 0)
	}
	return u, err
}

// TakeSecondFactor removes the second factor of an account whose owner has lost it.
func (s *Service) TakeSecondFactor(ctx context.Context, a Actor, id int64) (User, error) {
	return s.cfg.Store.ChangeUser(ctx, id, func(u *User, _ int) error {
		if err := a.mayEnter(*u); err != nil {
			return err
		}
		u.TOTPSecret, u.SecondFactor = "", false
		return nil
	})
}
