package accounts

import (
	"context"
	"errors"
	"strconv"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"github.com/sealmq/sealmq"
)

// Programs of the design documents' API log in with JSON Web Tokens. A pair of them is a login
// like a person's: a row of the store. The row has the hash of the refresh token's id, so that one
// refresh token is good at a time, and ending the row ends both tokens.

const (
	accessFor  = 15 * time.Minute
	refreshFor = 30 * 24 * time.Hour
	// clockLeeway is by how much main servers may take the time for another one. They have it from
	// the database that they share.
	clockLeeway = 30 * time.Second
	// raceFor is how long after its use a refresh token may come again from the same address: a
	// program that does several things at a time refreshes several times.
	raceFor = 10 * time.Second

	// secondStepFor is how long a person may take to enter a code.
	secondStepFor = 5 * time.Minute

	typeAccess     = "access"
	typeRefresh    = "refresh"
	typeSecondStep = "second_factor"
)

// ErrReused says that a refresh token was used a second time. One of its two users is a thief, so
// that the login has been ended.
var ErrReused = &Error{Kind: ErrEnded.Kind, Message: "The refresh token was used before; log in again"}

// ErrRefreshed says that a refresh token was used a moment ago, from the same address. The login
// goes on with the tokens that it gave.
var ErrRefreshed = &Error{Kind: "conflict", Message: "The refresh token was used a moment ago; use the tokens that it gave"}

// claims are those of all types. What an access token says of its account is for its reader
// only: the store decides.
type claims struct {
	jwt.RegisteredClaims
	Type     string      `json:"type"`
	Session  int64       `json:"sid"`
	Email    string      `json:"email,omitempty"`
	Role     sealmq.Role `json:"role,omitempty"`
	ClientID string      `json:"client_id,omitempty"`
}

// Pair is a login of a program, with its tokens.
type Pair struct {
	Login
	Access, Refresh string
	// ExpiresIn is how long the access token is good.
	ExpiresIn time.Duration
}

// LoginJWT is Login for a program. The password that it has given counts as a confirmation too,
// because such a program cannot be asked again.
func (s *Service) LoginJWT(ctx context.Context, c Credentials, o Origin) (Pair, error) {
	u, err := s.check(ctx, c, o)
	if err != nil {
		return Pair{Login: Login{User: u}}, err
	}
	now, id := s.now().UTC().Truncate(time.Microsecond), newSecret("")
	session := Session{User: u.ID, Kind: KindJWT, Hash: hashSecret(id), CreatedAt: now, LastSeen: now, ExpiresAt: now.Add(refreshFor), ConfirmedUntil: now.Add(confirmFor),
		Address: o.Address, Agent: clip(o.Agent, maxAgent)}
	if session.ID, err = s.addSession(ctx, session, u); err != nil {
		return Pair{}, err
	}
	u.LastLogin = now
	return s.pair(u, session, id)
}

// Refresh takes a refresh token back and returns a new pair. A login ends 30 days after its
// password was given, however often it was refreshed. The error is ErrRefreshed if another call
// was faster, and ErrReused if a token comes again later.
func (s *Service) Refresh(ctx context.Context, token string, o Origin) (Pair, error) {
	c, session, u, err := s.readJWT(ctx, token, typeRefresh)
	if err != nil {
		return Pair{}, err
	}
	if !u.Active || !s.now().Before(session.ExpiresAt) {
		return Pair{}, ErrEnded
	}
	id := newSecret("")
	err = s.cfg.Store.RotateSession(ctx, session.ID, hashSecret(c.ID), hashSecret(id), s.now(), o.Address)
	if errors.Is(err, ErrNotFound) {
		err = s.usedBefore(ctx, session.ID, u.ID, o)
	}
	if err != nil {
		return Pair{Login: Login{User: u}}, err
	}
	return s.pair(u, session, id)
}

