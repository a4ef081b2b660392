package records_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sealmq/sealmq/pipeline/accounts"
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
		Address: "2001:db8::1", Agent: "a browser ✓"}, most)
	if err != nil {
		e.t.Fatal(err)
	}
	return id
}

func TestUsers(t *testing.T) {
	onBoth(t, func(t *testing.T, e *env) {
		id := e.addUser(user("anna@example.com", accounts.User{Name: "Anna ✓", ClientID: "acme-01"}))
		if _, err := e.s.AddUser(ctx(t), user("anna@example.com", accounts.User{})); !errors.Is(err, accounts.ErrEmailTaken) {
			t.Errorf("twice: %v", err)
		}
		u, err := e.s.UserByEmail(ctx(t), "anna@example.com")
		want := user("anna@example.com", accounts.User{ID: id, Name: "Anna ✓", ClientID: "acme-01", CreatedAt: u.CreatedAt, UpdatedAt: u.UpdatedAt})
		if err != nil || u != want || !u.CreatedAt.Equal(t0) {
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
		if err := e.s.SetPassword(ctx(t), id, "$2a$12$other", true, second); err != nil {
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
		if err := e.s.SetPassword(ctx(t), id+1, "x", false, 0); !errors.Is(err, accounts.ErrNotFound) {
			t.Errorf("nobody's password: %v", err)
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
