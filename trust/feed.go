package trust

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"time"

	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/seal"
)

// Feed is what one component tells another about revocations.
type Feed struct {
	// Version is the number of the last change. It only grows.
	Version uint64 `json:"version"`
	// Full says that Entries is everything. Otherwise it is what came after Since.
	Full    bool    `json:"full"`
	Since   uint64  `json:"since,omitempty"`
	Entries []Entry `json:"entries"`
	// Origin tells the numbers of one list from those of another, which it knows nothing of.
	Origin string `json:"origin,omitempty"`
}

// feedState is the feed that a list is filled from.
type feedState struct {
	version   uint64
	entries   []Entry
	refreshed time.Time
	written   time.Time // what the feed file says
}

// writeFeedEvery bounds how much older the time in the feed file is.
const writeFeedEvery = time.Hour

// GapError says that a feed lacks what was seen before, as after a backup of its source was
// restored. What was revoked stays so, and what the feed has besides is in force too.
type GapError struct {
	Seen, Got uint64
	// Missing are the revocations that the feed lacks.
	Missing []Entry
}

// Error says how much is missing.
func (e *GapError) Error() string {
	return fmt.Sprintf("the revocations went back from number %d to %d, %d are missing; the list that was seen stays in force", e.Seen, e.Got, len(e.Missing))
}

// Hint tells the operator what to do.
func (e *GapError) Hint() string {
	return "was a backup of the authority restored? revoke there again what is missing"
}

// Version is the number of the list: that of the ledger among its files, or else of the feed.
func (l *RevocationList) Version() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.version()
}

func (l *RevocationList) version() uint64 {
	return max(l.feed.version, l.ledger().version)
}

// ledger is what the ledger among the files says, and says nothing if there is none.
func (l *RevocationList) ledger() *parsed {
	for _, s := range l.sources {
		if s.Ledger {
			return s.parsed
		}
	}
	return &parsed{}
}

// Since returns what was revoked after a version of the list with an origin; 0 asks for
// everything. Where that cannot be told apart, it is everything too, also if the version is one of
// another list. An empty origin is the list's own.
func (l *RevocationList) Since(version uint64, origin string) Feed {
	l.mu.Lock()
	defer l.mu.Unlock()
	f := Feed{Version: l.version(), Since: version, Entries: []Entry{}, Origin: l.origin}
	if version == 0 || origin != "" && origin != l.origin || version > f.Version || version < l.ledger().listsVersion || l.digest() != l.noted() || version < l.feed.version {
		f.Full, f.Since = true, 0
	}
	for _, s := range l.sources {
		for _, e := range inForce(s.parsed.entries) {
			if f.Full || s.Ledger && e.Version > version {
				f.Entries = append(f.Entries, e)
			}
		}
	}
	if f.Full {
		f.Entries = append(f.Entries, inForce(l.feed.entries)...)
	}
	return f
}

// noted is the digest of the other files that has a number.
func (l *RevocationList) noted() string { return cmp.Or(l.ledger().lists, noLists) }

// Apply puts a feed into force and keeps it in the feed file. If its number is lower than the
// last one, and it lacks something that was revoked, that stays in force, and the error is a
// *GapError. It says whether something else is revoked now; then those who want to know of
// changes were called.
func (l *RevocationList) Apply(f Feed) (changed bool, err error) {
	l.mu.Lock()
	changed, err = l.apply(f)
	l.mu.Unlock()
	if changed {
		l.tell()
	}
	return changed, err
}

// Add puts one entry into force beside the feed, until there is a complete one.
func (l *RevocationList) Add(e Entry) error {
	if err := e.check(); err != nil {
		return err
	}
	l.mu.Lock()
	before := l.index.Load()
	l.feed.entries = inForce(append(l.feed.entries[:len(l.feed.entries):len(l.feed.entries)], e))
	l.build()
	changed := !before.equal(l.index.Load())
	var err error
	if changed {
		err = l.writeFeed()
	}
	l.mu.Unlock()
	if changed {
		l.tell()
	}
	return err
}

// maxFeedEntries bounds the list that another component can fill.
const maxFeedEntries = 500_000

