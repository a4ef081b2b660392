package records_test

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sealmq/sealmq/pipeline/accounts"
	"github.com/sealmq/sealmq/pipeline/records"
)

func user(email string, role accounts.User) accounts.User {
	role.Email, role.PasswordHash, role.Active = email, "$2a$12$hash", true
	if role.Role == "" {
		role.Role = accounts.Plain
	}
	return role
}

func (e *env) addUser(u accounts.User) int64 {
	e.t.Helper()
	id, err := e.s.AddUser(ctx(e.t), u)
	if err != nil {
		e.t.Fatal(err)
	}
	return id
}

func (e *env) addSession(user int64, name string, most int) int64 {
	e.t.Helper()
	now := e.clock.Now()
	id, err := e.s.AddSession(ctx(e.t), accounts.Session{User: user, Kind: accounts.KindPortal, Hash: name, CreatedAt: now, LastSeen: now, ExpiresAt: now.Add(time.Hour),
		Address: "2001:db8::1", Agent: "a browser ✓"}, e.passwordHash(user), most)
	if err != nil {
		e.t.Fatal(err)
	}
	return id
}

func (e *env) passwordHash(user int64) string {
	e.t.Helper()
	u, err := e.s.User(ctx(e.t), user)
	if err != nil && !errors.Is(err, accounts.ErrNotFound) {
		e.t.Fatal(err)
	}
	return u.PasswordHash
}

