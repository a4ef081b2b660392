package accounts

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sealmq/sealmq"
)

// The roles of accounts.
const (
	Admin       = sealmq.RoleAdmin
	Operator    = sealmq.Role("operator") // sees everything but texts, and changes nothing
	UserManager = sealmq.Role("user_manager")
	Plain       = sealmq.Role("user") // sees the messages of its client
)

// Roles are all of them.
var Roles = []sealmq.Role{Plain, UserManager, Operator, Admin}

// User is an account.
type User struct {
	ID           int64
	Email        string // in lower case
	Name         string
	Role         sealmq.Role
	ClientID     string // the client whose messages the account sees, or empty
	Active       bool
	MustChange   bool // the password
	PasswordHash string
	// PasswordByAdmin says that no user manager has chosen a password since an administrator did, so
	// that no manager can be the one who uses the account.
	PasswordByAdmin bool
	// TOTPSecret is that of the second factor, in base 32, which is in force once SecondFactor is
	// set. TOTPStep is the last step whose code was used.
	TOTPSecret   string
	SecondFactor bool
	TOTPStep     int64
	// NewRecoveryCodes are hashes. ChangeUser replaces the account's recovery codes by them if there
	// are any. Nobody reads them back.
	NewRecoveryCodes []string
	LockedUntil      time.Time // because of failed logins; zero or past if it is not locked
	LastLogin        time.Time // zero if there was none
	CreatedAt        time.Time
	UpdatedAt        time.Time
}

// Kinds of sessions.
const (
	KindPortal = "portal"
	KindJWT    = "jwt"
)

// Session is a login.
type Session struct {
	ID             int64
	User           int64
	Kind           string
	Hash           string // of its secret, or of the id of the refresh token that is good
	CreatedAt      time.Time
	LastSeen       time.Time // within a minute
	ExpiresAt      time.Time
	ConfirmedUntil time.Time // zero, or until when it may do guarded acts
	RotatedAt      time.Time // when Hash was last replaced, from Address; zero for never
	Address        string
	Agent          string
}

// Token is an API token of an account.
type Token struct {
	ID   int64
	User int64
	Name string
	Hash string
	// Scopes are of the form task:read or task:write. None are all.
	Scopes    []string
	CreatedAt time.Time
	ExpiresAt time.Time // zero is never
	LastUsed  time.Time // within a minute; zero is never
	Address   string    // from where it was used last
}

// UserFilter chooses accounts. Empty fields choose all.
type UserFilter struct {
	Role   sealmq.Role
	Search string // a part of e-mail address or name
	After  int64  // continue behind the account with this id
	Limit  int
}