// usedBefore is the error for a refresh token that was used. It ends the login, unless this is a
// race with the use.
func (s *Service) usedBefore(ctx context.Context, session, user int64, o Origin) error {
	left, _, err := s.cfg.Store.SessionByID(ctx, session) // as the faster call has left it
	switch {
	case errors.Is(err, ErrNotFound):
		return ErrReused
	case err != nil:
		return err
	case !left.RotatedAt.IsZero() && s.now().Sub(left.RotatedAt) < raceFor && left.Address == o.Address:
		return ErrRefreshed
	}
	if err := s.cfg.Store.EndSession(ctx, user, session); err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	return ErrReused
}

// pair signs the tokens of a login.
func (s *Service) pair(u User, session Session, id string) (p Pair, err error) {
	now := s.now()
	p = Pair{Login: Login{User: u, Session: session}, ExpiresIn: accessFor}
	registered := func(id string, expires time.Time) jwt.RegisteredClaims {
		return jwt.RegisteredClaims{Subject: strconv.FormatInt(u.ID, 10), ID: id, IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(expires)}
	}
	signed := func(c claims) string {
		c.Session = session.ID
		token, errSign := s.sign(c)
		err = errors.Join(err, errSign)
		return token
	}
	p.Access = signed(claims{RegisteredClaims: registered(newSecret(""), now.Add(accessFor)), Type: typeAccess, Email: u.Email, Role: u.Role, ClientID: u.ClientID})
	p.Refresh = signed(claims{RegisteredClaims: registered(id, session.ExpiresAt), Type: typeRefresh})
	return p, err
}

// readJWT returns what a token of a type says, and its login as the store has it.
func (s *Service) readJWT(ctx context.Context, token, kind string) (c claims, session Session, u User, err error) {
	if c, err = s.parseJWT(token, kind); err != nil {
		return c, session, u, err
	}
	session, u, err = s.cfg.Store.SessionByID(ctx, c.Session)
	if errors.Is(err, ErrNotFound) || err == nil && (session.Kind != KindJWT || c.Subject != strconv.FormatInt(session.User, 10)) {
		err = ErrEnded
	}
	return c, session, u, err
}

func (s *Service) sign(c claims) (string, error) {
	return jwt.NewWithClaims(jwt.SigningMethodHS256, c).SignedString(s.cfg.JWTSecret)
}

// parseJWT returns what a token of a type says, or ErrEnded.
func (s *Service) parseJWT(token, kind string) (c claims, err error) {
	_, err = jwt.ParseWithClaims(token, &c, func(*jwt.Token) (any, error) { return s.cfg.JWTSecret, nil },
		jwt.WithValidMethods([]string{jwt.SigningMethodHS256.Alg()}), jwt.WithExpirationRequired(), jwt.WithIssuedAt(), jwt.WithLeeway(clockLeeway),
		jwt.WithTimeFunc(s.now), jwt.WithStrictDecoding())
	if err != nil || c.Type != kind {
		err = ErrEnded
	}
	return c, err
}

// secondStep is a token that says that somebody has given an account's password. Its id goes with
// the password.
func (s *Service) secondStep(u User) (string, error) {
	now := s.now()
	return s.sign(claims{Type: typeSecondStep, RegisteredClaims: jwt.RegisteredClaims{Subject: strconv.FormatInt(u.ID, 10), ID: hashSecret(u.PasswordHash),
		IssuedAt: jwt.NewNumericDate(now), ExpiresAt: jwt.NewNumericDate(now.Add(secondStepFor))}})
}

// readSecondStep returns the account of such a token, as it is now, or ErrEnded.
func (s *Service) readSecondStep(ctx context.Context, token string) (User, error) {
	c, err := s.parseJWT(token, typeSecondStep)
	if err != nil {
		return User{}, err
	}
	id, err := strconv.ParseInt(c.Subject, 10, 64)
	if err != nil {
		return User{}, ErrEnded
	}
	u, err := s.cfg.Store.User(ctx, id)
	if errors.Is(err, ErrNotFound) || err == nil && (c.ID != hashSecret(u.PasswordHash) || !u.SecondFactor) {
		err = ErrEnded
	}
	if err != nil {
		return User{}, err
	}
	return u, nil
}
