package records_test

import (
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/crypto/bcrypt"

	"github.com/sealmq/sealmq/internal/testing/fakeclock"
	"github.com/sealmq/sealmq/pipeline"
	"github.com/sealmq/sealmq/pipeline/accounts"
	"github.com/sealmq/sealmq/pipeline/records"
	"github.com/sealmq/sealmq/pipeline/records/atrest"
)

// oldWorld is a database of the earlier system.
type oldWorld struct {
	t    testing.TB
	name string
	cfg  records.Config
	db   *sql.DB
}

func newOldWorld(t testing.TB) *oldWorld {
	t.Helper()
	server := mariaDB(t)
	address, name, err := server.Database()
	if err != nil {
		t.Fatal(err)
	}
	w := &oldWorld{t: t, name: name}
	if w.db, err = sql.Open("mysql", server.DSN(name)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.db.Close() })
	script, err := os.ReadFile(filepath.Join("testdata", "old_system.sql"))
	if err != nil {
		t.Fatal(err)
	}
	for _, statement := range strings.Split(string(script), ";\n") {
		w.exec(statement)
	}
	var raw []byte
	for i := range 32 {
		raw = append(raw, byte(i))
	}
	old, err := atrest.ParseKey(raw)
	if err != nil {
		t.Fatal(err)
	}
	keys, err := atrest.NewRing(2, map[uint16]atrest.Key{1: old, 2: atrest.NewKey()})
	if err != nil {
		t.Fatal(err)
	}
	salt := "old-salt"
	w.cfg = records.Config{URL: address, Keys: keys, Numbers: atrest.NewHasher(ring(t, 1, 1), &salt), Clock: fakeclock.New(t0)}
	return w
}

func (w *oldWorld) exec(statement string, args ...any) {
	w.t.Helper()
	if strings.TrimSpace(statement) == "" {
		return
	}
	if _, err := w.db.Exec(statement, args...); err != nil {
		w.t.Fatalf("%.60s: %v", statement, err)
	}
}

func (w *oldWorld) open() *records.Adoption {
	w.t.Helper()
	a, err := records.OpenOld(w.t.Context(), w.cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { a.Close() })
	return a
}

// state is everything in the database.
func (w *oldWorld) state() map[string][]string {
	w.t.Helper()
	all := make(map[string][]string)
	for _, table := range []string{"alembic_version", "users", "clients", "messages", "audit_log", "password_resets", "message_counts", "settings"} {
		rows, err := w.db.Query("SELECT * FROM " + table)
		if err != nil {
			w.t.Fatal(err)
		}
		columns, err := rows.Columns()
		if err != nil {
			w.t.Fatal(err)
		}
		for rows.Next() {
			values, fields := make([]sql.NullString, len(columns)), make([]any, len(columns))
			for i := range values {
				fields[i] = &values[i]
			}
			if err := rows.Scan(fields...); err != nil {
				w.t.Fatal(err)
			}
			all[table] = append(all[table], fmt.Sprint(values))
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			w.t.Fatal(err)
		}
		slices.Sort(all[table])
	}
	return all
}

func nothing(string) error { return nil }

