package backup

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/sealmq/sealmq/internal/durable"
)

// ErrRunning says that one backup is made at a time.
var ErrRunning = errors.New("a backup is being made; wait for its end")

// Config is how a node makes its backups. Folder and Fill must be set.
type Config struct {
	// Folder has the backups.
	Folder string
	// Fill writes everything but keys.
	Fill func(context.Context, Content) error
	// Keys writes the keys. It is called after Fill.
	Keys func(context.Context, *Keys) error
	// Passphrase is that of the key backup. If it is nil there is none.
	Passphrase func() ([]byte, error)
	Schedule   Schedule
	// Delay is how much later than that backups are made.
	Delay time.Duration
	// Keep is how long a backup is kept. The last good one stays.
	Keep time.Duration
	// MinFree is how much of the folder's disk a backup leaves free.
	MinFree int64
	// Program is the version of the program, for the manifest.
	Program string
	// Began and Ended are told of the backups of the schedule. They may be nil.
	Began func(name string)
	Ended func(Item)
	Now   func() time.Time // nil is time.Now
	Log   *slog.Logger     // may be nil
}

// Manager makes backups, one at a time, and knows those that were made. Its methods are safe for
// concurrent use.
type Manager struct {
	cfg Config

	mu      sync.Mutex
	missed  time.Time // when a missed backup is made; zero if none was missed
	current *Item     // that is being made
	last    *Item     // the last one that failed, until one succeeds
	jobs    sync.WaitGroup
	ctx     context.Context // of jobs; it ends with Run
	end     context.CancelFunc
}

// New returns a manager. It touches no file.
func New(cfg Config) *Manager {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
	m := &Manager{cfg: cfg}
	m.ctx, m.end = context.WithCancel(context.Background())
	return m
}

const (
	// missedAfter is how long after the start, or a backup that was not begun, a missed backup is
	// made, so that a node which crashes again and again does not copy all the time.
	missedAfter = 10 * time.Minute
	// missedEvery is how long after the last backup that is, also if that failed.
	missedEvery = 24 * time.Hour
)

// missedAt is when a backup is made because the one that the schedule wanted was missed or failed;
// zero if there is no need. m.mu is held.
func (m *Manager) missedAt() time.Time {
	at, period := m.cfg.Now().Add(missedAfter+m.cfg.Delay), m.cfg.Schedule.period()
	items, _ := list(m.cfg.Folder)
	if m.last != nil { // of which a full disk has no note
		items = append([]Item{*m.last}, items...)
	}
	if len(items) > 0 && at.Before(items[0].Created.Add(missedEvery)) {
		at = items[0].Created.Add(missedEvery)
	}
	if period == 0 || at.Sub(m.LastGood()) <= period {
		return time.Time{}
	}
	return at
}

// Run makes backups as the schedule says, and one soon if the last one was missed, until ctx ends.
// Then those of Start end too.
func (m *Manager) Run(ctx context.Context) {
	m.mu.Lock()
	m.missed = m.missedAt()
	m.mu.Unlock()
	defer m.jobs.Wait()
	for {
		var wait <-chan time.Time
		next := m.Next()
		if !next.IsZero() {
			// The clock may be set meanwhile, or the machine sleep.
			wait = time.After(min(max(next.Sub(m.cfg.Now()), 0), time.Minute))
		}
		select {
		case <-ctx.Done():
			m.mu.Lock()
			m.end()
			m.mu.Unlock()
			return
		case <-wait:
		}
		if m.cfg.Now().Before(next) {
			continue
		}
		m.mu.Lock()
		m.missed = time.Time{}
		m.mu.Unlock()
		if _, err := m.Start(m.cfg.Began, m.cfg.Ended); err != nil {
			m.cfg.Log.Error("the backup of the schedule was not begun", "error", err)
			m.mu.Lock()
			m.missed = m.missedAt()
			m.mu.Unlock()
		}
	}
}

// Start begins a backup in the background, unless Run has ended. began is called before anything
// else is done, ended when it has ended; both may be nil.
func (m *Manager) Start(began func(name string), ended func(Item)) (Item, error) {
	m.mu.Lock()
	if m.ctx.Err() != nil {
		m.mu.Unlock()
		return Item{}, errors.New("the node is stopping")
	}
	m.jobs.Add(1)
	m.mu.Unlock()
	item, unlock, err := m.begin()
	if err != nil {
		m.jobs.Done()
		return Item{}, err
	}
	if began != nil {
		began(item.Name)
	}
	go func() {
		defer m.jobs.Done()
		done, _ := m.finish(m.ctx, item, unlock)
		if ended != nil {
			ended(done)
		}
	}()
	return item, nil
}

// Make makes a backup and waits for it.
func (m *Manager) Make(ctx context.Context) (Item, error) {
	item, unlock, err := m.begin()
	if err != nil {
		return Item{}, err
	}
	return m.finish(ctx, item, unlock)
}

