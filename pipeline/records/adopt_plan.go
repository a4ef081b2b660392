package records

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"

	"github.com/sealmq/sealmq/pipeline/records/atrest"
)

// repair is something in the old rows that the new tables do not allow, with the statement that
// puts it right. Without a statement only the operator can decide.
type repair struct {
	table, name string
	count       string // how many rows it concerns
	statement   string
}

// exact compares as bytes: the old columns ignore case and blanks at the end.
func exact(a, b string) string { return "CAST(" + a + " AS BINARY) <> CAST(" + b + " AS BINARY)" }

// repairs are in the order in which they are done. They set updated_at so that it does not change.
var repairs = []repair{
	{table: "messages", name: "names of clients that begin or end in blanks, in messages", count: "SELECT COUNT(*) FROM messages WHERE " + exact("client_id", "TRIM(client_id)"),
		statement: "UPDATE messages SET client_id = TRIM(client_id) WHERE " + exact("client_id", "TRIM(client_id)")},
	{table: "users", name: "names of clients that begin or end in blanks, in accounts", count: "SELECT COUNT(*) FROM users WHERE " + exact("client_id", "TRIM(client_id)"),
		statement: "UPDATE users SET updated_at = updated_at, client_id = TRIM(client_id) WHERE " + exact("client_id", "TRIM(client_id)")},
	{table: "clients", name: "clients whose names differ only by blanks before or behind", count: "SELECT COUNT(*) FROM (SELECT 1 FROM clients GROUP BY TRIM(client_id) HAVING COUNT(*) > 1) AS c"},
	{table: "clients", name: "clients whose names begin or end in blanks", count: "SELECT COUNT(*) FROM clients WHERE " + exact("client_id", "TRIM(client_id)"),
		statement: "UPDATE clients SET updated_at = updated_at, client_id = TRIM(client_id) WHERE " + exact("client_id", "TRIM(client_id)")},
	{table: "messages", name: "messages whose client is written in other upper and lower case than in the table of clients",
		count:     "SELECT COUNT(*) FROM messages m JOIN clients c ON m.client_id = c.client_id WHERE " + exact("TRIM(m.client_id)", "TRIM(c.client_id)"),
		statement: "UPDATE messages m JOIN clients c ON m.client_id = c.client_id SET m.client_id = c.client_id WHERE " + exact("m.client_id", "c.client_id")},
	{table: "users", name: "accounts whose client is written in other upper and lower case than in the table of clients",
		count:     "SELECT COUNT(*) FROM users u JOIN clients c ON u.client_id = c.client_id WHERE " + exact("TRIM(u.client_id)", "TRIM(c.client_id)"),
		statement: "UPDATE users u JOIN clients c ON u.client_id = c.client_id SET u.updated_at = u.updated_at, u.client_id = c.client_id WHERE " + exact("u.client_id", "c.client_id")},
	{table: "messages", name: "clients that have messages and no row", count: `SELECT COUNT(DISTINCT TRIM(m.client_id)) FROM messages m LEFT JOIN clients c ON TRIM(m.client_id) = TRIM(c.client_id)
		WHERE c.client_id IS NULL`,
		statement: `INSERT INTO clients (client_id, cert_fingerprint, domain, status, issued_at, expires_at, created_at, updated_at)
			SELECT m.client_id, CONCAT('unbound:', m.client_id), 'default', 'active', MIN(m.created_at), MIN(m.created_at), UTC_TIMESTAMP(6), UTC_TIMESTAMP(6)
			FROM messages m LEFT JOIN clients c ON m.client_id = c.client_id WHERE c.client_id IS NULL GROUP BY m.client_id`},
	{table: "clients", name: "clients without a fingerprint", count: "SELECT COUNT(*) FROM clients WHERE cert_fingerprint = ''",
		statement: "UPDATE clients SET updated_at = updated_at, cert_fingerprint = CONCAT('unbound:', client_id) WHERE cert_fingerprint = ''"},
	{table: "clients", name: "fingerprints with colons or in upper case", count: "SELECT COUNT(*) FROM clients WHERE cert_fingerprint NOT LIKE 'unbound:%' AND " + exact("cert_fingerprint", plainHex),
		statement: "UPDATE clients SET updated_at = updated_at, cert_fingerprint = " + plainHex + " WHERE cert_fingerprint NOT LIKE 'unbound:%' AND " + exact("cert_fingerprint", plainHex)},
	{table: "clients", name: "revoked clients without a reason", count: "SELECT COUNT(*) FROM clients WHERE status = 'revoked' AND COALESCE(revocation_reason, '') = ''",
		statement: "UPDATE clients SET updated_at = updated_at, revocation_reason = 'revoked in the earlier system' WHERE status = 'revoked' AND COALESCE(revocation_reason, '') = ''"},
	{table: "clients", name: "clients with an unknown status", count: "SELECT COUNT(*) FROM clients WHERE COALESCE(status, '') NOT IN ('active', 'revoked', 'expired')"},
	{table: "messages", name: "messages with an unknown status", count: "SELECT COUNT(*) FROM messages WHERE COALESCE(status, '') NOT IN ('queued', 'processing', 'delivered', 'failed')"},
	{table: "messages", name: "messages of one client with the same id", count: `SELECT COALESCE(SUM(n - 1), 0) FROM (SELECT COUNT(*) AS n FROM messages
		GROUP BY TRIM(client_id), CAST(message_id AS BINARY) HAVING COUNT(*) > 1) AS m`},
	{table: "messages", name: "messages whose text or number hash is not ASCII", count: "SELECT COUNT(*) FROM messages WHERE encrypted_body REGEXP '[^ -~]' OR sender_number_hashed REGEXP '[^ -~]'"},
	{table: "users", name: "e-mail addresses that differ only by case or blanks", count: "SELECT COUNT(*) FROM (SELECT 1 FROM users GROUP BY CAST(LOWER(TRIM(email)) AS BINARY) HAVING COUNT(*) > 1) AS u"},
	{table: "users", name: "e-mail addresses in upper case or with blanks", count: "SELECT COUNT(*) FROM users WHERE " + exact("email", "LOWER(TRIM(email))"),
		statement: "UPDATE users SET updated_at = updated_at, email = LOWER(TRIM(email)) WHERE " + exact("email", "LOWER(TRIM(email))")},
	{table: "users", name: "accounts with an unknown role, which becomes user", count: "SELECT COUNT(*) FROM users WHERE " + unknownRole,
		statement: "UPDATE users SET updated_at = updated_at, role = 'user' WHERE " + unknownRole},
	{table: "audit_log", name: "audit rows with an unknown severity, which becomes info", count: "SELECT COUNT(*) FROM audit_log WHERE " + unknownSeverity,
		statement: "UPDATE audit_log SET severity = 'info' WHERE " + unknownSeverity},
}