func TestUsers(t *testing.T) {
	onBoth(t, func(t *testing.T, e *env) {
		id := e.addUser(user("anna@example.com", accounts.User{Name: "Anna ✓", ClientID: "acme-01"}))
		if _, err := e.s.AddUser(ctx(t), user("anna@example.com", accounts.User{})); !errors.Is(err, accounts.ErrEmailTaken) {
			t.Errorf("twice: %v", err)
		}
		u, err := e.s.UserByEmail(ctx(t), "anna@example.com")
		want := user("anna@example.com", accounts.User{ID: id, Name: "Anna ✓", ClientID: "acme-01", CreatedAt: u.CreatedAt, UpdatedAt: u.UpdatedAt})
		if err != nil || !reflect.DeepEqual(u, want) || !u.CreatedAt.Equal(t0) {
			t.Errorf("%+v, %v", u, err)
		}
		for _, email := range []string{"Anna@example.com", "anna@example.com ", "", "x' OR '1'='1"} {
			if _, err := e.s.UserByEmail(ctx(t), email); !errors.Is(err, accounts.ErrNotFound) {
				t.Errorf("%q: %v", email, err)
			}
		}
		if has, err := e.s.HasAdmin(ctx(t)); has || err != nil {
			t.Errorf("an administrator: %v, %v", has, err)
		}
		// A password ends all logins but one.
		first, second := e.addSession(id, "a", 50), e.addSession(id, "b", 50)
		if err := e.s.SetPassword(ctx(t), id, e.passwordHash(id), "$2a$12$other", true, second); err != nil {
			t.Fatal(err)
		}
		if _, _, err := e.s.Session(ctx(t), "a"); !errors.Is(err, accounts.ErrNotFound) {
			t.Errorf("the first login %d: %v", first, err)
		}
		v, u, err := e.s.Session(ctx(t), "b")
		if err != nil || v.ID != second || v.Agent != "a browser ✓" || v.Address != "2001:db8::1" || !v.ExpiresAt.Equal(t0.Add(time.Hour)) ||
			u.PasswordHash != "$2a$12$other" || !u.MustChange || !u.LastLogin.Equal(t0) {
			t.Errorf("%+v, %+v, %v", v, u, err)
		}
		if err := e.s.SetPassword(ctx(t), id+1, e.passwordHash(id+1), "x", false, 0); !errors.Is(err, accounts.ErrNotFound) {
			t.Errorf("nobody's password: %v", err)
		}
		// What was begun with an older password comes too late.
		if err := e.s.SetPassword(ctx(t), id, "$2a$12$older", "x", false, second); !errors.Is(err, accounts.ErrNotFound) {
			t.Errorf("in place of a password that was replaced: %v", err)
		}
		if _, err := e.s.AddSession(ctx(t), accounts.Session{User: id, Kind: accounts.KindPortal, Hash: "late", CreatedAt: t0, LastSeen: t0, ExpiresAt: t0.Add(time.Hour)}, "$2a$12$older", 50); !errors.Is(err, accounts.ErrNotFound) {
			t.Errorf("a login with a password that was replaced: %v", err)
		}
		if u, err = e.s.ChangeUser(ctx(t), id, func(u *accounts.User, _ int) error {
			u.PasswordHash, u.MustChange, u.PasswordByAdmin = "$2a$12$third", false, true
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		if _, _, err := e.s.Session(ctx(t), "b"); !errors.Is(err, accounts.ErrNotFound) {
			t.Errorf("a login after an administrator has set the password: %v", err)
		}
		if u, err := e.s.User(ctx(t), id); err != nil || u.PasswordHash != "$2a$12$third" || u.MustChange || !u.PasswordByAdmin {
			t.Errorf("%+v, %v", u, err)
		}
	})
}

func TestUserSessions(t *testing.T) {
	onBoth(t, func(t *testing.T, e *env) {
		anna, bob := e.addUser(user("anna@example.com", accounts.User{})), e.addUser(user("bob@example.com", accounts.User{}))
		theirs := e.addSession(bob, "bob", 3)
		for i := range 5 {
			e.clock.Advance(time.Minute)
			e.addSession(anna, fmt.Sprint("anna-", i), 3)
		}
		names := func(user int64) (list []string) {
			sessions, err := e.s.Sessions(ctx(t), user)
			if err != nil {
				t.Fatal(err)
			}
			for _, s := range sessions {
				list = append(list, s.Hash)
			}
			return list
		}
		if got := names(anna); !slices.Equal(got, []string{"anna-4", "anna-3", "anna-2"}) {
			t.Errorf("the newest three: %v", got)
		}
		if err := e.s.EndSession(ctx(t), anna, theirs); !errors.Is(err, accounts.ErrNotFound) {
			t.Errorf("somebody else's login: %v", err)
		}
		v, _, err := e.s.Session(ctx(t), "anna-2")
		if err != nil || e.s.TouchSession(ctx(t), v.ID, e.clock.Now().Add(time.Second), "192.0.2.1") != nil || e.s.ConfirmSession(ctx(t), v.ID, t0) != nil {
			t.Fatal(err)
		}
		if v, _, err = e.s.Session(ctx(t), "anna-2"); err != nil || !v.ConfirmedUntil.Equal(t0) || v.Address != "192.0.2.1" || !v.LastSeen.Equal(e.clock.Now().Add(time.Second)) {
			t.Errorf("%+v, %v", v, err)
		}
		for i, want := range []error{nil, accounts.ErrNotFound} {
			if err := e.s.RotateSession(ctx(t), theirs, "bob", "bob's next", t0.Add(time.Duration(i)), "192.0.2.2"); !errors.Is(err, want) {
				t.Errorf("rotation %d: %v", i, err)
			}
		}
		if v, _, err := e.s.SessionByID(ctx(t), theirs); err != nil || v.Hash != "bob's next" || !v.RotatedAt.Equal(t0) || v.Address != "192.0.2.2" {
			t.Errorf("%+v, %v", v, err)
		}
		if err := e.s.EndSessions(ctx(t), anna, v.ID); err != nil || !slices.Equal(names(anna), []string{"anna-2"}) {
			t.Errorf("%v, %v", names(anna), err)
		}
		e.clock.Advance(time.Hour)
		e.addSession(bob, "bob-2", 3)
		if len(names(anna)) != 0 || !slices.Equal(names(bob), []string{"bob-2"}) {
			t.Errorf("logins that have expired stay: %v, %v", names(anna), names(bob))
		}
	})
}

// TestFirstAdmin: of many who use one link at the same time, one becomes the administrator.
func TestFirstAdmin(t *testing.T) {
	onBoth(t, func(t *testing.T, e *env) {
		admin := user("anna@example.com", accounts.User{Role: accounts.Admin})
		if _, err := e.s.AddFirstAdmin(ctx(t), "link", t0, admin); !errors.Is(err, accounts.ErrLink) {
			t.Errorf("without a link: %v", err)
		}
		put := func(hash string) {
			if err := e.s.PutSetupLink(ctx(t), hash, t0.Add(time.Hour)); err != nil {
				t.Fatal(err)
			}
		}
		put("old")
		put("link")
		for hash, now := range map[string]time.Time{"old": t0, "link": t0.Add(time.Hour), "": t0} {
			if _, err := e.s.AddFirstAdmin(ctx(t), hash, now, admin); !errors.Is(err, accounts.ErrLink) {
				t.Errorf("%s: %v", hash, err)
			}
		}
		errs := make([]error, 8)
		var wg sync.WaitGroup
		for i := range errs {
			wg.Go(func() {
				u := admin
				u.Email = strings.Repeat("a", i+1) + "@example.com"
				_, errs[i] = e.s.AddFirstAdmin(ctx(t), "link", t0, u)
			})
		}
		wg.Wait()
		made := 0
		for _, err := range errs {
			if err == nil {
				made++
			} else if !errors.Is(err, accounts.ErrLink) {
				t.Error(err)
			}
		}
		has, err := e.s.HasAdmin(ctx(t))
		if made != 1 || !has || err != nil {
			t.Errorf("%d administrators, %v, %v", made, has, err)
		}
		put("again")
		if _, err := e.s.AddFirstAdmin(ctx(t), "again", t0, user("b@example.com", accounts.User{Role: accounts.Admin})); !errors.Is(err, accounts.ErrHasAdmin) {
			t.Errorf("a second one: %v", err)
		}
	})
}

func TestChangeAndRemoveUsers(t *testing.T) {
	onBoth(t, func(t *testing.T, e *env) {
		anna, bob := e.addUser(user("anna@example.com", accounts.User{Role: accounts.Admin})), e.addUser(user("bob@example.com", accounts.User{Name: "100% Bob_", Role: accounts.Admin}))
		e.addSession(bob, "bob", 9)
		codes := []string{"a", "b", "a"} // which the table does not take
		secret := func(u *accounts.User, others int) error {
			u.TOTPSecret, u.SecondFactor, u.TOTPStep, u.NewRecoveryCodes = "SECRET", true, 7, codes
			if others != 1 {
				t.Errorf("%d other administrators", others)
			}
			return nil
		}
		if _, err := e.s.ChangeUser(ctx(t), bob, secret); err == nil {
			t.Error("a recovery code twice")
		}
		if u, err := e.s.User(ctx(t), bob); err != nil || u.SecondFactor || e.dump("recovery_codes") != "" {
			t.Errorf("a second factor without its recovery codes: %+v, %v", u, err)
		}
		codes = codes[:2]
		if _, err := e.s.ChangeUser(ctx(t), bob, secret); err != nil {
			t.Fatal(err)
		}
		if u, err := e.s.User(ctx(t), bob); err != nil || u.TOTPSecret != "SECRET" || !u.SecondFactor || u.TOTPStep != 7 || strings.Contains(e.dump("users"), "SECRET") {
			t.Errorf("%+v, %v", u, err)
		}
		for step, ok := range map[int64]bool{7: false, 6: false} {
			if err := e.s.UseTOTPStep(ctx(t), bob, step); (err == nil) != ok {
				t.Errorf("step %d: %v", step, err)
			}
		}
		if err := errors.Join(e.s.UseTOTPStep(ctx(t), bob, 9), e.s.UseRecoveryCode(ctx(t), bob, "a")); err != nil {
			t.Error(err)
		}
		if err := e.s.UseRecoveryCode(ctx(t), bob, "a"); !errors.Is(err, accounts.ErrNotFound) {
			t.Errorf("twice: %v", err)
		}
		for _, search := range []string{"BOB@", "% Bob_", "bob_"} {
			if list, err := e.s.Users(ctx(t), accounts.UserFilter{Search: search, Limit: 10}); err != nil || len(list) != 1 || list[0].ID != bob {
				t.Errorf("%s: %+v, %v", search, list, err)
			}
		}
		if list, err := e.s.Users(ctx(t), accounts.UserFilter{Search: "b_b", Limit: 10}); err != nil || len(list) != 0 {
			t.Errorf("%+v, %v", list, err)
		}
		if list, err := e.s.Users(ctx(t), accounts.UserFilter{Role: accounts.Admin, After: anna, Limit: 1}); err != nil || len(list) != 1 || list[0].ID != bob {
			t.Errorf("%+v, %v", list, err)
		}
		no := &accounts.Error{Kind: "x", Message: "no"}
		if _, err := e.s.ChangeUser(ctx(t), bob, func(u *accounts.User, _ int) error { u.Name = "Eve"; return no }); !errors.Is(err, no) {
			t.Errorf("a refusal: %v", err)
		}
		off := func(u *accounts.User, _ int) error { u.Active = false; return nil }
		if u, err := e.s.ChangeUser(ctx(t), bob, off); err != nil || u.Name != "100% Bob_" {
			t.Errorf("%+v, %v", u, err)
		}
		if _, _, err := e.s.Session(ctx(t), "bob"); !errors.Is(err, accounts.ErrNotFound) {
			t.Errorf("an inactive account's login: %v", err)
		}
		if err := e.s.RemoveUser(ctx(t), anna, func(_ accounts.User, others int) error {
			if others != 0 {
				t.Errorf("%d other administrators", others)
			}
			return no
		}); !errors.Is(err, no) {
			t.Errorf("a refusal: %v", err)
		}
		if err := e.s.RemoveUser(ctx(t), bob, func(accounts.User, int) error { return nil }); err != nil {
			t.Fatal(err)
		}
		if left := e.dump("recovery_codes") + e.dump("user_sessions"); left != "" {
			t.Errorf("what belonged to it stays: %s", left)
		}
	})
}

// TestTwoAdminsDemoteEachOther: one of them stays.
func TestTwoAdminsDemoteEachOther(t *testing.T) {
	onBoth(t, func(t *testing.T, e *env) {
		ids := []int64{e.addUser(user("anna@example.com", accounts.User{Role: accounts.Admin})), e.addUser(user("bob@example.com", accounts.User{Role: accounts.Admin}))}
		var wg sync.WaitGroup
		for _, id := range ids {
			wg.Go(func() {
				_, err := e.s.ChangeUser(ctx(t), id, func(u *accounts.User, others int) error {
					if others == 0 {
						return accounts.ErrLastAdmin
					}
					u.Role = accounts.Plain
					return nil
				})
				if err != nil && !errors.Is(err, accounts.ErrLastAdmin) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if list, err := e.s.Users(ctx(t), accounts.UserFilter{Role: accounts.Admin, Limit: 10}); err != nil || len(list) != 1 {
			t.Errorf("%d administrators, %v", len(list), err)
		}
	})
}

func TestResetsAndTokens(t *testing.T) {
	onBoth(t, func(t *testing.T, e *env) {
		id := e.addUser(user("anna@example.com", accounts.User{}))
		put := func(hash string, now time.Time) error {
			return e.s.PutReset(ctx(t), id, hash, now, now.Add(time.Hour), now.Add(-time.Hour), 2)
		}
		if err := errors.Join(put("a", t0), put("b", t0)); err != nil {
			t.Fatal(err)
		}
		if err := put("c", t0.Add(time.Minute)); !errors.Is(err, accounts.ErrTooMany) {
			t.Errorf("a third: %v", err)
		}
		if u, err := e.s.Reset(ctx(t), "a", t0.Add(time.Minute)); err != nil || u.ID != id {
			t.Errorf("%+v, %v", u, err)
		}
		for hash, now := range map[string]time.Time{"x": t0, "a": t0.Add(time.Hour)} {
			if _, err := e.s.UseReset(ctx(t), hash, now, "$2a$12$new"); !errors.Is(err, accounts.ErrLink) {
				t.Errorf("%s: %v", hash, err)
			}
		}
		if u, err := e.s.UseReset(ctx(t), "a", t0, "$2a$12$new"); err != nil || u.ID != id {
			t.Errorf("%+v, %v", u, err)
		}
		for _, hash := range []string{"a", "b"} {
			if _, err := e.s.UseReset(ctx(t), hash, t0, "$2a$12$newer"); !errors.Is(err, accounts.ErrLink) {
				t.Errorf("%s again: %v", hash, err)
			}
		}
		if err := put("d", t0.Add(3*time.Hour)); err != nil {
			t.Error(err)
		}
		token := accounts.Token{User: id, Name: "monitoring ✓", Hash: "t", Scopes: []string{"a:read", "b:write"}, CreatedAt: t0, ExpiresAt: t0.Add(time.Hour)}
		var err error
		if token.ID, err = e.s.AddToken(ctx(t), token, 1); err != nil {
			t.Fatal(err)
		}
		if _, err := e.s.AddToken(ctx(t), token, 1); !errors.Is(err, accounts.ErrTooMany) {
			t.Errorf("a second: %v", err)
		}
		if err := e.s.TouchToken(ctx(t), token.ID, t0.Add(time.Second), "192.0.2.1"); err != nil {
			t.Error(err)
		}
		token.LastUsed, token.Address = t0.Add(time.Second), "192.0.2.1"
		got, u, err := e.s.Token(ctx(t), "t")
		if fmt.Sprint(got) != fmt.Sprint(token) || u.PasswordHash != "$2a$12$new" || err != nil {
			t.Errorf("%+v, %+v, %v", got, u, err)
		}
		if list, err := e.s.Tokens(ctx(t), id); err != nil || len(list) != 1 || fmt.Sprint(list[0]) != fmt.Sprint(token) {
			t.Errorf("%+v, %v", list, err)
		}
		if err := e.s.RemoveToken(ctx(t), id+1, token.ID); !errors.Is(err, accounts.ErrNotFound) {
			t.Errorf("somebody else's: %v", err)
		}
		if err := e.s.RemoveToken(ctx(t), id, token.ID); err != nil {
			t.Error(err)
		}
		if _, err := e.s.AddToken(ctx(t), token, 1); err != nil {
			t.Fatal(err)
		}
		for _, tc := range []struct {
			keep int64
			want error
		}{{1, nil}, {0, accounts.ErrNotFound}} { // the own new password, and one of an administrator
			if err := e.s.SetPassword(ctx(t), id, e.passwordHash(id), "$2a$12$newest", false, tc.keep); err != nil {
				t.Error(err)
			}
			if _, _, err := e.s.Token(ctx(t), token.Hash); !errors.Is(err, tc.want) {
				t.Errorf("a token after a password that keeps session %d: %v", tc.keep, err)
			}
		}
	})
}

// TestLoginFailures: main servers that share a database count together, and strangers do not fill it.
func TestLoginFailures(t *testing.T) {
	onBoth(t, func(t *testing.T, e *env) {
		stores := []*records.Store{e.s, e.s}
		if e.name != "" {
			stores[1] = e.open(nil)
		}
		const most = 5
		anna := e.addUser(user("anna@example.com", accounts.User{}))
		take := func(f *accounts.Failures) error {
			if f.Count == most {
				return accounts.ErrLocked
			}
			if f.Count++; f.Count == 1 {
				f.Since = t0
			}
			if f.Count == most {
				f.LockedUntil = t0.Add(time.Minute)
			}
			return nil
		}
		for _, email := range []string{"anna@example.com", "nobody@example.com"} {
			var taken atomic.Int32
			var wg sync.WaitGroup
			for i := range 50 {
				wg.Go(func() {
					err := stores[i%2].ChangeFailures(ctx(t), email, t0.Add(-time.Hour), 100, take)
					if err == nil {
						taken.Add(1)
					} else if !errors.Is(err, accounts.ErrLocked) {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			if n := taken.Load(); n != most {
				t.Errorf("%s: %d tries of 50 at the same time, want %d", email, n, most)
			}
		}
		locked := func() bool {
			u, err := e.s.User(ctx(t), anna)
			if err != nil {
				t.Error(err)
			}
			return u.LockedUntil.Equal(t0.Add(time.Minute))
		}
		if !locked() {
			t.Error("the account is not locked")
		}
		if err := e.s.ForgetFailures(ctx(t), "anna@example.com"); err != nil || locked() {
			t.Errorf("it is locked still, %v", err)
		}
		count := func() int { return strings.Count(e.dump("login_failures"), "@example.com") }
		undo := func(f *accounts.Failures) error { f.Count--; return nil }
		if err := e.s.ChangeFailures(ctx(t), "bob@example.com", t0, 100, undo); err != nil || count() != 1 {
			t.Errorf("less than none: %v, %d rows", err, count())
		}
		for i := range 12 { // the one that is locked stays
			if err := e.s.ChangeFailures(ctx(t), fmt.Sprint(i, "@example.com"), t0, 10, take); err != nil {
				t.Error(err)
			}
		}
		if n := count(); n > 10 || n < 8 || !strings.Contains(e.dump("login_failures"), "nobody@example.com") || !strings.Contains(e.dump("login_failures"), "11@example.com") {
			t.Errorf("%d rows: %s", n, e.dump("login_failures"))
		}
		if err := e.s.ChangeFailures(ctx(t), "anna@example.com", t0.Add(time.Second), 10, func(f *accounts.Failures) error {
			*f = accounts.Failures{Count: most, Since: t0.Add(time.Minute), LockedUntil: t0.Add(time.Minute)}
			return nil
		}); err != nil || count() != 1 || !locked() {
			t.Errorf("old ones stay: %v, %d rows", err, count())
		}
		if err := e.s.SetPassword(ctx(t), anna, e.passwordHash(anna), "$2a$12$new", false, 1); err != nil || count() != 0 {
			t.Errorf("after a new password: %v, %d rows", err, count())
		}
	})
}
