package accounts

import (
	"cmp"
	"context"
	"errors"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/sealmq/sealmq"
)

// Origin is where a request comes from.
type Origin struct{ Address, Agent string }

// Credentials are what a person logs in with.
type Credentials struct {
	Email, Password string
	// Code is of the second factor, or a recovery code. It is empty if there is none.
	Code string
}

// Login is who is logged in. Requests with an API token have no session.
type Login struct {
	User    User
	Session Session
	Token   *Token // nil unless it is one
}

// Opened is a new login. Token is its secret, which nobody else keeps. If the error is
// ErrSecondFactor, there is none yet, and SecondStep is a token for LoginWithCode.
type Opened struct {
	Login
	Token      string
	SecondStep string
}

// SessionPrefix begins the token of a session.
const SessionPrefix = "smqs_"

const (
	// maxSessions bounds the logins of an account at a time.
	maxSessions = 50
	maxAgent    = 200
	// touchEvery is how exactly it is known when a session was used.
	touchEvery = time.Minute
	// confirmFor is how long a session may do guarded acts.
	confirmFor = 5 * time.Minute
)

// Login checks credentials and opens a session. The account in the answer with an error is for a
// record: it has no more than its ID if the password was wrong, and is empty if it is not known.
func (s *Service) Login(ctx context.Context, c Credentials, o Origin) (Opened, error) {
	u, err := s.check(ctx, c, o)
	if errors.Is(err, ErrSecondFactor) {
		step, errSign := s.secondStep(u)
		return Opened{Login: Login{User: u}, SecondStep: step}, cmp.Or(errSign, err)
	}
	if err != nil {
		return Opened{Login: Login{User: u}}, err
	}
	return s.open(ctx, u, o)
}

// LoginWithCode goes on with a Login that has asked for the code of the second factor. Any service
// with the same store and secret can.
func (s *Service) LoginWithCode(ctx context.Context, secondStep, code string, o Origin) (Opened, error) {
	u, err := s.readSecondStep(ctx, secondStep)
	if err != nil {
		return Opened{}, err
	}
	if code == "" {
		return Opened{Login: Login{User: u}}, ErrSecondFactor
	}
	t, err := s.beginTry(ctx, u.Email, o.Address)
	if err != nil {
		return Opened{Login: Login{User: u}}, err
	}
	if !u.Active {
		t.undo(ctx)
		return Opened{Login: Login{User: u}}, ErrInactive
	}
	if err := s.useCode(ctx, u, code); err != nil {
		return Opened{Login: Login{User: u}}, err
	}
	if err := t.succeeded(ctx); err != nil {
		return Opened{Login: Login{User: u}}, err
	}
	u.LockedUntil = time.Time{}
	return s.open(ctx, u, o)
}

// check returns the account of credentials.
func (s *Service) check(ctx context.Context, c Credentials, o Origin) (User, error) {
	email := normalEmail(c.Email)
	u, err := s.cfg.Store.UserByEmail(ctx, email)
	known := err == nil
	if err != nil && !errors.Is(err, ErrNotFound) {
		return User{}, err
	}
	hash := s.unknown
	if known {
		hash = u.PasswordHash
	}
	right, t, err := s.tryPassword(ctx, email, hash, c.Password, o)
	switch {
	case err != nil:
		return User{}, err
	case !right || !known:
		return User{ID: u.ID}, ErrCredentials
	case !u.Active:
		t.undo(ctx)
		return u, ErrInactive
	case u.SecondFactor && c.Code == "":
		t.undo(ctx)
		return u, ErrSecondFactor
	case u.SecondFactor:
		if err := s.useCode(ctx, u, c.Code); err != nil {
			return u, err
		}
	}
	u.LockedUntil = time.Time{}
	return u, t.succeeded(ctx)
}

// tryPassword reports whether a hash is a password's, and counts the try. It counts behind the wait
// for a place, so that a flood of tries is no flood of writes.
func (s *Service) tryPassword(ctx context.Context, email, hash, password string, o Origin) (right bool, t try, err error) {
	free, err := s.place(ctx)
	if err != nil {
		return false, t, err
	}
	defer free()
	if t, err = s.beginTry(ctx, email, o.Address); err != nil {
		return false, t, err
	}
	return compare(hash, password), t, nil
}

// open opens a session.
func (s *Service) open(ctx context.Context, u User, o Origin) (Opened, error) {
	now := s.now().UTC().Truncate(time.Microsecond)
	opened := Opened{Login: Login{User: u}, Token: newSecret(SessionPrefix)}
	opened.Session = Session{User: u.ID, Kind: KindPortal, Hash: hashSecret(opened.Token), CreatedAt: now, LastSeen: now, ExpiresAt: now.Add(s.cfg.Lifetime),
		Address: o.Address, Agent: clip(o.Agent, maxAgent)}
	var err error
	opened.Session.ID, err = s.addSession(ctx, opened.Session, u)
	opened.User.LastLogin = now
	return opened, err
}

