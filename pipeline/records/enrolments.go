package records

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/pipeline/accounts"
)

// Enrolment is a permission to get one certificate: for a secret, or for the key of an
// expired certificate.
type Enrolment struct {
	ID   string // 16 hexadecimal digits
	Kind string // EnrolToken or EnrolRenewal
	// SecretHash is the SHA-256 of the token's secret.
	SecretHash string
	// Fingerprint is that of the certificate that may be renewed.
	Fingerprint string
	// Client, Role, Domain, Hosts and Lifetime are what the certificate will say.
	Client, Role, Domain string
	Hosts                []string
	Lifetime             time.Duration
	CreatedBy            string
	CreatedAt, ExpiresAt time.Time
	// UsedAt is when a key claimed it.
	RevokedAt, UsedAt time.Time
	Failures          int
	// KeyHash and Certificate are of the certificate that it was used for. Until it is signed,
	// Certificate is empty.
	KeyHash, Certificate string
}

// The kinds of enrolments.
const (
	EnrolToken   = "token"
	EnrolRenewal = "renewal"
)

const (
	// MaxEnrolments bounds the table.
	MaxEnrolments = 500
	// MaxEnrolmentFailures is how many failed attempts end an enrolment.
	MaxEnrolmentFailures = 10
	// ClaimTime is how long the signing of a certificate may take.
	ClaimTime = 30 * time.Second
	// keepEnrolments is how long those that have ended can be seen.
	keepEnrolments = 30 * 24 * time.Hour
)

// ErrTooManyEnrolments says that the table is full of what has not ended.
var ErrTooManyEnrolments = &sealmq.Error{Code: sealmq.LimitReached, Message: "too many enrolments are open"}

// Open reports whether an enrolment can be used.
func (e *Enrolment) Open(now time.Time) bool {
	return e.RevokedAt.IsZero() && e.UsedAt.IsZero() && e.Failures < MaxEnrolmentFailures && now.Before(e.ExpiresAt)
}

