package records

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/sealmq/sealmq/pipeline/records/atrest"
)

// maxScopes is how many scope keys are kept in memory.
const maxScopes = 20_000

// clientValidity is how long a client that registers itself is valid.
const clientValidity = 365 * 24 * time.Hour

// scopes keeps the scope keys that were used.
type scopes struct {
	s    *Store
	mu   sync.Mutex
	own  map[string]*atrest.Scope // of each client, for new rows
	byID map[uint32]*atrest.Scope
}

func (c *scopes) keep(client string, k *atrest.Scope) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.byID == nil || len(c.byID) >= maxScopes {
		c.own, c.byID = make(map[string]*atrest.Scope), make(map[uint32]*atrest.Scope)
	}
	c.byID[k.ID()] = k
	if k.Version() == c.s.ring().Current() {
		c.own[client] = k
	}
}

// forget has new keys made for new rows, because the key that wraps them has changed.
func (c *scopes) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.own, c.byID = nil, nil
}

// forNew is the key for new rows of a client. If the client has no row, it makes one, in a
// transaction of its own.
func (c *scopes) forNew(ctx context.Context, client string) (*atrest.Scope, error) {
	c.mu.Lock()
	k := c.own[client]
	c.mu.Unlock()
	if k != nil {
		return k, nil
	}
	if err := c.s.ensureClient(ctx, client); err != nil {
		return nil, err
	}
	version := c.s.ring().Current()
	k, err := c.load(ctx, "client_id = ? AND key_version = ?", client, version)
	if k != nil || err != nil {
		return k, err
	}
	wrapped, version := c.s.ring().NewScope(client)
	err = c.s.transact(ctx, "store a scope key", func(tx *sql.Tx) error {
		_, err := tx.ExecContext(ctx, "INSERT INTO scope_keys (client_id, key_version, wrapped_key, created_at) VALUES (?, ?, ?, ?)"+c.s.d.ignore("id"),
			client, version, wrapped, c.s.d.stamp(c.s.now()))
		return err
	})
	if err != nil {
		return nil, err
	}
	k, err = c.load(ctx, "client_id = ? AND key_version = ?", client, version)
	if k == nil && err == nil {
		err = errors.New("a scope key that was stored is not there")
	}
	return k, err
}

// of is the key of a row. It is nil if it does not exist any more.
func (c *scopes) of(ctx context.Context, id uint32) (*atrest.Scope, error) {
	c.mu.Lock()
	k := c.byID[id]
	c.mu.Unlock()
	if k != nil {
		return k, nil
	}
	return c.load(ctx, "id = ?", id)
}

func (c *scopes) load(ctx context.Context, where string, args ...any) (k *atrest.Scope, err error) {
	var client string
	err = each(ctx, c.s.read, "SELECT id, client_id, key_version, wrapped_key FROM scope_keys WHERE "+where, args, func(rows *sql.Rows) error {
		var id uint32
		var version uint16
		var wrapped string
		if err := rows.Scan(&id, &client, &version, &wrapped); err != nil {
			return err
		}
		k, err = c.s.ring().OpenScope(id, version, client, wrapped)
		if err != nil {
			err = fmt.Errorf("scope key %d: %w", id, err)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	if k != nil {
		c.keep(client, k)
	}
	return k, nil
}

// ensureClient makes sure that a client has a row.
func (s *Store) ensureClient(ctx context.Context, client string) error {
	found, err := count(ctx, s.read, "SELECT COUNT(*) FROM clients WHERE client_id = ?", client)
	if err != nil || found > 0 {
		return s.d.coded("look for the client", err)
	}
	return s.transact(ctx, "register the client", func(tx *sql.Tx) error {
		now := s.now()
		_, err := tx.ExecContext(ctx, `INSERT INTO clients (client_id, cert_fingerprint, domain, status, issued_at, expires_at, created_at, updated_at)
			VALUES (?, ?, ?, 'active', ?, ?, ?, ?)`+s.d.ignore("id"),
			client, unbound+client, DefaultDomain, s.d.stamp(now), s.d.stamp(now.Add(clientValidity)), s.d.stamp(now), s.d.stamp(now))
		if err != nil {
			return err
		}
		// Another call may have made it since.
		made, err := count(ctx, tx, "SELECT COUNT(*) FROM clients WHERE client_id = ? AND created_at = ?", client, s.d.stamp(now))
		if err != nil || made == 0 {
			return err
		}
		return s.addAudit(ctx, tx, AuditEvent{Type: "client_auto_registered", Client: client, At: now})
	})
}

// unbound begins the fingerprint of a client whose certificate is not known.
const unbound = "unbound:"

func (s *Store) now() time.Time { return s.cfg.Clock.Now().UTC().Truncate(time.Microsecond) }

// A sealed message is a message as it is stored.
type sealed struct {
	hash    string
	hashKey uint16
	body    string
	number  string // or empty
	// metadata is empty if there is none.
	metadata string
	scope    *atrest.Scope
}

// seal encrypts a message for a new row.
func (s *Store) seal(ctx context.Context, m *Message) (c sealed, err error) {
	if c.scope, err = s.scopes.forNew(ctx, m.Client); err != nil {
		return c, err
	}
	c.hash, c.hashKey = s.numbers().Hash(m.Number)
	c.body = c.scope.Seal(atrest.Body, m.ID, m.Body)
	c.number = c.scope.Seal(atrest.Number, m.ID, m.Number)
	if m.Metadata != nil {
		c.metadata = c.scope.Seal(atrest.Metadata, m.ID, string(m.Metadata))
	}
	return c, nil
}

// open decrypts a field of a row.
func (s *Store) open(ctx context.Context, field atrest.Field, id, client string, version uint16, stored string) (string, error) {
	plain, err := s.tryOpen(ctx, field, id, client, version, stored)
	if err != nil {
		s.counters.unreadable.Add(1)
	}
	return plain, err
}

func (s *Store) tryOpen(ctx context.Context, field atrest.Field, id, client string, version uint16, stored string) (string, error) {
	form, scope := atrest.Inspect(stored)
	if form != atrest.V3 {
		return s.ring().OpenOld(version, id, client, stored)
	}
	k, err := s.scopes.of(ctx, scope)
	if err != nil {
		return "", err
	}
	if k == nil {
		return "", atrest.ErrUnreadable
	}
	return k.Open(field, id, stored)
}

// openMetadata decrypts a row's metadata. Earlier versions stored it as it is.
func (s *Store) openMetadata(ctx context.Context, id, client string, version uint16, stored string) (string, error) {
	if form, _ := atrest.Inspect(stored); form == atrest.Unknown && json.Valid([]byte(stored)) {
		return stored, nil
	}
	return s.open(ctx, atrest.Metadata, id, client, version, stored)
}
