package records

import (
	"cmp"
	"context"
	"database/sql"
	"strings"
	"time"
)

// Certificate is a certificate that was issued or seen.
type Certificate struct {
	RowID               int64
	Client              string
	Serial              string // hexadecimal
	Fingerprint         string // as in Client
	Subject             string
	Role                string // client, proxy, worker, admin, server or monitor
	Status              string // active, revoked, expired or superseded
	NotBefore, NotAfter time.Time
	RevokedAt           time.Time
	Reason              string
	Source              string // api, cli or seen
	CreatedAt           time.Time
}

// AddCertificate stores a certificate, unless it is there. It becomes the current one of a
// client that has none. It reports whether it is new.
func (s *Store) AddCertificate(ctx context.Context, c Certificate) (added bool, err error) {
	c.Status = cmp.Or(c.Status, "active")
	why := cmp.Or(checkName("client id", c.Client, maxName), checkName("serial number", c.Serial, 64), checkName("source", c.Source, 10), checkName("role", c.Role, 10))
	switch {
	case why != "":
		return false, invalid(why)
	case !isFingerprint(c.Fingerprint):
		return false, invalid("fingerprint is not 64 lower-case hexadecimal digits")
	case !isASCII(c.Serial):
		return false, invalid("serial number is not ASCII")
	case !storable(c.NotBefore) || !storable(c.NotAfter):
		return false, invalid("a time is out of range")
	}
	err = s.transact(ctx, "store a certificate", func(tx *sql.Tx) error {
		n, err := count(ctx, tx, "SELECT COUNT(*) FROM certificates WHERE fingerprint = ?", c.Fingerprint)
		added = n == 0
		if err != nil || !added {
			return err
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO certificates (client_id, serial, fingerprint, subject, role, status, not_before, not_after, source, created_at)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			c.Client, c.Serial, c.Fingerprint, cleanError(c.Subject), c.Role, c.Status, s.d.stamp(c.NotBefore), s.d.stamp(c.NotAfter), c.Source, s.d.stamp(s.now()))
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, "UPDATE clients SET cert_fingerprint = ?, issued_at = ?, expires_at = ?, updated_at = ? WHERE client_id = ? AND cert_fingerprint = ?",
			c.Fingerprint, s.d.stamp(c.NotBefore), s.d.stamp(c.NotAfter), s.d.stamp(s.now()), c.Client, unbound+c.Client)
		return err
	})
	return added, err
}

// RevokeCertificate marks a certificate as revoked, or returns ErrNotFound.
func (s *Store) RevokeCertificate(ctx context.Context, fingerprint, why string) error {
	if !isFingerprint(fingerprint) {
		return ErrNotFound
	}
	return notThere(s.change(ctx, "revoke a certificate", "UPDATE certificates SET status = 'revoked', revoked_at = COALESCE(revoked_at, ?), revocation_reason = COALESCE(revocation_reason, ?) WHERE fingerprint = ?",
		s.d.stamp(s.now()), cleanError(why), fingerprint))
}

// Certificates lists a client's certificates, or everybody's, the newest first. before is the
// RowID behind which the list goes on, or 0.
func (s *Store) Certificates(ctx context.Context, client string, before int64, limit int) ([]Certificate, error) {
	if limit < 1 || limit > MaxLimit {
		return nil, invalid("limit is not between 1 and 500")
	}
	w := scan{[]string{"id < ?"}, []any{cmp.Or(before, 1<<62)}}
	if client != "" {
		if checkName("", client, maxName) != "" {
			return nil, nil
		}
		w.and("client_id = ?", client)
	}
	list, err := all(ctx, s.read, func(c *Certificate) []any {
		return []any{&c.RowID, &c.Client, &c.Serial, &c.Fingerprint, &c.Subject, &c.Role, &c.Status, moment{&c.NotBefore}, moment{&c.NotAfter},
			moment{&c.RevokedAt}, text{&c.Reason}, &c.Source, moment{&c.CreatedAt}}
	}, `SELECT id, client_id, serial, fingerprint, subject, role, status, not_before, not_after, revoked_at, revocation_reason, source, created_at
		FROM certificates WHERE `+strings.Join(w.where, " AND ")+" ORDER BY id DESC LIMIT ?", append(w.args, limit)...)
	return list, s.d.coded("read certificates", err)
}
