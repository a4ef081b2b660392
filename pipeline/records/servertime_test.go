package records_test

import (
	"errors"
	"testing"
	"time"

	"github.com/pquerna/otp/totp"
	"golang.org/x/crypto/bcrypt"

	"github.com/sealmq/sealmq/internal/clock"
	"github.com/sealmq/sealmq/pipeline/accounts"
	"github.com/sealmq/sealmq/pipeline/records"
)

// wrongClock is a machine's clock that somebody has set wrong.
type wrongClock struct {
	clock.Clock
	ahead time.Duration
}

func (c wrongClock) Now() time.Time { return c.Clock.Now().Add(c.ahead) }

// TestMainServersWhoseClocksDiffer: logins, links, locks and enrolments that one main server has
// begun go on at another, whose clock shows six minutes more or less, without a grace for it.
func TestMainServersWhoseClocksDiffer(t *testing.T) {
	for name, ahead := range map[string]time.Duration{"from fast to slow": 3 * time.Minute, "from slow to fast": -3 * time.Minute} {
		t.Run(name, func(t *testing.T) {
			must := func(err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
			}
			address, name, err := mariaDB(t).Database()
			must(err)
			e := &env{t: t, url: address, name: name, keys: ring(t, 1, 1), hash: hasher(t)}
			open := func(ahead time.Duration) (*records.Store, *accounts.Service) {
				s := e.open(func(c *records.Config) { c.Clock = wrongClock{clock.System, ahead} })
				if got := time.Until(s.Now()).Abs(); got > 2*time.Second {
					t.Errorf("a clock that is %v ahead: the time differs by %v", ahead, got)
				}
				if got := s.ClockAhead() + ahead; got.Abs() > 2*time.Second {
					t.Errorf("a clock that is %v ahead: the difference is wrong by %v", ahead, got)
				}
				a, err := accounts.New(accounts.Config{Store: s, Now: s.Now, Cost: bcrypt.MinCost, JWTSecret: []byte("0123456789abcdef0123456789abcdef")})
				must(err)
				return s, a
			}
			store, one := open(ahead)
			otherStore, other := open(-ahead)
			c := accounts.Credentials{Email: "anna@example.com", Password: "correct horse battery"}
			here, there := accounts.Origin{Address: "192.0.2.1"}, accounts.Origin{Address: "192.0.2.2"}
			u, _, err := one.Bootstrap(ctx(t), c.Email, c.Password, false)
			must(err)

			// A session, with a confirmation.
			opened, err := one.Login(ctx(t), c, here)
			must(err)
			l, err := other.Authenticate(ctx(t), opened.Token, here, true)
			must(err)
			must(one.Confirm(ctx(t), l, c.Password, "", here))
			l, err = other.Authenticate(ctx(t), opened.Token, here, true)
			must(err)
			must(other.Confirmed(l))

			// JSON Web Tokens, two refreshes in a race and a stolen token.
			pair, err := one.LoginJWT(ctx(t), c, here)
			must(err)
			if _, err := other.Authenticate(ctx(t), pair.Access, here, true); err != nil {
				t.Errorf("an access token: %v", err)
			}
			next, err := other.Refresh(ctx(t), pair.Refresh, here)
			must(err)
			if _, err := one.Refresh(ctx(t), pair.Refresh, here); !errors.Is(err, accounts.ErrRefreshed) {
				t.Errorf("a race of two refreshes: %v", err)
			}
			if _, err := other.Refresh(ctx(t), pair.Refresh, there); !errors.Is(err, accounts.ErrReused) {
				t.Errorf("a stolen token: %v", err)
			}
			if _, err := one.Authenticate(ctx(t), next.Access, here, true); !errors.Is(err, accounts.ErrEnded) {
				t.Errorf("after a theft: %v", err)
			}

			// A second factor, whose device has the right time.
			secret, _, err := one.BeginSecondFactor(ctx(t), u.ID)
			must(err)
			code, err := totp.GenerateCode(secret, time.Now())
			must(err)
			_, err = other.ConfirmSecondFactor(ctx(t), l, code, here)
			must(err)

			// A link to set a password is good once.
			link, _, err := one.Forgot(ctx(t), c.Email)
			must(err)
			must(other.CheckReset(ctx(t), link, here))
			_, err = other.ResetPassword(ctx(t), link, "another horse battery", here)
			must(err)
			if err := one.CheckReset(ctx(t), link, here); !errors.Is(err, accounts.ErrLink) {
				t.Errorf("a used link: %v", err)
			}

			// Wrong passwords count together, and lock for as long everywhere.
			tries := []*accounts.Service{one, one, other, other, one}
			for i, s := range tries {
				if _, err := s.Login(ctx(t), accounts.Credentials{Email: c.Email, Password: "wrong"}, there); !errors.Is(err, accounts.ErrCredentials) {
					t.Errorf("try %d: %v", i, err)
				}
			}
			for _, s := range tries[1:3] {
				_, err := s.Login(ctx(t), c, here)
				if e, ok := errors.AsType[*accounts.Error](err); !ok || e.Kind != accounts.ErrLocked.Kind || e.RetryAfter > 15*time.Minute || e.RetryAfter < 14*time.Minute {
					t.Errorf("a locked account: %v", err)
				}
			}

			// An enrolment that is being signed for is not signed for again.
			now := store.Now().UTC().Truncate(time.Microsecond)
			must(store.AddEnrolment(ctx(t), records.Enrolment{ID: "e-1", Kind: records.EnrolToken, SecretHash: "x", Client: "acme-01", Role: "client", CreatedAt: now, ExpiresAt: now.Add(time.Minute)}))
			must(otherStore.ClaimEnrolment(ctx(t), "e-1", "key", otherStore.Now()))
			if err := store.ClaimEnrolment(ctx(t), "e-1", "key", store.Now()); !errors.Is(err, records.ErrNotFound) {
				t.Errorf("a second claim: %v", err)
			}
		})
	}
}