// addSession stores a session, unless its account's password was changed since it was checked.
func (s *Service) addSession(ctx context.Context, v Session, u User) (int64, error) {
	id, err := s.cfg.Store.AddSession(ctx, v, u.PasswordHash, maxSessions)
	if errors.Is(err, ErrNotFound) {
		err = ErrCredentials
	}
	return id, err
}

// clip cuts a text that a stranger chose to a number of bytes, and takes control characters out.
func clip(text string, most int) string {
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == utf8.RuneError {
			return -1
		}
		return r
	}, text)
	if len(text) <= most {
		return text
	}
	for most > 0 && !utf8.RuneStart(text[most]) {
		most--
	}
	return text[:most]
}

// Authenticate returns the login that a token belongs to. A use that is one of a person, and not
// of a page that waits for news, keeps the login from ending.
func (s *Service) Authenticate(ctx context.Context, token string, o Origin, use bool) (Login, error) {
	var session Session
	var u User
	var err error
	switch {
	case strings.HasPrefix(token, TokenPrefix):
		return s.byToken(ctx, token, o)
	case strings.HasPrefix(token, SessionPrefix):
		session, u, err = s.cfg.Store.Session(ctx, hashSecret(token))
	default:
		_, session, u, err = s.readJWT(ctx, token, typeAccess)
	}
	if errors.Is(err, ErrNotFound) {
		return Login{}, ErrEnded
	}
	if err != nil {
		return Login{}, err
	}
	now := s.now()
	if !u.Active || s.ended(&session, now) {
		return Login{}, ErrEnded
	}
	if use && (now.Sub(session.LastSeen) >= touchEvery || session.Address != o.Address) {
		if err := s.cfg.Store.TouchSession(ctx, session.ID, now, o.Address); err != nil && !noRoom(err) {
			return Login{}, err
		}
	}
	return Login{User: u, Session: session}, nil
}

// ended reports whether a login has ended by time.
func (s *Service) ended(v *Session, now time.Time) bool {
	return !now.Before(v.ExpiresAt) || v.Kind == KindPortal && now.Sub(v.LastSeen) >= s.cfg.Idle
}

// noRoom reports whether a use cannot be noted because the disk is full. People must be able to
// look then.
func noRoom(err error) bool { return sealmq.CodeOf(err) == sealmq.NoStorage }

// Confirm lets a session do guarded acts for a while.
func (s *Service) Confirm(ctx context.Context, l Login, password, code string, o Origin) error {
	u, err := s.check(ctx, Credentials{l.User.Email, password, code}, o)
	if err != nil {
		return err
	}
	if u.ID != l.User.ID {
		return ErrCredentials
	}
	return s.cfg.Store.ConfirmSession(ctx, l.Session.ID, s.now().Add(confirmFor))
}

// Confirmed returns ErrConfirm unless the session was confirmed lately.
func (s *Service) Confirmed(l Login) error {
	if s.now().Before(l.Session.ConfirmedUntil) {
		return nil
	}
	return ErrConfirm
}

// ChangePassword sets an account's own password, and ends its other sessions.
func (s *Service) ChangePassword(ctx context.Context, l Login, current, password string, o Origin) error {
	if err := checkPassword("new_password", password, l.User); err != nil {
		return err
	}
	right, t, err := s.tryPassword(ctx, l.User.Email, l.User.PasswordHash, current, o)
	if err != nil {
		return err
	}
	if !right {
		return invalid("current_password", "The current password is wrong")
	}
	if err := t.succeeded(ctx); err != nil {
		return err
	}
	if password == current {
		return invalid("new_password", "The new password is the old one")
	}
	hash, err := s.hash(ctx, password)
	if err != nil {
		return err
	}
	if err = s.cfg.Store.SetPassword(ctx, l.User.ID, l.User.PasswordHash, hash, false, l.Session.ID); errors.Is(err, ErrNotFound) {
		err = ErrEnded // an administrator was quicker
	}
	return err
}

// Sessions lists the logins of an account that have not ended, the last used first.
func (s *Service) Sessions(ctx context.Context, user int64) (list []Session, err error) {
	all, err := s.cfg.Store.Sessions(ctx, user)
	now := s.now()
	for _, session := range all {
		if !s.ended(&session, now) {
			list = append(list, session)
		}
	}
	return list, err
}