// AddEnrolment stores an enrolment. If the table is full, the oldest that have ended make room.
func (s *Store) AddEnrolment(ctx context.Context, e Enrolment) error {
	now := e.CreatedAt
	return s.transact(ctx, "store an enrolment", func(tx *sql.Tx) error {
		if _, err := tx.ExecContext(ctx, "DELETE FROM enrolments WHERE expires_at < ?", s.d.stamp(now.Add(-keepEnrolments))); err != nil {
			return err
		}
		n, err := count(ctx, tx, "SELECT COUNT(*) FROM enrolments")
		if err != nil {
			return err
		}
		if n >= MaxEnrolments {
			err := changed(tx.ExecContext(ctx, "DELETE FROM enrolments WHERE expires_at < ? OR used_at IS NOT NULL OR revoked_at IS NOT NULL", s.d.stamp(now)))
			if errors.Is(err, accounts.ErrNotFound) {
				return ErrTooManyEnrolments
			}
			if err != nil {
				return err
			}
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO enrolments (id, kind, secret_hash, fingerprint, client_id, role, domain, hosts, lifetime, created_by, created_at, expires_at, certificate)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, '')`,
			e.ID, e.Kind, e.SecretHash, e.Fingerprint, e.Client, e.Role, e.Domain, strings.Join(e.Hosts, " "), int64(e.Lifetime/time.Second), e.CreatedBy, s.d.stamp(e.CreatedAt), s.d.stamp(e.ExpiresAt))
		return err
	})
}

// Enrolments lists them, the newest first.
func (s *Store) Enrolments(ctx context.Context) ([]Enrolment, error) {
	return s.enrolments(ctx, "1 = 1")
}

// Enrolment returns one, or ErrNotFound.
func (s *Store) Enrolment(ctx context.Context, id string) (Enrolment, error) {
	return first(s.enrolments(ctx, "id = ?", id))
}

// RenewalConsent returns the newest consent to the renewal of a certificate, or ErrNotFound.
func (s *Store) RenewalConsent(ctx context.Context, fingerprint string) (Enrolment, error) {
	return first(s.enrolments(ctx, "kind = ? AND fingerprint = ?", EnrolRenewal, fingerprint))
}

// first is the first entry of a list, or ErrNotFound.
func first[T any](list []T, err error) (one T, _ error) {
	switch {
	case err != nil:
		return one, err
	case len(list) == 0:
		return one, ErrNotFound
	}
	return list[0], nil
}

func (s *Store) enrolments(ctx context.Context, where string, args ...any) ([]Enrolment, error) {
	list, err := all(ctx, s.read, func(e *Enrolment) []any {
		return []any{&e.ID, &e.Kind, &e.SecretHash, &e.Fingerprint, &e.Client, &e.Role, &e.Domain, words{&e.Hosts}, &e.Lifetime, &e.CreatedBy, moment{&e.CreatedAt}, moment{&e.ExpiresAt},
			moment{&e.RevokedAt}, moment{&e.UsedAt}, &e.Failures, &e.KeyHash, &e.Certificate}
	}, `SELECT id, kind, secret_hash, fingerprint, client_id, role, domain, hosts, lifetime, created_by, created_at, expires_at, revoked_at, used_at, failures, key_hash, certificate
		FROM enrolments WHERE `+where+" ORDER BY created_at DESC, id LIMIT ?", append(args, MaxLimit)...)
	for i := range list {
		list[i].Lifetime *= time.Second // the table has seconds
	}
	return list, s.d.coded("read enrolments", err)
}

// FailEnrolment counts a failed attempt.
func (s *Store) FailEnrolment(ctx context.Context, id string) error {
	return s.execute(ctx, "count a failed enrolment", "UPDATE enrolments SET failures = failures + 1 WHERE id = ? AND used_at IS NULL", id)
}

// ClaimEnrolment ends an enrolment in favour of a key, before its certificate is signed: of several
// main servers over one database one signs. It returns ErrNotFound if the enrolment is open no
// more. A claim that has no certificate after ClaimTime, because the main server died meanwhile,
// can be made again for the same key, and for no other: it may have a certificate.
func (s *Store) ClaimEnrolment(ctx context.Context, id, keyHash string, at time.Time) error {
	now := s.d.stamp(at)
	return notThere(s.change(ctx, "claim an enrolment", `UPDATE enrolments SET used_at = ?, key_hash = ? WHERE id = ? AND revoked_at IS NULL AND failures < ? AND expires_at > ?
		AND (used_at IS NULL OR certificate = '' AND key_hash = ? AND used_at <= ?)`,
		now, keyHash, id, MaxEnrolmentFailures, now, keyHash, s.d.stamp(at.Add(-ClaimTime))))
}

// UseEnrolment stores the certificate of a claimed enrolment. It returns ErrNotFound if the
// enrolment was taken back meanwhile.
func (s *Store) UseEnrolment(ctx context.Context, id, keyHash, certificate string) error {
	return notThere(s.change(ctx, "use an enrolment", "UPDATE enrolments SET certificate = ? WHERE id = ? AND key_hash = ? AND certificate = '' AND revoked_at IS NULL", certificate, id, keyHash))
}

// ReleaseEnrolment opens a claimed enrolment again that has no certificate.
func (s *Store) ReleaseEnrolment(ctx context.Context, id, keyHash string) error {
	return s.execute(ctx, "release an enrolment", "UPDATE enrolments SET used_at = NULL, key_hash = '' WHERE id = ? AND key_hash = ? AND certificate = ''", id, keyHash)
}

// RevokeEnrolment takes an enrolment back, or returns ErrNotFound if it was taken back or has its
// certificate.
func (s *Store) RevokeEnrolment(ctx context.Context, id string, at time.Time) error {
	return notThere(s.change(ctx, "revoke an enrolment", "UPDATE enrolments SET revoked_at = ? WHERE id = ? AND certificate = '' AND revoked_at IS NULL", s.d.stamp(at), id))
}

// notThere is ErrNotFound for accounts.ErrNotFound, which changed returns.
func notThere(err error) error {
	if errors.Is(err, accounts.ErrNotFound) {
		return ErrNotFound
	}
	return err
}
