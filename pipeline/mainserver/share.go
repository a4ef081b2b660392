package mainserver

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/mtls"
	"github.com/sealmq/sealmq/pipeline/records"
	"github.com/sealmq/sealmq/trust"
)

// shareEvery is how often a main server looks for what others have revoked: a revocation is in
// force everywhere within a second.
const shareEvery = 250 * time.Millisecond

// Sharing keeps the main servers of one database in line about what their authority has issued and
// revoked: each has a copy of the authority with records of its own. It is safe for concurrent use.
type Sharing struct {
	store     *records.Store
	authority *ca.Authority
	revoked   *trust.RevocationList
	name      string // of the authority

	mu      sync.Mutex
	stored  map[string]bool // what the database has
	version uint64          // of the list whose entries are stored
	begun   bool
	put     int   // how many certificates of the own record the database has
	read    int64 // the last one of the database that the own record has
}

// NewSharing prepares sharing what an authority has issued and revoked. revoked is the list that reads the
// authority's ledger.
func NewSharing(store *records.Store, authority *ca.Authority, revoked *trust.RevocationList) *Sharing {
	return &Sharing{store: store, authority: authority, revoked: revoked, name: mtls.Issuer(authority.Root()), stored: make(map[string]bool)}
}

// Sync stores what this main server has issued and revoked, and takes over what others have. It
// returns how many revocations were new here.
func (s *Sharing) Sync(ctx context.Context) (adopted int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	adopted, err = s.syncRevoked(ctx)
	return adopted, errors.Join(err, s.syncIssued(ctx)) // neither waits for the other's trouble
}

// syncIssued is Sync for the record of certificates.
func (s *Sharing) syncIssued(ctx context.Context) error {
	for {
		texts, err := s.store.IssuedAfter(ctx, s.name, s.read)
		if err != nil {
			return err
		}
		if len(texts) == 0 {
			break
		}
		list := make([]ca.Issued, len(texts))
		for i := range texts {
			if err := json.Unmarshal([]byte(texts[i].Entry), &list[i]); err != nil {
				return err
			}
		}
		if _, err := s.authority.AdoptIssued(list); err != nil {
			return err
		}
		s.read = texts[len(texts)-1].Number
	}
	list, total, err := s.authority.IssuedFrom(s.put)
	if err != nil {
		return err
	}
	if total < s.put { // an older record was restored: what it lacks comes back
		s.put, s.read = 0, 0
		return nil
	}
	texts := make([]records.Issued, len(list))
	for i := range list {
		text, err := json.Marshal(list[i])
		if err != nil {
			return err
		}
		texts[i] = records.Issued{Serial: list[i].Serial, Entry: string(text)}
	}
	if err := s.store.AddIssued(ctx, s.name, texts); err != nil {
		return err
	}
	s.put = total
	return nil
}

// syncRevoked is Sync for revocations.
func (s *Sharing) syncRevoked(ctx context.Context) (adopted int, err error) {
	if err := s.putRevoked(ctx); err != nil {
		return 0, err
	}
	n, err := s.store.CountRevocations(ctx, s.name)
	if err != nil || n == len(s.stored) {
		return 0, err
	}
	texts, err := s.store.Revocations(ctx, s.name)
	if err != nil {
		return 0, err
	}
	var entries []trust.Entry
	for _, text := range texts {
		if s.stored[text] {
			continue
		}
		var e trust.Entry
		if err := json.Unmarshal([]byte(text), &e); err != nil {
			return 0, err
		}
		entries = append(entries, e)
	}
	if adopted, err = s.authority.Adopt(entries); err != nil {
		return 0, err
	}
	for _, text := range texts {
		s.stored[text] = true
	}
	if adopted > 0 {
		s.revoked.Refresh()
	}
	return adopted, nil
}

// putRevoked stores what the ledger has and the database may not. mu is held.
func (s *Sharing) putRevoked(ctx context.Context) error {
	version := s.revoked.Version()
	if s.begun && version == s.version {
		return nil
	}
	entries, err := s.authority.Entries()
	if err != nil {
		return err
	}
	var texts []string
	for _, e := range entries {
		text, err := json.Marshal(e.Unnumbered())
		if err != nil {
			return err
		}
		if !s.stored[string(text)] {
			texts = append(texts, string(text))
		}
	}
	if err := s.store.AddRevocations(ctx, s.name, texts); err != nil {
		return err
	}
	for _, text := range texts {
		s.stored[text] = true
	}
	s.begun, s.version = true, version
	return nil
}

// Run syncs until ctx ends.
func (s *Sharing) Run(ctx context.Context, log *slog.Logger) {
	changed := make(chan struct{}, 1)
	defer s.revoked.OnChange(func() {
		select {
		case changed <- struct{}{}:
		default:
		}
	})()
	tick := time.NewTicker(shareEvery)
	defer tick.Stop()
	failed := false
	for {
		adopted, err := s.Sync(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && !failed:
			log.Warn("what other main servers of this database issue and revoke is not known now; trying again", "err", err)
		case err == nil && failed:
			log.Info("what other main servers of this database issue and revoke is known again")
		}
		if failed = err != nil; adopted > 0 {
			log.Info("took over what another main server has revoked", "revocations", adopted)
		}
		select {
		case <-ctx.Done():
			return
		case <-changed:
		case <-tick.C:
		}
	}
}