// TestAdopt takes a database over, and looks at everything in it with the store.
func TestAdopt(t *testing.T) {
	w := newOldWorld(t)
	if _, err := records.Open(t.Context(), w.cfg); !errors.Is(err, records.ErrOldSystem) {
		t.Fatalf("the store opens it: %v", err)
	}
	if _, err := records.IsNew(t.Context(), w.cfg); !errors.Is(err, records.ErrOldSystem) {
		t.Fatalf("it is taken for new: %v", err)
	}
	a := w.open()
	plan, err := a.Plan(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got, err := json.MarshalIndent(plan, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	want := &records.AdoptionPlan{
		Tables: []records.AdoptionTable{
			{Name: "clients", Rows: 3},
			{Name: "users", Rows: 3, Adds: []string{"name", "must_change_password", "totp_secret", "totp_confirmed", "totp_step"}},
			{Name: "messages", Rows: 4, Adds: []string{"client_key", "phone_key_id", "sender_number_enc", "scope_key_id", "sealed", "metadata", "worker_id"}},
			{Name: "audit_log", Rows: 2},
			{Name: "password_resets", Rows: 1},
		},
		Repairs: []records.AdoptionFinding{
			{What: "clients whose names begin or end in blanks", Rows: 1},
			{What: "messages whose client is written in other upper and lower case than in the table of clients", Rows: 1},
			{What: "accounts whose client is written in other upper and lower case than in the table of clients", Rows: 1},
			{What: "clients without a fingerprint", Rows: 1},
			{What: "fingerprints with colons or in upper case", Rows: 1},
			{What: "revoked clients without a reason", Rows: 1},
			{What: "e-mail addresses in upper case or with blanks", Rows: 1},
		},
		Problems: []records.AdoptionFinding{}, Triggers: []string{"trg_user_login"}, Unreadable: 1, Revoked: []string{"stolen"},
	}
	if diff := cmp.Diff(want, plan); diff != "" {
		t.Fatalf("the plan: %s\n%s", diff, got)
	}
	if err := a.Run(t.Context(), nothing); err != nil {
		t.Fatal(err)
	}
	if _, err := records.OpenOld(t.Context(), w.cfg); !errors.Is(err, records.ErrAdopted) {
		t.Errorf("again: %v", err)
	}
	if is, err := records.IsNew(t.Context(), w.cfg); !is || err != nil {
		t.Errorf("no main server has opened it, so its keys are still to be made: %v, %v", is, err)
	}
	// Run was killed before it had made all tables.
	w.exec("DROP TABLE api_tokens")
	w.exec("DELETE FROM goose_db_version WHERE version_id >= 45")
	if err := records.FinishAdoption(t.Context(), w.cfg); err != nil {
		t.Error(err)
	}
	w.exec("SELECT 1 FROM api_tokens")
	w.check()
	w.exec("DELETE FROM goose_db_version WHERE version_id >= 45")
	w.exec("DROP TABLE api_tokens")
	if err := records.FinishAdoption(t.Context(), w.cfg); err != nil {
		t.Errorf("of a database that a main server has: %v", err)
	}
	if _, err := w.db.Exec("SELECT 1 FROM api_tokens"); err == nil {
		t.Error("a main server's database was changed")
	}
}

// check looks at a database that was taken over, and writes to it.
func (w *oldWorld) check() {
	t := w.t
	t.Helper()
	w.cfg.IDKey = "fingerprint"
	s, err := records.Open(t.Context(), w.cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if is, err := records.IsNew(t.Context(), w.cfg); is || err != nil {
		t.Errorf("it was opened: %v, %v", is, err)
	}
	find := func(number string) (ids []string) {
		t.Helper()
		page, err := s.List(t.Context(), records.Filter{Number: number})
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range page.Records {
			ids = append(ids, m.ID[:1]+" "+m.Client)
		}
		return ids
	}
	search := func() {
		t.Helper()
		for number, want := range map[string][]string{"+4915200000001": {"1 acme-01"}, "+4915200000002": {"2 acme-01"}, "+4915200000003": {"3 blank"}, "+4915200000004": {"4 stolen"}, "+4915200000009": nil} {
			if got := find(number); !slices.Equal(got, want) {
				t.Errorf("%s finds %q, not %q", number, got, want)
			}
		}
	}
	texts := func() {
		t.Helper()
		for client, id := range map[string]string{"acme-01": "11111111-1111-4111-8111-111111111111", "blank": "33333333-3333-4333-8333-333333333333"} {
			m, err := s.Get(t.Context(), client, id)
			if err != nil || m.Body != "Grüße aus dem Labor" {
				t.Errorf("%s: %+v, %v", client, m, err)
			}
		}
	}
	search()
	texts()
	for p := (records.Reencryption{}); !p.Done; {
		if p, err = s.Reencrypt(t.Context()); err != nil {
			t.Fatal(err)
		}
		if p.Done && (p.Changed != 3 || p.Unreadable != 1) {
			t.Errorf("re-encryption: %+v", p)
		}
	}
	search()
	texts()

	for email, password := range map[string]string{"admin@example.com": "Ordinary-Password-1", "anna@example.com": "Another-Password-2", "bob@example.com": "Third-Password-3"} {
		u, err := s.UserByEmail(t.Context(), email)
		if err != nil || bcrypt.CompareHashAndPassword([]byte(u.PasswordHash), []byte(password)) != nil {
			t.Errorf("%s: %+v, %v", email, u, err)
		}
		if wants := map[string]accounts.User{"admin@example.com": {Role: accounts.Admin, Active: true}, "anna@example.com": {Role: accounts.Plain, Active: true, ClientID: "acme-01"},
			"bob@example.com": {Role: accounts.Plain}}[email]; u.Role != wants.Role || u.Active != wants.Active || u.ClientID != wants.ClientID {
			t.Errorf("%s is %+v", email, u)
		}
	}
	for name, want := range map[string]string{"acme-01": "aabbccddeeff00112233445566778899aabbccddeeff00112233445566778899", "blank": ""} {
		if c, err := s.Client(t.Context(), name); err != nil || c.Status != records.Active || c.Fingerprint != want {
			t.Errorf("%s: %+v, %v", name, c, err)
		}
	}
	if c, err := s.Client(t.Context(), "stolen"); err != nil || c.Status != records.Revoked || c.RevokedAt.IsZero() || c.Reason == "" {
		t.Errorf("%+v, %v", c, err)
	}
	var types []string
	events, err := s.Audit(t.Context(), records.AuditFilter{})
	for _, e := range events {
		types = append(types, e.Type)
	}
	if want := []string{"database_adopted", "certificate_revoked", "user_login"}; err != nil || !slices.Equal(types, want) {
		t.Errorf("audit log %q, %v", types, err)
	}
	if _, err := s.AddUser(t.Context(), accounts.User{Email: "new@example.com", Role: accounts.UserManager, PasswordHash: "x"}); err != nil {
		t.Error(err)
	}
	counted(w.t, w.db)
	results, err := s.Register(t.Context(), messages(1, 2))
	want(w.t, results, err, pipeline.StatusRegistered, pipeline.StatusRegistered)
	counted(w.t, w.db)
	var active int
	if err := w.db.QueryRow("SELECT COUNT(*) FROM v_active_messages").Scan(&active); err != nil || active != 3 {
		t.Errorf("the earlier system's view: %d, %v", active, err)
	}
}

// counted compares the counts with the rows.
func counted(t testing.TB, db *sql.DB) {
	t.Helper()
	var wrong int
	err := db.QueryRow(`SELECT COUNT(*) FROM (
		SELECT c.messages FROM message_counts c LEFT JOIN (SELECT client_id, domain, status, COUNT(*) AS n FROM messages GROUP BY client_id, domain, status) AS m
			ON m.client_id = c.client_id AND m.domain = c.domain AND m.status = c.status WHERE c.hour = -1 AND c.client_id <> '' AND c.messages <> COALESCE(m.n, 0)
		UNION ALL SELECT SUM(messages) FROM message_counts WHERE hour = -1 AND client_id = '' HAVING SUM(messages) <> (SELECT COUNT(*) FROM messages)
		UNION ALL SELECT SUM(messages) FROM message_counts WHERE hour <> -1 AND client_id = '' HAVING SUM(messages) <> (SELECT COUNT(*) FROM messages)) AS wrong`).Scan(&wrong)
	if err != nil || wrong != 0 {
		t.Errorf("%d counts are wrong: %v", wrong, err)
	}
}

// TestAdoptWithoutSalt delivers what was registered before, although nothing tells its number.
func TestAdoptWithoutSalt(t *testing.T) {
	w := newOldWorld(t)
	w.cfg.IDKey, w.cfg.Numbers = "fingerprint", atrest.NewHasher(ring(t, 1, 1), nil)
	if err := w.open().Run(t.Context(), nothing); err != nil {
		t.Fatal(err)
	}
	s, err := records.Open(t.Context(), w.cfg)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	m := records.Message{ID: "22222222-2222-4222-8222-222222222222", Client: "acme-01", Domain: "default", Number: "+4915200000002", Body: "another text", QueuedAt: t0}
	results, err := s.Deliver(t.Context(), deliveries([]records.Message{m}))
	want(t, results, err, pipeline.StatusConflict)
	m.Body = "Grüße aus dem Labor"
	results, err = s.Deliver(t.Context(), deliveries([]records.Message{m}))
	want(t, results, err, pipeline.StatusDelivered)
	if row, err := s.Get(t.Context(), m.Client, m.ID); err != nil || row.Body != m.Body || row.NumberMasked != "hash:3c8162d4" {
		t.Errorf("%+v, %v", row, err)
	}
}

var errKilled = errors.New("killed")

// TestAdoptKilled ends at each step, and begins again.
func TestAdoptKilled(t *testing.T) {
	if testing.Short() {
		t.Skip("it changes a database for every step")
	}
	whole := newOldWorld(t)
	var steps []string
	if err := whole.open().Run(t.Context(), func(name string) error { steps = append(steps, name); return nil }); err != nil {
		t.Fatal(err)
	}
	want := whole.state()
	w := newOldWorld(t)
	w.cfg.Keys, w.cfg.Numbers = whole.cfg.Keys, whole.cfg.Numbers
	done := make(map[string]bool) // steps at which it was ended
	for range 2 * len(steps) {
		a := w.open()
		err := a.Run(t.Context(), func(name string) error {
			if !done[name] {
				done[name] = true
				return errKilled
			}
			return nil
		})
		if err == nil {
			break
		}
		if !errors.Is(err, errKilled) {
			t.Fatal(err)
		}
		if _, err := records.Open(t.Context(), w.cfg); !errors.Is(err, records.ErrOldSystem) {
			t.Fatalf("half a database is opened: %v", err)
		}
	}
	if len(done) < len(steps) {
		t.Errorf("ended at %d of %d steps", len(done), len(steps))
	}
	if diff := cmp.Diff(want, w.state()); diff != "" {
		t.Error(diff)
	}
	w.check()
}

// TestAdoptProblems: what only the operator can decide is said before anything is changed.
func TestAdoptProblems(t *testing.T) {
	for _, c := range []struct{ change, want string }{
		{"ALTER TABLE messages DROP INDEX idx_message_id; INSERT INTO messages (message_id, client_id, sender_number_hashed, encrypted_body) SELECT message_id, client_id, 'x', 'x' FROM messages",
			"4 messages of one client with the same id"},
		{"INSERT INTO clients (client_id, cert_fingerprint, issued_at, expires_at) VALUES (' acme-01', 'x', NOW(), NOW())", "1 clients whose names differ only by blanks before or behind"},
		{"ALTER TABLE users ADD shoe_size INT NOT NULL", "1 column users.shoe_size needs a value that new rows do not have; give it a default"},
		{"ALTER TABLE audit_log MODIFY created_at DATETIME NULL; UPDATE audit_log SET created_at = NULL", "2 rows of audit_log without a value in created_at"},
	} {
		w := newOldWorld(t)
		for _, statement := range strings.Split(c.change, "; ") {
			w.exec(statement)
		}
		plan, err := w.open().Plan(t.Context())
		if err != nil || len(plan.Problems) != 1 || fmt.Sprint(plan.Problems[0].Rows, " ", plan.Problems[0].What) != c.want {
			t.Errorf("%s: %+v, %v", c.want, plan, err)
		}
	}
}