func (l *RevocationList) apply(f Feed) (bool, error) {
	old := &l.feed
	if !f.Full && (f.Since > old.version || f.Version < old.version) {
		return false, fmt.Errorf("the feed goes from number %d to %d, and %d was seen; ask for everything", f.Since, f.Version, old.version)
	}
	if len(f.Entries) > maxFeedEntries {
		return false, fmt.Errorf("the feed has %d entries, more than %d", len(f.Entries), maxFeedEntries)
	}
	for i := range f.Entries {
		if err := f.Entries[i].check(); err != nil {
			return false, fmt.Errorf("entry %d of the feed: %w", i+1, err)
		}
	}
	entries, version := f.Entries, f.Version
	var gap error
	if !f.Full {
		entries = append(old.entries[:len(old.entries):len(old.entries)], newer(f.Entries, old.version)...)
	} else if f.Version < old.version {
		if missing := lacks(f.Entries, old.entries); len(missing) > 0 {
			gap = &GapError{Seen: old.version, Got: f.Version, Missing: missing}
			entries, version = append(entries[:len(entries):len(entries)], missing...), old.version
		}
	}
	now, before, same := l.cfg.Now(), l.index.Load(), version == old.version
	refreshed := now
	if gap != nil {
		refreshed = old.refreshed // the source does not know everything
	}
	l.feed = feedState{version: version, entries: inForce(entries), refreshed: refreshed, written: old.written}
	l.build()
	changed := l.lookAtPeers() || !before.equal(l.index.Load())
	if same && !changed && now.Sub(old.written) < writeFeedEvery {
		return false, gap
	}
	return changed, errors.Join(gap, l.writeFeed())
}

// lacks returns what entries lack of others, unless they have a later word about a name.
func lacks(entries, others []Entry) (missing []Entry) {
	has := newIndex(entries)
	for _, e := range others {
		later := e.Scope == ScopeName && slices.ContainsFunc(entries, func(o Entry) bool {
			return o.Scope == ScopeName && o.Name == e.Name && o.Issuer == e.Issuer && o.RevokedAt.After(e.RevokedAt)
		})
		if !later && has.insert(&e) {
			missing = append(missing, e)
		}
	}
	return missing
}

func newer(entries []Entry, version uint64) (list []Entry) {
	for _, e := range entries {
		if e.Version > version {
			list = append(list, e)
		}
	}
	return list
}

// Refreshed is when the feed was last known to be complete, also before this start. It is
// zero if it never was.
func (l *RevocationList) Refreshed() time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.feed.refreshed
}

// storedFeed is the content of the feed file.
type storedFeed struct {
	Feed
	Refreshed time.Time `json:"refreshed"`
}

func (l *RevocationList) writeFeed() error {
	if l.cfg.FeedFile == "" {
		return nil
	}
	data, err := json.Marshal(storedFeed{Feed{Version: l.feed.version, Full: true, Entries: l.feed.entries}, l.feed.refreshed.UTC()})
	if err != nil {
		return err
	}
	if err := durable.MkdirAll(l.cfg.FS, filepath.Dir(l.cfg.FeedFile), 0o700); err != nil {
		return err
	}
	if err := durable.WriteFile(l.cfg.FS, l.cfg.FeedFile, data, 0o600); err != nil {
		return fmt.Errorf("the revocations are in force, and could not be kept for the next start: %w", err)
	}
	l.feed.written = l.feed.refreshed
	return nil
}

func (l *RevocationList) readFeed() error {
	if l.cfg.FeedFile == "" {
		return nil
	}
	data, err := durable.ReadFile(l.cfg.FS, l.cfg.FeedFile, maxLedgerBytes)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var f storedFeed
	err = json.Unmarshal(data, &f)
	for i := range f.Entries {
		if err == nil {
			err = f.Entries[i].check()
		}
	}
	if err != nil {
		return &seal.Error{Kind: fmt.Errorf("the stored revocations in %s are damaged", l.cfg.FeedFile), Err: err,
			Remedy: "remove the file while the main server can be reached: the list is then asked for again"}
	}
	if now := l.cfg.Now(); f.Refreshed.After(now) {
		f.Refreshed = now // the clock was wrong, and must not keep the list fresh
	}
	l.feed = feedState{version: f.Version, entries: f.Entries, refreshed: f.Refreshed, written: f.Refreshed}
	return nil
}
