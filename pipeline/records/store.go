package records

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/clock"
	"github.com/sealmq/sealmq/pipeline/records/atrest"
)

// Config is the configuration of a store.
type Config struct {
	// URL is sqlite:PATH, or mysql://USER:PASSWORD@HOST:PORT/NAME with the options tls,
	// ssl_ca and unix_socket. A "+DRIVER" behind mysql is ignored.
	URL string
	// Keys encrypt numbers and texts. Required.
	Keys *atrest.Ring
	// Numbers hashes numbers. Required.
	Numbers *atrest.Hasher
	// IDKey tells the key that message ids are made with from another, and nothing about it. With
	// another key, repeats of stored messages would be new ones. Empty is not checked.
	IDKey string
	// SealingKeys are the fingerprints of the keys that open what waits in the queue, the newest
	// first. Without the newest one of an earlier start, messages that were accepted would be lost.
	// Empty is not checked.
	SealingKeys []string
	// AuditMessages puts each registration and delivery into the audit log.
	AuditMessages bool
	// Clock is for tests; nil is the system's.
	Clock clock.Clock
	// Log may be nil.
	Log *slog.Logger
}

// Store is an open database. Its methods are safe for concurrent use. One process at a time
// may have an SQLite file open; several may share a MySQL database.
type Store struct {
	cfg   Config
	addr  address
	d     *dialect
	write *sql.DB // for SQLite one connection; else the same as read
	read  *sql.DB

	asked  atomic.Pointer[serverTime] // nil before the first answer
	keys   atomic.Pointer[keySet]
	scopes scopes
	stmts  map[string]*sql.Stmt // prepared on the writing connection; does not change
	step   int64                // between the ids of the rows of one INSERT

	// The statements of full length that insert rows.
	insertMessage, insertCounts string

	examine int // maxExamined

	calls  chan *call
	closed chan struct{} // closed by Close
	done   chan struct{} // closed when the committer has ended
	once   sync.Once

	away     atomic.Pointer[sealmq.Error] // why the tables are not ready; nil once they are
	failed   atomic.Pointer[sealmq.Error] // set once the file must not be written to any more
	broken   chan struct{}                // closed with it
	full     atomic.Bool                  // the last change found no room
	waiting  sync.WaitGroup               // for a server that is away
	commits  atomic.Int64                 // since the store was opened
	counters counters
}

type counters struct {
	groups, entries, unreadable, accepted, delivered, failed atomic.Int64
}

// Counters are what happened since the store was opened.
type Counters struct {
	// Groups is the number of transactions of the committer, Entries of entries in them.
	Groups, Entries int64
	// Unreadable is how often a stored text could not be decrypted.
	Unreadable int64
	// Accepted messages got a row through this store, Delivered and Failed ones came to that
	// state.
	Accepted, Delivered, Failed int64
}

// Counters returns a snapshot.
func (s *Store) Counters() Counters {
	c := &s.counters
	return Counters{c.groups.Load(), c.entries.Load(), c.unreadable.Load(), c.accepted.Load(), c.delivered.Load(), c.failed.Load()}
}

// Open opens a database and brings its tables up to date. A server that cannot be reached is
// no error: calls fail with code Unavailable until it is there, and the store tries again by
// itself. The caller must close the store.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	if cfg.Keys == nil || cfg.Numbers == nil {
		return nil, errors.New("records: keys and number hashes are required")
	}
	cfg.Clock = cmp.Or(cfg.Clock, clock.System)
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	a, err := parseURL(cfg.URL)
	if err != nil {
		return nil, err
	}
	s := &Store{cfg: cfg, addr: a, step: 1, examine: maxExamined,
		calls: make(chan *call), closed: make(chan struct{}), done: make(chan struct{}), broken: make(chan struct{})}
	s.keys.Store(&keySet{cfg.Keys, cfg.Numbers})
	s.scopes.s = s
	if err := s.openPools(); err != nil {
		return nil, err
	}
	switch err := s.setUp(ctx); {
	case err != nil && s.d == &mysqlDialect && IsAway(err):
		s.waitFor(err)
	case err != nil:
		return nil, errors.Join(err, s.closePools())
	}
	go s.commitLoop()
	if s.d == &mysqlDialect {
		s.waiting.Go(func() { s.followTime(context.WithoutCancel(ctx)) })
	}
	return s, nil
}

// openPools makes the pools. A server is not connected to yet.
func (s *Store) openPools() (err error) {
	if s.addr.path != "" {
		s.d = &sqliteDialect
		s.write, s.read, err = openSQLite(s.addr)
		return err
	}
	s.d = &mysqlDialect
	c, err := mysqlConfig(s.addr)
	if err != nil {
		return err
	}
	c.Params["wait_timeout"] = strconv.Itoa(int(silentSession / time.Second))
	if s.write, err = openMySQL(c, 10, 30); err == nil {
		s.write.SetConnMaxIdleTime(idleConn)
	}
	s.read = s.write
	return err
}

// setUp migrates, checks the keys and prepares statements.
func (s *Store) setUp(ctx context.Context) error {
	if err := s.migrate(ctx); err != nil {
		return fmt.Errorf("database: %w", err) // without the address, which has a password
	}
	err := s.checkKeys(ctx, s.keys.Load())
	if err == nil && s.cfg.IDKey != "" {
		err = s.checkKey(ctx, "id_key_fingerprint", s.cfg.IDKey, OtherKeyError{Key: "ids", Version: 1})
	}
	if err == nil {
		err = s.checkSealingKeys(ctx)
	}
	if err == nil {
		err = s.askTime(ctx)
	}
	return errors.Join(err, s.prepare(ctx))
}