const (
	plainHex        = "LOWER(REPLACE(cert_fingerprint, ':', ''))"
	unknownRole     = "COALESCE(role, '') NOT IN ('user', 'admin', 'user_manager', 'operator')"
	unknownSeverity = "COALESCE(severity, '') NOT IN ('info', 'warning', 'error', 'critical')"
)

// AdoptionTable is what happens to a table.
type AdoptionTable struct {
	Name string   `json:"name"`
	Rows int64    `json:"rows"`
	Adds []string `json:"adds"` // columns
	Made bool     `json:"made"` // it is not there, and is made
}

// AdoptionFinding is something in the old rows that the new tables do not allow.
type AdoptionFinding struct {
	What string `json:"what"`
	Rows int64  `json:"rows"`
}

// AdoptionPlan is what an Adoption would do.
type AdoptionPlan struct {
	Tables   []AdoptionTable   `json:"tables"`
	Repairs  []AdoptionFinding `json:"repairs"`  // are done
	Problems []AdoptionFinding `json:"problems"` // have to be solved before
	Triggers []string          `json:"triggers"` // are dropped
	// Unhashed accounts have a password hash that is not bcrypt's: they need a new password.
	Unhashed int64 `json:"unhashed"`
	// Unreadable rows cannot be decrypted with the keys. They stay as they are.
	Unreadable int64 `json:"unreadable"`
	// Revoked are the names of clients that are revoked, which the authority has to know.
	Revoked []string `json:"revoked"`
}

// Plan looks at every row, and changes nothing.
func (a *Adoption) Plan(ctx context.Context) (*AdoptionPlan, error) {
	p := &AdoptionPlan{Repairs: []AdoptionFinding{}, Problems: []AdoptionFinding{}, Triggers: []string{}, Revoked: []string{}}
	if err := a.plan(ctx, p); err != nil {
		return nil, a.failed("look at the rows", err)
	}
	return p, nil
}

