package records

import (
	"cmp"
	"context"
	"database/sql"
	"strings"
	"time"
	"unicode/utf8"
)

// ClientStatus is whether a client may send.
type ClientStatus string

// The statuses of clients. Only a revoked client's messages are refused.
const (
	Active  ClientStatus = "active"
	Revoked ClientStatus = "revoked"
	Expired ClientStatus = "expired"
)

// Client is a row of clients.
type Client struct {
	RowID int64
	Name  string
	// Fingerprint is of the current certificate, SHA-256 in 64 lower-case hexadecimal
	// digits, or empty while none is known.
	Fingerprint         string
	Domain              string // empty is DefaultDomain
	Status              ClientStatus
	IssuedAt, ExpiresAt time.Time
	// RevokedAt and Reason are of a client that is revoked, and of one that is not but whose
	// certificates all are.
	RevokedAt time.Time
	Reason    string
	CreatedAt time.Time
	UpdatedAt time.Time
}

// StateAt is what people should see of a client at a time: Revoked if all of its certificates
// are, and Expired if those that are not have expired. A client whose certificates are not known
// here, as with an API key, does not expire. ClientFilter.State agrees with it.
func (c *Client) StateAt(at time.Time) ClientStatus {
	switch {
	case c.Status == Revoked || !c.RevokedAt.IsZero():
		return Revoked
	case c.Status == Expired || c.Fingerprint != "" && c.ExpiresAt.Before(at):
		return Expired
	}
	return Active
}

// The same in SQL. ends is the time that an argument gives.
const (
	clientRevoked = "(status = 'revoked' OR revoked_at IS NOT NULL)"
	clientExpired = "(status = 'expired' OR expires_at < ? AND cert_fingerprint NOT LIKE '" + unbound + "%')"
	clientStates  = "CASE WHEN " + clientRevoked + " THEN 'revoked' WHEN " + clientExpired + " THEN 'expired' ELSE 'active' END"
)

func (c *Client) check() reason {
	c.Domain, c.Status = cmp.Or(c.Domain, DefaultDomain), cmp.Or(c.Status, Active)
	why := cmp.Or(checkName("client id", c.Name, maxName), checkName("domain", c.Domain, maxName))
	switch {
	case why != "":
		return why
	case c.Fingerprint != "" && !isFingerprint(c.Fingerprint):
		return "fingerprint is not 64 lower-case hexadecimal digits"
	case c.Status != Active && c.Status != Revoked && c.Status != Expired:
		return "status is none of active, revoked and expired"
	case !storable(c.IssuedAt) || !storable(c.ExpiresAt) || !c.RevokedAt.IsZero() && !storable(c.RevokedAt):
		return "a time is out of range"
	case c.Status == Revoked && c.Reason == "":
		return "a client is revoked with a reason"
	}
	return ""
}

func isFingerprint(s string) bool {
	return len(s) == 64 && strings.Trim(s, "0123456789abcdef") == ""
}

// PutClient makes a client's row, or replaces everything in it but its time of creation.
func (s *Store) PutClient(ctx context.Context, c Client) error {
	if why := c.check(); why != "" {
		return invalid(why)
	}
	now := s.d.stamp(s.now())
	if c.Status == Revoked && c.RevokedAt.IsZero() {
		c.RevokedAt = s.now()
	}
	fingerprint := cmp.Or(c.Fingerprint, unbound+c.Name)
	args := []any{fingerprint, c.Domain, string(c.Status), s.d.stamp(c.IssuedAt), s.d.stamp(c.ExpiresAt), s.d.when(c.RevokedAt), null(cleanError(c.Reason)), now, c.Name}
	return s.transact(ctx, "store a client", func(tx *sql.Tx) error {
		others, err := count(ctx, tx, "SELECT COUNT(*) FROM clients WHERE cert_fingerprint = ? AND client_id <> ?", fingerprint, c.Name)
		if err != nil {
			return err
		}
		if others > 0 {
			return invalid("the certificate belongs to another client")
		}
		res, err := tx.ExecContext(ctx, `UPDATE clients SET cert_fingerprint = ?, domain = ?, status = ?, issued_at = ?, expires_at = ?, revoked_at = ?,
			revocation_reason = ?, updated_at = ? WHERE client_id = ?`, args...)
		if err != nil {
			return err
		}
		if n, err := res.RowsAffected(); n > 0 || err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO clients (cert_fingerprint, domain, status, issued_at, expires_at, revoked_at, revocation_reason, updated_at, client_id, created_at)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, append(args, now)...)
		return err
	})
}