func (s *Store) migrate(ctx context.Context) error {
	if s.d == &sqliteDialect {
		return migrate(ctx, s.write, s.d)
	}
	db, err := openServer(s.cfg)
	if err != nil {
		return err
	}
	err = migrate(ctx, db, s.d)
	if err := errors.Join(err, db.Close()); err != nil {
		return err
	}
	return s.read.QueryRowContext(ctx, "SELECT @@auto_increment_increment").Scan(&s.step)
}

// Pauses between attempts to reach a server.
const (
	firstPause   = 100 * time.Millisecond
	longestPause = 5 * time.Second
)

// waitFor sets the store up in the background, once its server is there.
func (s *Store) waitFor(err error) {
	note := func(err error) {
		s.away.Store(&sealmq.Error{Code: sealmq.Unavailable, Message: "the database cannot be used yet", Err: err})
		s.cfg.Log.Warn("the database cannot be used yet; trying again", "error", err)
	}
	note(err)
	ctx, cancel := context.WithCancel(context.Background())
	s.waiting.Go(func() {
		defer cancel()
		for pause := firstPause; ; pause = min(2*pause, longestPause) {
			select {
			case <-s.closed:
				return
			case <-time.After(pause):
			}
			again := s.setUp(ctx)
			if again == nil {
				s.away.Store(nil)
				s.cfg.Log.Info("the database is there")
				return
			}
			if again.Error() != err.Error() {
				err = again
				note(err)
			}
		}
	})
	s.waiting.Go(func() {
		select {
		case <-s.closed:
			cancel()
		case <-ctx.Done():
		}
	})
}

// usable says why nothing can be written, or nil.
func (s *Store) usable() error {
	if err := s.failed.Load(); err != nil {
		return err
	}
	if err := s.away.Load(); err != nil {
		return err
	}
	return nil
}

// Failed is closed when the file must not be written to any more, because a write or a sync
// has failed. Then Failure says why, and the program should end.
func (s *Store) Failed() <-chan struct{} { return s.broken }

// Failure is nil until Failed is closed.
func (s *Store) Failure() error {
	if err := s.failed.Load(); err != nil {
		return err
	}
	return nil
}

// setting reads a setting; one that is not there is empty.
func (s *Store) setting(ctx context.Context, r runner, name string) (value string, err error) {
	err = each(ctx, r, "SELECT value FROM settings WHERE name = ?", []any{name}, func(rows *sql.Rows) error {
		return rows.Scan(&value)
	})
	return value, err
}

func (s *Store) putSetting(ctx context.Context, r runner, name, value string) error {
	_, err := r.ExecContext(ctx, "INSERT INTO settings (name, value) VALUES (?, ?)"+s.d.setting, name, value)
	return err
}

// Close ends the store. Calls that wait get an error of code Unavailable.
func (s *Store) Close() error {
	s.once.Do(func() { close(s.closed) })
	<-s.done
	s.waiting.Wait()
	return s.closePools()
}

func (s *Store) closePools() error {
	for _, st := range s.stmts {
		st.Close() //nolint:errcheck // nothing is written by it any more
	}
	if s.d == &sqliteDialect && s.failed.Load() != nil {
		s.keepOpen()
	}
	err := s.write.Close()
	if s.read != s.write {
		err = errors.Join(s.read.Close(), err)
	}
	return err
}

// Ping asks the database for an answer. The error has code NoStorage if the database answers,
// and the last change found no room.
func (s *Store) Ping(ctx context.Context) error {
	if err := s.usable(); err != nil {
		return err
	}
	if s.full.Load() {
		return errFull
	}
	return s.d.coded("ping", s.read.PingContext(ctx))
}

// transact runs f in a transaction of its own, and repeats it if another process was faster.
func (s *Store) transact(ctx context.Context, doing string, f func(*sql.Tx) error) error {
	for try := 0; ; try++ {
		err := s.transactOnce(ctx, f)
		if err == nil || isRule(err) || s.d.classOf(err) != again || try == maxTries {
			return s.d.coded(doing, err)
		}
	}
}

// maxTries is how often a transaction is repeated because another process was faster.
const maxTries = 10

func (s *Store) transactOnce(ctx context.Context, f func(*sql.Tx) error) error {
	if err := s.usable(); err != nil {
		return err
	}
	tx, err := s.write.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err = f(tx); err == nil {
		err = tx.Commit()
	} else {
		tx.Rollback() //nolint:errcheck // the first error says more
	}
	if err != nil {
		s.noteError(err)
		return err
	}
	s.checkpoint()
	s.full.Store(false)
	return nil
}

var errFull = &sealmq.Error{Code: sealmq.NoStorage, Message: "the database has no room left"}

// noteError remembers that a change found no room, for Ping, and stops all writing after an error
// of the disk.
func (s *Store) noteError(err error) {
	if isRule(err) {
		return
	}
	switch s.d.classOf(err) {
	case full:
		s.full.Store(true)
	case broken:
		s.fail(err)
	}
}

// fail stops all writing. After a failed write or sync nobody knows what is in the file.
func (s *Store) fail(err error) {
	e := &sealmq.Error{Code: sealmq.Unavailable, Message: "the database has failed; restart the program once its disk is in order",
		Err: errors.New(s.d.describe(err))}
	if s.failed.CompareAndSwap(nil, e) {
		close(s.broken)
		s.cfg.Log.Error("the database has failed and is not written to any more", "error", s.d.describe(err))
	}
}