func (a *Adoption) plan(ctx context.Context, p *AdoptionPlan) error {
	problem := func(what string, rows int64) {
		if rows > 0 {
			p.Problems = append(p.Problems, AdoptionFinding{what, rows})
		}
	}
	for _, t := range a.tables {
		row := AdoptionTable{Name: t.name, Adds: t.missing(), Made: !t.exists()}
		if t.exists() {
			rows, err := a.number(ctx, "SELECT COUNT(*) FROM "+t.name)
			if err != nil {
				return err
			}
			row.Rows = rows
			if err := a.misfits(ctx, t, problem); err != nil {
				return err
			}
		}
		p.Tables = append(p.Tables, row)
	}
	for _, r := range repairs {
		if !a.has(r.table) {
			continue
		}
		n, err := a.number(ctx, r.count)
		switch {
		case err != nil:
			return fmt.Errorf("%s: %s", r.name, mysqlDialect.describe(err))
		case r.statement == "":
			problem(r.name, n)
		case n > 0:
			p.Repairs = append(p.Repairs, AdoptionFinding{r.name, n})
		}
	}
	triggers, err := a.triggers(ctx)
	if err != nil {
		return err
	}
	p.Triggers = append(p.Triggers, triggers...)
	if p.Unhashed, err = a.number(ctx, "SELECT COUNT(*) FROM users WHERE password_hash NOT LIKE '$2_$%'"); err != nil {
		return err
	}
	if p.Unreadable, err = a.unreadable(ctx); err != nil {
		return err
	}
	odd := int64(0)
	err = each(ctx, a.db, "SELECT client_id, status FROM clients ORDER BY client_id", nil, func(rows *sql.Rows) error {
		var name string
		var status sql.NullString
		if err := rows.Scan(&name, &status); err != nil {
			return err
		}
		name = strings.Trim(name, " ")
		if checkName("", name, maxName) != "" {
			odd++
		} else if strings.EqualFold(status.String, string(Revoked)) {
			p.Revoked = append(p.Revoked, name)
		}
		return nil
	})
	problem("clients whose names are empty or have control characters", odd)
	return err
}

// misfits looks for what a column of ours does not allow.
func (a *Adoption) misfits(ctx context.Context, t *oldTable, problem func(string, int64)) error {
	for _, c := range t.columns {
		if !strings.Contains(c.definition, "NOT NULL") || strings.HasPrefix(c.definition, "ENUM") || !slices.Contains(t.has, c.name) {
			continue
		}
		n, err := a.number(ctx, "SELECT COUNT(*) FROM "+t.name+" WHERE "+c.name+" IS NULL")
		if err != nil {
			return err
		}
		problem("rows of "+t.name+" without a value in "+c.name, n)
	}
	names, err := values[string](ctx, a.db, `SELECT column_name FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = ? AND is_nullable = 'NO' AND column_default IS NULL
		AND extra NOT LIKE '%auto_increment%' AND extra NOT LIKE '%GENERATED%'`, t.name)
	for _, name := range names {
		if !slices.ContainsFunc(t.columns, func(c column) bool { return c.name == name }) {
			problem("column "+t.name+"."+name+" needs a value that new rows do not have; give it a default", 1)
		}
	}
	return err
}

func (a *Adoption) number(ctx context.Context, query string) (n int64, err error) {
	err = a.db.QueryRowContext(ctx, query).Scan(&n)
	return n, err
}

// adoptBatch is how many rows one read has.
const adoptBatch = 1000

// unreadable decrypts every text, and counts those that no key opens.
func (a *Adoption) unreadable(ctx context.Context) (n int64, err error) {
	version := "1"
	for _, t := range a.tables {
		if t.name == "messages" && slices.Contains(t.has, "encryption_key_version") {
			version = "encryption_key_version"
		}
	}
	for after, more := int64(0), true; more && err == nil; {
		more = false
		err = each(ctx, a.db, "SELECT id, message_id, client_id, encrypted_body, "+version+" FROM messages WHERE id > ? ORDER BY id LIMIT ?", []any{after, adoptBatch}, func(rows *sql.Rows) error {
			var id, client, body string
			var v uint16
			if err := rows.Scan(&after, &id, &client, text{&body}, &v); err != nil {
				return err
			}
			more = true
			if form, _ := atrest.Inspect(body); form == atrest.V3 {
				n++ // its scope key is not there
			} else if _, err := a.cfg.Keys.OpenOld(v, id, client, body); err != nil {
				n++
			}
			return nil
		})
	}
	return n, err
}
