package accounts

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/sealmq/sealmq"
)

// memory is a Store with the methods that rules about accounts need.
type memory struct {
	Store
	users []User
}

func (m *memory) AddUser(_ context.Context, u User) (int64, error) {
	if slices.ContainsFunc(m.users, func(o User) bool { return o.Email == u.Email }) {
		return 0, ErrEmailTaken
	}
	u.ID = int64(len(m.users) + 1)
	m.users = append(m.users, u)
	return u.ID, nil
}

func (m *memory) find(is func(User) bool) (*User, int, error) {
	i, others := slices.IndexFunc(m.users, is), 0
	if i < 0 {
		return nil, 0, ErrNotFound
	}
	for j, u := range m.users {
		if j != i && u.Role == Admin && u.Active {
			others++
		}
	}
	return &m.users[i], others, nil
}

func (m *memory) User(_ context.Context, id int64) (User, error) {
	u, _, err := m.find(func(u User) bool { return u.ID == id })
	if err != nil {
		return User{}, err
	}
	return *u, nil
}

func (m *memory) UserByEmail(_ context.Context, email string) (User, error) {
	u, _, err := m.find(func(u User) bool { return u.Email == email })
	if err != nil {
		return User{}, err
	}
	return *u, nil
}

func (m *memory) ChangeUser(_ context.Context, id int64, change func(*User, int) error) (User, error) {
	u, others, err := m.find(func(u User) bool { return u.ID == id })
	if err != nil {
		return User{}, err
	}
	changed := *u
	err = change(&changed, others)
	return changed, err
}

func (m *memory) RemoveUser(_ context.Context, id int64, check func(User, int) error) error {
	u, others, err := m.find(func(u User) bool { return u.ID == id })
	if err != nil {
		return err
	}
	return check(*u, others)
}

func (m *memory) HasAdmin(context.Context) (bool, error) {
	return slices.ContainsFunc(m.users, func(u User) bool { return u.Role == Admin && u.Active }), nil
}

func (*memory) SetPassword(context.Context, int64, string, string, bool, int64) error { return nil }
func (*memory) EndSessions(context.Context, int64, int64) error                       { return nil }