// PutClientCertificate changes what is known of a client's certificates, and whether all of them
// are revoked: Fingerprint, IssuedAt, ExpiresAt, RevokedAt and Reason. A client that is revoked
// itself stays as it is.
func (s *Store) PutClientCertificate(ctx context.Context, c Client) error {
	if why := c.check(); why != "" {
		return invalid(why)
	}
	return s.execute(ctx, "store a client's certificate", `UPDATE clients SET cert_fingerprint = ?, issued_at = ?, expires_at = ?, revoked_at = ?, revocation_reason = ?, updated_at = ?
		WHERE client_id = ? AND status <> 'revoked'`,
		cmp.Or(c.Fingerprint, unbound+c.Name), s.d.stamp(c.IssuedAt), s.d.stamp(c.ExpiresAt), s.d.when(c.RevokedAt), null(cleanError(c.Reason)), s.d.stamp(s.now()), c.Name)
}

// RevokeClient refuses a client's messages from now on. Of a client that is revoked already,
// time and reason stay. It returns ErrNotFound if there is no such client.
func (s *Store) RevokeClient(ctx context.Context, name, why string) error {
	if why == "" {
		return invalid("a client is revoked with a reason")
	}
	if checkName("", name, maxName) != "" {
		return ErrNotFound
	}
	return s.transact(ctx, "revoke a client", func(tx *sql.Tx) error {
		now := s.d.stamp(s.now())
		_, err := tx.ExecContext(ctx, "UPDATE clients SET status = 'revoked', revoked_at = ?, revocation_reason = ?, updated_at = ? WHERE client_id = ? AND status <> 'revoked'",
			now, cleanError(why), now, name)
		if err != nil {
			return err
		}
		n, err := count(ctx, tx, "SELECT COUNT(*) FROM clients WHERE client_id = ?", name)
		if err == nil && n == 0 {
			err = ErrNotFound
		}
		return err
	})
}

// ClientFilter chooses clients. Empty fields choose all.
type ClientFilter struct {
	// State is what Client.StateAt says of them at the time At.
	State  ClientStatus
	At     time.Time
	Domain string
	Prefix string // of the name
	Limit  int    // 0 is DefaultLimit
	After  string // continue behind this name
}

const clientColumns = "SELECT id, client_id, CASE WHEN cert_fingerprint LIKE '" + unbound + "%' THEN '' ELSE cert_fingerprint END, domain, status, issued_at, expires_at, revoked_at, revocation_reason, created_at, updated_at FROM clients WHERE "

// Clients lists clients in the order of their names. The list goes on behind the last name if
// it has as many entries as the limit.
func (s *Store) Clients(ctx context.Context, f ClientFilter) ([]Client, error) {
	f.Limit = cmp.Or(f.Limit, DefaultLimit)
	if f.Limit < 1 || f.Limit > MaxLimit {
		return nil, invalid("limit is not between 1 and 500")
	}
	for _, name := range []string{f.Domain, f.Prefix, f.After} {
		if name != "" && checkName("", name, maxName) != "" {
			return nil, nil
		}
	}
	w := scan{[]string{"client_id > ?"}, []any{f.After}}
	at := s.d.stamp(bound(f.At))
	switch f.State {
	case "":
	case Revoked:
		w.and(clientRevoked)
	case Expired:
		w.and("NOT "+clientRevoked+" AND "+clientExpired, at)
	case Active:
		w.and("NOT "+clientRevoked+" AND NOT "+clientExpired, at)
	default:
		return nil, nil
	}
	if f.Domain != "" {
		w.and("domain = ?", f.Domain)
	}
	if f.Prefix != "" {
		w.and("client_id >= ? AND client_id < ?", f.Prefix, f.Prefix+string(utf8.MaxRune))
	}
	return s.readClients(ctx, strings.Join(w.where, " AND ")+" ORDER BY client_id LIMIT ?", append(w.args, f.Limit)...)
}

// Client returns a client, or ErrNotFound.
func (s *Store) Client(ctx context.Context, name string) (Client, error) {
	if checkName("", name, maxName) != "" {
		return Client{}, ErrNotFound
	}
	return first(s.readClients(ctx, "client_id = ?", name))
}

func (s *Store) readClients(ctx context.Context, where string, args ...any) ([]Client, error) {
	list, err := all(ctx, s.read, func(c *Client) []any {
		return []any{&c.RowID, &c.Name, &c.Fingerprint, &c.Domain, &c.Status, moment{&c.IssuedAt}, moment{&c.ExpiresAt}, moment{&c.RevokedAt},
			text{&c.Reason}, moment{&c.CreatedAt}, moment{&c.UpdatedAt}}
	}, clientColumns+where, args...)
	return list, s.d.coded("read clients", err)
}

// CountClients returns how many clients are in each state at a time.
func (s *Store) CountClients(ctx context.Context, at time.Time) (map[ClientStatus]int64, error) {
	counts := make(map[ClientStatus]int64)
	err := each(ctx, s.read, "SELECT "+clientStates+" AS state, COUNT(*) FROM clients GROUP BY state", []any{s.d.stamp(at)}, func(rows *sql.Rows) error {
		var status ClientStatus
		var n int64
		err := rows.Scan(&status, &n)
		counts[status] = n
		return err
	})
	return counts, s.d.coded("count clients", err)
}