// Store is what the rules need of a database. Its methods are safe for concurrent use. One that
// finds nothing returns ErrNotFound.
type Store interface {
	// AddUser returns ErrEmailTaken if there is an account with this e-mail address.
	AddUser(ctx context.Context, u User) (int64, error)
	// AddFirstAdmin is AddUser for a setup link. It uses the link up, and returns ErrLink unless
	// that is in force at the time, or ErrHasAdmin.
	AddFirstAdmin(ctx context.Context, linkHash string, now time.Time, u User) (int64, error)
	User(ctx context.Context, id int64) (User, error)
	UserByEmail(ctx context.Context, email string) (User, error)
	// Users lists accounts in the order of their ids.
	Users(ctx context.Context, f UserFilter) ([]User, error)
	// ChangeUser stores what change makes of an account, and ends its sessions if it is not active
	// any more. With another password hash it does what SetPassword does. otherAdmins is how many
	// further active administrators there are. An error of change is returned as it is.
	ChangeUser(ctx context.Context, id int64, change func(u *User, otherAdmins int) error) (User, error)
	// RemoveUser deletes an account with all that belongs to it, unless check returns an error.
	RemoveUser(ctx context.Context, id int64, check func(u User, otherAdmins int) error) error
	// HasAdmin reports whether there is an active administrator.
	HasAdmin(ctx context.Context) (bool, error)
	// SetPassword also ends the account's sessions but one, and its links, and forgets its failed
	// logins. If it keeps none, the password is not changed by somebody who is logged in, and the
	// account's API tokens are deleted too. It returns ErrNotFound if the hash is not old any more.
	SetPassword(ctx context.Context, user int64, old, hash string, mustChange bool, keep int64) error

	// ChangeFailures stores what change makes of the failed logins with an e-mail address; a count of
	// zero or less is none. An error of change is returned as it is. It forgets those that began
	// before a time, and some if more than most addresses have any.
	ChangeFailures(ctx context.Context, email string, before time.Time, most int, change func(*Failures) error) error
	ForgetFailures(ctx context.Context, email string) error

	// PutSetupLink replaces the setup link.
	PutSetupLink(ctx context.Context, hash string, expires time.Time) error
	// SetupLink returns ErrLink unless the setup link is in force, or ErrHasAdmin.
	SetupLink(ctx context.Context, hash string, now time.Time) error

	// PutReset adds a reset link. It returns ErrTooMany if there were most of them since a time.
	PutReset(ctx context.Context, user int64, hash string, now, expires, since time.Time, most int) error
	// Reset returns the account of a reset link that is in force, or ErrLink.
	Reset(ctx context.Context, hash string, now time.Time) (User, error)
	// UseReset uses a reset link up and does what SetPassword does.
	UseReset(ctx context.Context, hash string, now time.Time, passwordHash string) (User, error)

	// UseTOTPStep returns ErrNotFound if a step as late as this was used.
	UseTOTPStep(ctx context.Context, user, step int64) error
	// UseRecoveryCode uses a recovery code up.
	UseRecoveryCode(ctx context.Context, user int64, hash string) error

	// AddToken returns ErrTooMany if the account has most tokens.
	AddToken(ctx context.Context, t Token, most int) (int64, error)
	Tokens(ctx context.Context, user int64) ([]Token, error)
	Token(ctx context.Context, hash string) (Token, User, error)
	TouchToken(ctx context.Context, id int64, now time.Time, address string) error
	RemoveToken(ctx context.Context, user, id int64) error

	// AddSession also notes the login, and ends the account's oldest sessions beyond a number and
	// all that have expired. It returns ErrNotFound if the account has another password hash by now.
	AddSession(ctx context.Context, s Session, passwordHash string, most int) (int64, error)
	// Session returns a session by the hash of its secret, with its account, and SessionByID by its
	// id.
	Session(ctx context.Context, hash string) (Session, User, error)
	SessionByID(ctx context.Context, id int64) (Session, User, error)
	// RotateSession replaces the hash of a session, and notes when, and from where. It returns
	// ErrNotFound unless the session has the old hash.
	RotateSession(ctx context.Context, id int64, old, hash string, now time.Time, address string) error
	// Sessions lists those of an account, the last used first.
	Sessions(ctx context.Context, user int64) ([]Session, error)
	// TouchSession notes that a session was used.
	TouchSession(ctx context.Context, id int64, now time.Time, address string) error
	ConfirmSession(ctx context.Context, id int64, until time.Time) error
	// EndSession ends a session of an account.
	EndSession(ctx context.Context, user, id int64) error
	// EndSessions ends the sessions of an account but one; keep may be 0.
	EndSessions(ctx context.Context, user, keep int64) error
}

// Error is a refusal. Its text is for the person.
type Error struct {
	// Kind is the code of the answer in the API.
	Kind    string
	Message string
	// Field is the value that breaks a rule, if it is about one.
	Field string
	// RetryAfter is when to try again, if that helps.
	RetryAfter time.Duration
}

// Error implements error.
func (e *Error) Error() string { return e.Message }

// Is makes errors of the same kind equal.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && t.Kind == e.Kind && t.Message == e.Message
}