func newService(t *testing.T, now func() time.Time, users ...User) (*Service, *memory) {
	t.Helper()
	m := &memory{}
	for _, u := range users {
		u.Active = true
		if _, err := m.AddUser(t.Context(), u); err != nil {
			t.Fatal(err)
		}
	}
	s, err := New(Config{Store: m, Cost: bcrypt.MinCost, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	return s, m
}

// TestPasswords: which new passwords are taken.
func TestPasswords(t *testing.T) {
	anna := User{Email: "Anna.Long@example.com", Name: "Annabel"}
	for password, want := range map[string]string{
		"correct horse battery": "", "long enough": "", "Tr0ub4dor&3": "", "пароль из слов": "", "x9!kQ2mz": "", "bookkeeper-417": "", strings.Repeat("ab1 ", 18): "",
		"":                      "at least 8",
		"seven77":               "at least 8",
		"ÄÖÜäöüß":               "at least 8",
		strings.Repeat("é", 37): "at most 72 bytes",
		"bad\xffutf8 text":      "UTF-8",
		"zero\x00 inside it":    "zero byte",
		"AdminPass123!":         "published",
		"SuperSecretJWTKey":     "published",
		"password":              "tries first", "Password123!": "tries first", "P@ssw0rd2026": "tries first", "  welcome1": "tries first", "adm1n1234": "tries first", "!!letme1n!!": "tries first",
		"12345678": "tries first", "987654321": "tries first", "abcdefgh": "tries first", "qwertyuiop": "tries first", "1q2w3e4r": "tries first", "asdf1234": "tries first", "qazwsxedc": "tries first",
		"aaaaaaaa": "tries first", "12121212": "tries first", "abcabcabc": "tries first", "Sommer2026!": "tries first", "iloveyou": "tries first",
		"sealmq is good": "name", "my SealMQ pass": "name", "anna.long 1!x": "name", "i am ANNABEL": "name",
	} {
		err := checkPassword("password", password, anna)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, want %q", password, err, want)
		}
		if err != nil && len(password) > 8 && strings.Contains(err.Error(), password) {
			t.Errorf("%q is in its error", password)
		}
	}
	if err := checkPassword("password", "bob is my uncle", User{Email: "bob@example.com"}); err != nil {
		t.Errorf("a short name: %v", err)
	}
}

func TestEmailAddresses(t *testing.T) {
	for email, want := range map[string]string{
		"anna@example.com": "anna@example.com", " Anna.B+x@Example.COM ": "anna.b+x@example.com", "a@b": "a@b", "o'neil@example.com": "o'neil@example.com",
		"": "", "anna": "", "@example.com": "", "anna@": "", "a@b@c": "", "a..b@example.com": "", ".a@example.com": "", "a.@example.com": "", "a@-b.com": "", "a@b-.com": "", "a@b..com": "",
		"a b@example.com": "", "a\r\nBcc: x@example.com": "", "a@example.com\nX: y": "", "<a@example.com>": "", `"a"@example.com`: "", "ä@example.com": "", "a@exämple.com": "",
		strings.Repeat("a", 65) + "@example.com": "", "a@" + strings.Repeat("b", 64) + ".com": "", "a@" + strings.Repeat("b.", 130) + "com": "",
	} {
		if got := normalEmail(email); got != want {
			t.Errorf("%q: %q, want %q", email, got, want)
		}
	}
}

// TestWhoLooksAfterWhom tries each role on an account of each role.
func TestWhoLooksAfterWhom(t *testing.T) {
	people := []User{{Email: "admin@example.com", Role: Admin}, {Email: "second@example.com", Role: Admin}, {Email: "manager@example.com", Role: UserManager},
		{Email: "operator@example.com", Role: Operator}, {Email: "plain@example.com", Role: Plain, PasswordByAdmin: true}, {Email: "client@example.com", Role: Plain, ClientID: "acme-01", PasswordByAdmin: true}}
	s, _ := newService(t, nil, people...)
	off, admin, acme := false, Admin, "acme-01"
	acts := map[string]func(Actor, int64) error{
		"deactivate": func(a Actor, id int64) error {
			_, _, err := s.ChangeUser(t.Context(), a, id, Changes{Active: &off})
			return err
		},
		"role": func(a Actor, id int64) error {
			_, _, err := s.ChangeUser(t.Context(), a, id, Changes{Role: &admin})
			return err
		},
		"client": func(a Actor, id int64) error {
			_, _, err := s.ChangeUser(t.Context(), a, id, Changes{ClientID: &acme})
			return err
		},
		"password": func(a Actor, id int64) error {
			_, err := s.SetPassword(t.Context(), a, id, "correct horse battery", true)
			return err
		},
		"second factor": func(a Actor, id int64) error { _, err := s.TakeSecondFactor(t.Context(), a, id); return err },
		"sign out":      func(a Actor, id int64) error { _, err := s.SignOut(t.Context(), a, id); return err },
		"delete":        func(a Actor, id int64) error { _, err := s.DeleteUser(t.Context(), a, id); return err },
	}
	const everybody = "admin second manager operator plain client"
	may := map[sealmq.Role]map[string]string{
		Admin: {"deactivate": everybody, "role": everybody, "client": everybody, "password": everybody, "second factor": everybody, "sign out": everybody, "delete": everybody},
		// A change that changes nothing is none: the client's account has its client already.
		UserManager: {"deactivate": "plain client", "client": "client", "password": "plain", "second factor": "plain", "sign out": "plain client"},
		Operator:    {}, Plain: {}, sealmq.RoleClient: {}, "": {},
	}
	for role, allowed := range may {
		for act, do := range acts {
			for i, u := range people {
				name, _, _ := strings.Cut(u.Email, "@")
				err := do(Actor{ID: 99, Role: role}, int64(i+1))
				if want := slices.Contains(strings.Fields(allowed[act]), name); want != (err == nil) {
					t.Errorf("%s, %s of %s: %v, allowed %v", role, act, name, err, want)
				}
			}
		}
	}
	for act, do := range acts {
		if err := do(Actor{Role: Admin}, 99); !errors.Is(err, ErrNotFound) {
			t.Errorf("%s of nobody: %v", act, err)
		}
	}
}

// TestKnownPasswords: nobody but an administrator sets a password that its owner need not change.
func TestKnownPasswords(t *testing.T) {
	s, m := newService(t, nil, User{Email: "plain@example.com", Role: Plain})
	const password = "correct horse battery"
	for role, want := range map[sealmq.Role]error{Admin: nil, UserManager: ErrKnown} {
		a := Actor{ID: 99, Role: role}
		if _, err := s.SetPassword(t.Context(), a, 1, password, false); !errors.Is(err, want) {
			t.Errorf("%s sets one: %v", role, err)
		}
		if _, err := s.CreateUser(t.Context(), a, NewUser{Email: string(role) + "-1@example.com", Password: password}); !errors.Is(err, want) {
			t.Errorf("%s makes an account: %v", role, err)
		}
		u, err := s.CreateUser(t.Context(), a, NewUser{Email: string(role) + "-2@example.com", Password: password, MustChange: true})
		if _, errSet := s.SetPassword(t.Context(), a, 1, password, true); err != nil || errSet != nil || !u.MustChange || !m.users[len(m.users)-1].MustChange {
			t.Errorf("%s: %+v, %v, %v", role, u, err, errSet)
		}
	}
}

// TestManagersTakeNothingOver: an account whose password a user manager may know gets neither a
// client nor a role until an administrator has set another one.
func TestManagersTakeNothingOver(t *testing.T) {
	const password = "correct horse battery"
	s, m := newService(t, nil, User{Email: "known@example.com", Role: Plain}, User{Email: "safe@example.com", Role: Plain, PasswordByAdmin: true},
		User{Email: "old@example.com", Role: Plain, ClientID: "acme-01"})
	a := Actor{ID: 99, Role: Admin}
	none, acme, operator, off := "", "acme-01", Operator, false
	for name, tc := range map[string]struct {
		id   int64
		c    Changes
		want error
	}{
		"a client":                 {1, Changes{ClientID: &acme}, ErrByManager},
		"a role":                   {1, Changes{Role: &operator}, ErrByManager},
		"neither":                  {1, Changes{Active: &off}, nil},
		"a client, safe":           {2, Changes{ClientID: &acme}, nil},
		"a role, safe":             {2, Changes{Role: &operator}, nil},
		"the client that it has":   {3, Changes{ClientID: &acme}, nil},
		"no client":                {3, Changes{ClientID: &none}, nil},
		"a role beside its client": {3, Changes{Role: &operator}, ErrByManager},
	} {
		if _, _, err := s.ChangeUser(t.Context(), a, tc.id, tc.c); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for role, safe := range map[sealmq.Role]bool{Admin: true, UserManager: false} {
		a := Actor{ID: 99, Role: role}
		u, err := s.SetPassword(t.Context(), a, 1, password, true)
		if err != nil || u.PasswordByAdmin != safe || u.PasswordHash == "" {
			t.Errorf("%s sets a password: %+v, %v", role, u, err)
		}
		if _, err := s.CreateUser(t.Context(), a, NewUser{Email: string(role) + "@example.com", Password: password, MustChange: true}); err != nil || m.users[len(m.users)-1].PasswordByAdmin != safe {
			t.Errorf("%s makes an account: %v", role, err)
		}
	}
}

// TestLastAdministrator: somebody can always administer, and nobody cuts the own branch off.
func TestLastAdministrator(t *testing.T) {
	s, _ := newService(t, nil, User{Email: "admin@example.com", Role: Admin}, User{Email: "plain@example.com", Role: Plain})
	off, plain := false, Plain
	outside, self := Actor{Role: Admin}, Actor{ID: 1, Role: Admin}
	for name, tc := range map[string]struct{ err, want error }{
		"deactivate":      {second(s.ChangeUser(t.Context(), outside, 1, Changes{Active: &off})), ErrLastAdmin},
		"take the role":   {second(s.ChangeUser(t.Context(), outside, 1, Changes{Role: &plain})), ErrLastAdmin},
		"delete":          {first(s.DeleteUser(t.Context(), outside, 1)), ErrLastAdmin},
		"itself":          {second(s.ChangeUser(t.Context(), self, 1, Changes{Active: &off})), ErrOwnAccount},
		"its own role":    {second(s.ChangeUser(t.Context(), self, 1, Changes{Role: &plain})), ErrOwnAccount},
		"delete itself":   {first(s.DeleteUser(t.Context(), self, 1)), ErrOwnAccount},
		"another account": {second(s.ChangeUser(t.Context(), outside, 2, Changes{Active: &off})), nil},
	} {
		if !errors.Is(tc.err, tc.want) {
			t.Errorf("%s: %v, want %v", name, tc.err, tc.want)
		}
	}
}

func first(_ User, err error) error     { return err }
func second(_, _ User, err error) error { return err }

// TestBootstrap: the first administrator of the environment.
func TestBootstrap(t *testing.T) {
	for _, tc := range []struct {
		name, email, password string
		published, has        bool
		made                  bool
		field                 string
	}{
		{"a good password", "Root@example.com", "correct horse battery", false, false, true, ""},
		{"published, for this host alone", "root@example.com", "AdminPass123!", true, false, true, ""},
		{"published", "root@example.com", "AdminPass123!", false, false, false, "password"},
		{"a weak password", "root@example.com", "password1", true, false, false, "password"},
		{"a short password", "root@example.com", "x", true, false, false, "password"},
		{"no address", "root", "correct horse battery", false, false, false, "email"},
		{"there is one", "other@example.com", "correct horse battery", false, true, false, ""},
		{"there is another one", "other@example.com", "AdminPass123!", false, true, false, ""},
	} {
		var users []User
		if tc.has {
			users = append(users, User{Email: "admin@example.com", Role: Admin})
		}
		s, m := newService(t, nil, users...)
		u, made, err := s.Bootstrap(t.Context(), tc.email, tc.password, tc.published)
		e, _ := errors.AsType[*Error](err)
		if made != tc.made || (e != nil) != (tc.field != "") || e != nil && e.Field != tc.field {
			t.Errorf("%s: %v, %v", tc.name, made, err)
		}
		if stored := m.users[len(m.users)-min(1, len(m.users)):]; made && (u.ID != 1 || len(stored) != 1 || !stored[0].MustChange || stored[0].Role != Admin || stored[0].Email != "root@example.com") {
			t.Errorf("%s: %+v", tc.name, stored)
		}
	}
	// The published password is noticed also later, when the listeners are open.
	s, _ := newService(t, nil)
	if _, made, err := s.Bootstrap(t.Context(), "root@example.com", "AdminPass123!", true); !made || err != nil {
		t.Fatal(err)
	}
	if _, _, err := s.Bootstrap(t.Context(), "root@example.com", "AdminPass123!", false); !errors.Is(err, ErrPublished) {
		t.Errorf("the account still has the published password: %v", err)
	}
}

// TestTOTP: the test vectors of RFC 6238 for SHA-1, whose last six digits are ours.
func TestTOTP(t *testing.T) {
	const secret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ" // 12345678901234567890
	for second, code := range map[int64]string{59: "94287082", 1111111109: "07081804", 1111111111: "14050471", 1234567890: "89005924", 2000000000: "69279037", 20000000000: "65353130"} {
		s, _ := newService(t, func() time.Time { return time.Unix(second, 0) })
		for _, tc := range []struct {
			secret, code string
			ok           bool
		}{
			{secret, code[2:], true}, {secret, code, false}, {secret, code[:6], false}, {secret, "", false}, {secret, code[2:7], false}, {"", code[2:], false}, {"not base 32!", code[2:], false},
			{strings.Replace(secret, "G", "A", 1), code[2:], false},
		} {
			if step, ok := s.step(tc.secret, tc.code); ok != tc.ok || ok && step != second/30 {
				t.Errorf("%d, %s, %q: step %d, %v", second, tc.secret, tc.code, step, ok)
			}
		}
		for away, ok := range map[int64]bool{-60: false, -30: true, 30: true, 60: false} {
			s.cfg.Now = func() time.Time { return time.Unix(second+away, 0) }
			if _, got := s.step(secret, code[2:]); got != ok && second+away > 0 {
				t.Errorf("%d, a clock that is wrong by %d seconds: %v", second, away, got)
			}
		}
	}
}

// TestLimiter: failures lock a key for a window, and what was no failure does not count.
func TestLimiter(t *testing.T) {
	l := addressLimit{limit: limit{most: 3, window: time.Minute}}
	at := func(seconds int) time.Time { return time.Unix(1_000_000+int64(seconds), 0) }
	for i, tc := range []struct {
		second int
		key    string
		ok     bool
		back   bool
		wait   time.Duration
	}{
		{0, "a", true, false, 0},
		{1, "a", true, true, 0}, // it was no failure
		{2, "a", true, false, 0},
		{3, "b", true, false, 0},
		{4, "a", true, false, 0}, // the third
		{5, "a", false, false, 59 * time.Second},
		{5, "b", true, false, 0},
		{63, "a", false, false, time.Second},
		{64, "a", true, false, 0},
		{130, "a", true, false, 0}, // the last failure is too old to count
		{131, "a", true, false, 0},
	} {
		wait, ok := l.take(tc.key, at(tc.second))
		if ok != tc.ok || wait != tc.wait {
			t.Errorf("%d: %v, %v", i, wait, ok)
		}
		if tc.back {
			l.giveBack(tc.key)
		}
	}
	if l.giveBack("a"); len(l.keys) != 2 {
		t.Errorf("%d keys", len(l.keys))
	}
	for i := range maxKeys + 10 {
		l.take(fmt.Sprint(i), at(131))
	}
	if n := len(l.keys); n > maxKeys || n < maxKeys/2 {
		t.Errorf("%d keys", n)
	}
}

func TestScopes(t *testing.T) {
	for _, tc := range []struct {
		scopes, task string
		write, want  bool
	}{
		{"", "messages", true, true}, {"messages:read", "messages", false, true}, {"messages:read", "messages", true, false}, {"messages:write", "messages", false, true},
		{"messages:write", "broker", false, false}, {"broker:read messages:write", "messages", true, true}, {"messages", "messages", false, false},
	} {
		token := Token{Scopes: strings.Fields(tc.scopes)}
		if got := token.Allows(tc.task, tc.write); got != tc.want {
			t.Errorf("%q, %s, write %v: %v", tc.scopes, tc.task, tc.write, got)
		}
	}
}