// begin takes the turn to make a backup.
func (m *Manager) begin() (item Item, unlock func(), err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.current != nil {
		return item, nil, ErrRunning
	}
	if err := durable.MkdirAll(durable.OS(), m.cfg.Folder, 0o700); err != nil {
		return item, nil, fmt.Errorf("make the folder of backups: %w", err)
	}
	free, err := durable.OS().Lock(m.cfg.Folder)
	if errors.Is(err, durable.ErrLocked) {
		return item, nil, ErrRunning
	}
	if err != nil {
		return item, nil, fmt.Errorf("lock the folder of backups: %w", err)
	}
	at := m.cfg.Now().UTC().Truncate(time.Second)
	items, err := list(m.cfg.Folder)
	if err != nil {
		return item, nil, errors.Join(err, free())
	}
	if len(items) > 0 && !items[0].Created.Before(at) { // names sort by time
		at = items[0].Created.Add(time.Second)
	}
	item = Item{Name: at.Format(nameForm), State: Running, Created: at}
	m.current = &item
	return item, func() {
		if err := free(); err != nil {
			m.cfg.Log.Warn("the folder of backups stays locked", "error", err)
		}
	}, nil
}

// finish makes a backup, notes what became of it, and ends the turn.
func (m *Manager) finish(ctx context.Context, item Item, unlock func()) (Item, error) {
	began := time.Now()
	m.cfg.Log.Info("a backup has begun", "file", item.Name)
	err := m.write(ctx, &item)
	file := filepath.Join(m.cfg.Folder, item.Name)
	if err == nil {
		item.State = Complete
		m.cfg.Log.Info("a backup is complete", "file", file, "bytes", item.Size, "took", time.Since(began))
		if m.cfg.Passphrase == nil {
			m.cfg.Log.Warn("the keys are in no backup, and without them nobody reads the stored texts of one; set backup.passphrase_file")
		}
		if err := tidy(m.cfg.Folder, m.cfg.Keep, m.cfg.Now()); err != nil {
			m.cfg.Log.Warn("old backups were not removed", "error", err)
		}
	} else {
		item.State, item.Err, item.Size = Failed, reason(err), 0
		m.cfg.Log.Error("a backup has failed", "file", file, "error", err)
		_ = remove(file + partSuffix)
		if err := durable.WriteFile(durable.OS(), file+failedSuffix, []byte(item.Err+"\n"), 0o600); err != nil {
			m.cfg.Log.Warn("that a backup has failed is not on disk", "error", err)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	unlock()
	m.current, m.last, m.missed = nil, nil, time.Time{}
	if err != nil {
		m.last = &item
		m.missed = m.missedAt()
	}
	return item, err
}

func reason(err error) string {
	text := []rune(err.Error())
	return string(text[:min(len(text), maxReason)])
}

// write makes the files of a backup.
func (m *Manager) write(ctx context.Context, item *Item) (err error) {
	if err := m.clean(item.Name); err != nil {
		return err
	}
	file := filepath.Join(m.cfg.Folder, item.Name)
	f, err := durable.OpenFile(file+partSuffix, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	out := &output{ctx: ctx, f: f, folder: m.cfg.Folder, free: m.cfg.MinFree, sum: sha256.New()}
	a := newArchive(out, m.cfg.Program, item.Created)
	err = m.cfg.Fill(ctx, a)
	if err == nil {
		err = m.writeKeys(ctx, item.Created, a)
	}
	if err == nil {
		err = a.close()
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	item.Size, item.SHA256 = out.n, hex.EncodeToString(out.sum.Sum(nil))
	if err := durable.WriteFile(durable.OS(), file+sumSuffix, []byte(item.SHA256+"  "+item.Name+"\n"), 0o600); err != nil {
		return err
	}
	if err := durable.OS().Rename(file+partSuffix, file); err != nil {
		return errors.Join(err, remove(file+sumSuffix))
	}
	return durable.OS().SyncDir(m.cfg.Folder)
}

// clean removes what backups left that were interrupted. Nobody else writes into the folder now.
func (m *Manager) clean(own string) error {
	files, err := filepath.Glob(filepath.Join(m.cfg.Folder, "*"+partSuffix))
	for _, file := range files {
		name := filepath.Base(file[:len(file)-len(partSuffix)])
		err = errors.Join(err, remove(file))
		if IsName(name) && name != own {
			err = errors.Join(err, durable.WriteFile(durable.OS(), filepath.Join(m.cfg.Folder, name+failedSuffix), []byte("it was interrupted\n"), 0o600))
		}
	}
	return err
}

// writeKeys replaces the key backup. It is small, and is made in memory.
func (m *Manager) writeKeys(ctx context.Context, at time.Time, a *archive) error {
	if m.cfg.Passphrase == nil {
		a.Note(Component{Name: "keys", Detail: "no passphrase is configured, so there is no key backup"})
		return nil
	}
	passphrase, err := m.cfg.Passphrase()
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := writeKeys(&b, passphrase, at, func(k *Keys) error { return m.cfg.Keys(ctx, k) }); err != nil {
		return fmt.Errorf("back up the keys: %w", err)
	}
	a.Note(Component{Name: "keys", Included: false, Detail: "in " + KeysName + " beside the backups, encrypted"})
	return durable.WriteFile(durable.OS(), filepath.Join(m.cfg.Folder, KeysName), b.Bytes(), 0o600)
}

// output writes a file, knows its checksum, and leaves room on the disk.
type output struct {
	ctx    context.Context
	f      *os.File
	sum    hash.Hash
	folder string
	free   int64 // to leave
	n      int64
	looked int64 // n at the last look at the disk
}

// lookEvery is how much is written between two looks at the disk.
const lookEvery = 8 << 20

// Write implements io.Writer.
func (o *output) Write(p []byte) (int, error) {
	if err := o.ctx.Err(); err != nil {
		return 0, errors.New("it was interrupted")
	}
	if o.looked == 0 || o.n-o.looked > lookEvery {
		o.looked = max(o.n, 1)
		if err := CheckSpace(o.folder, o.free); err != nil {
			return 0, err
		}
	}
	n, err := o.f.Write(p)
	o.sum.Write(p[:n])
	o.n += int64(n)
	return n, err
}

// CheckSpace is an error if a disk has less free than that.
func CheckSpace(folder string, least int64) error {
	free, _, err := durable.Space(folder)
	if err == nil && free < least {
		err = fmt.Errorf("the disk of %s has %d MiB free, and %d MiB are left to others", folder, free>>20, least>>20)
	}
	return err
}

// List returns the backups, the newest first.
func (m *Manager) List() ([]Item, error) {
	for {
		current, _ := m.state()
		items, err := list(m.cfg.Folder)
		now, last := m.state()
		if now != current {
			continue // one that began or ended meanwhile may have been seen neither running nor on the disk
		}
		known := false
		for i := range items {
			switch {
			case current != nil && current.Name == items[i].Name:
				items[i].State, items[i].Err, known = Running, "", true
			case last != nil && last.Name == items[i].Name:
				known = true
			}
		}
		if more := cmp.Or(current, last); more != nil && !known {
			items = append([]Item{*more}, items...)
		}
		return items, err
	}
}

// state is the backup that runs, and the last one if it failed.
func (m *Manager) state() (current, last *Item) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.current, m.last
}

// Open opens a complete backup. The name must be one for which IsName holds.
func (m *Manager) Open(name string) (*os.File, error) {
	if !IsName(name) {
		return nil, os.ErrNotExist
	}
	f, err := durable.OpenNow(filepath.Join(m.cfg.Folder, name))
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(os.ErrNotExist, f.Close())
	}
	return f, nil
}

// Next is when the schedule makes the next backup, or when one is made that was missed; zero is
// never.
func (m *Manager) Next() time.Time {
	next := m.cfg.Schedule.Next(m.cfg.Now().Add(-m.cfg.Delay))
	if next.IsZero() {
		return next
	}
	next = next.Add(m.cfg.Delay)
	m.mu.Lock()
	defer m.mu.Unlock()
	if !m.missed.IsZero() && m.missed.Before(next) {
		return m.missed
	}
	return next
}

// Keys is when the key backup was made; zero if there is none. configured says whether each
// backup renews it.
func (m *Manager) Keys() (at time.Time, configured bool) {
	if info, err := os.Stat(filepath.Join(m.cfg.Folder, KeysName)); err == nil {
		at = info.ModTime()
	}
	return at, m.cfg.Passphrase != nil
}

// Settings are the folder, the schedule, and how long backups are kept.
func (m *Manager) Settings() (folder string, s Schedule, keep time.Duration) {
	abs, _ := filepath.Abs(m.cfg.Folder)
	return cmp.Or(abs, m.cfg.Folder), m.cfg.Schedule, m.cfg.Keep
}

// LastGood is when the last good backup was made; zero if there is none.
func (m *Manager) LastGood() time.Time {
	items, _ := list(m.cfg.Folder)
	for _, item := range items {
		if item.State == Complete {
			return item.Created
		}
	}
	return time.Time{}
}

// Health says what is wrong with the backups, or nothing.
func (m *Manager) Health() string {
	items, err := m.List()
	if err != nil {
		return "the folder of backups cannot be read"
	}
	for _, item := range items {
		switch item.State {
		case Running:
			continue
		case Failed:
			return "the last backup, " + item.Name + ", has failed"
		}
		if p := m.cfg.Schedule.period(); p > 0 && m.cfg.Now().Sub(item.Created) > 2*p {
			return "the last good backup is of " + item.Created.Format(time.DateOnly)
		}
		break
	}
	return ""
}