// Refusals.
var (
	ErrNotFound     = &Error{Kind: "not_found", Message: "There is no such account"}
	ErrCredentials  = &Error{Kind: "invalid_credentials", Message: "E-mail address or password is wrong"}
	ErrSecondFactor = &Error{Kind: "second_factor_required", Message: "The account has a second factor; give its code too"}
	ErrInactive     = &Error{Kind: "account_inactive", Message: "The account is inactive; an administrator can activate it"}
	ErrLocked       = &Error{Kind: "account_locked", Message: "There were too many failed logins with this e-mail address"}
	ErrFlood        = &Error{Kind: "rate_limit_exceeded", Message: "There were too many failed logins from this network address"}
	ErrEnded        = &Error{Kind: "authentication_error", Message: "The login has ended or is not valid; log in again"}
	ErrLink         = &Error{Kind: "invalid_link", Message: "The link was used, or it has expired; ask for a new one"}
	ErrHasAdmin     = &Error{Kind: "conflict", Message: "There is an administrator already; administrators make further accounts"}
	ErrEmailTaken   = &Error{Kind: "conflict", Message: "There is an account with this e-mail address", Field: "email"}
	ErrDenied       = &Error{Kind: "authorization_error", Message: "The role of this account may not do this"}
	ErrOfClient     = &Error{Kind: "authorization_error", Message: "The account sees the messages of a client; only an administrator may do this to it"}
	ErrByManager    = &Error{Kind: "conflict", Message: "A user manager may have chosen the password and the e-mail address of this account; check the address and set a new password, then give it the client or the role"}
	ErrKnown        = &Error{Kind: "authorization_error", Message: "Only an administrator may set a password that its owner need not change"}
	ErrScope        = &Error{Kind: "authorization_error", Message: "This API token is not good for this"}
	ErrConfirm      = &Error{Kind: "confirmation_required", Message: "Confirm with the password before this"}
	ErrMustChange   = &Error{Kind: "password_change_required", Message: "The password must be changed before anything else"}
	ErrTooMany      = &Error{Kind: "conflict", Message: "There are too many already"}
	ErrLastAdmin    = &Error{Kind: "conflict", Message: "This is the last active administrator"}
	ErrOwnAccount   = &Error{Kind: "conflict", Message: "An account cannot do this to itself"}
	ErrPublished    = &Error{Kind: "validation_error", Message: "Everybody can know this password: it stands in published documents", Field: "password"}
	ErrBusy         = &Error{Kind: "service_unavailable", Message: "Too many logins are under way; try again", RetryAfter: 5 * time.Second}
)

func invalid(field, message string) error {
	return &Error{Kind: "validation_error", Message: message, Field: field}
}

// Config is what a Service works with. Store must be set.
type Config struct {
	Store Store
	// Idle is how long a session lasts without a request (default 1 h), and Lifetime how long it
	// lasts in any case (default 12 h).
	Idle, Lifetime time.Duration
	// MaxFailures is how many wrong passwords in LockTime lock an account for LockTime (default 5
	// in 15 minutes).
	MaxFailures int
	LockTime    time.Duration
	// JWTSecret signs JSON Web Tokens (default: a random one, so that they end with the process).
	JWTSecret []byte
	// Now is the time of day (default time.Now). Services that share a store must agree on it.
	Now func() time.Time
	// Cost is that of bcrypt (default 12). Tests have no time for it.
	Cost int
}

// Service has the rules. It is safe for concurrent use.
type Service struct {
	cfg       Config
	hashing   chan struct{} // a place for each password that is hashed
	unknown   string        // a hash that no password has
	failures  limit         // by e-mail address, which the store counts
	addresses addressLimit
}

// Bounds of guessing that are not configured.
const (
	addressFailures = 20
	addressWindow   = time.Minute
)

// New returns a service.
func New(cfg Config) (*Service, error) {
	if cfg.Store == nil {
		return nil, errors.New("accounts need a store")
	}
	cfg.Idle = cmp.Or(cfg.Idle, time.Hour)
	cfg.Lifetime = cmp.Or(cfg.Lifetime, 12*time.Hour)
	cfg.MaxFailures = cmp.Or(cfg.MaxFailures, 5)
	cfg.LockTime = cmp.Or(cfg.LockTime, 15*time.Minute)
	cfg.Cost = cmp.Or(cfg.Cost, defaultCost)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if len(cfg.JWTSecret) == 0 {
		cfg.JWTSecret = []byte(newSecret(""))
	}
	return &Service{cfg: cfg, hashing: make(chan struct{}, hashesAtOnce), unknown: fmt.Sprintf("$2a$%02d$%s", cfg.Cost, nobody),
		failures:  limit{cfg.MaxFailures, cfg.LockTime},
		addresses: addressLimit{limit: limit{addressFailures, addressWindow}}}, nil
}

func (s *Service) now() time.Time { return s.cfg.Now() }
