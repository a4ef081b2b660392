package trust

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"sync/atomic"
	"time"

	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/mtls"
)

// peers is what Peers needs beside the list.
type peers struct {
	// roots are the keys of the accepted authorities; nil accepts all.
	roots atomic.Pointer[map[string]bool]
	// closesAt is when the feed is too old, in Unix nanoseconds; 0 is never.
	closesAt atomic.Int64

	// The list's lock guards what follows.
	opened    time.Time
	closed    bool // as far as those who want to know of changes were told
	rootsData []byte
	rootsErr  error
}

var errNotAccepted = errors.New("its authority is not accepted any more")

// Peers is the view of a listener, which decides about those that connect to it. Check of
// the list itself says what is known to be revoked. This view also refuses a chain whose
// root was taken out of ListConfig.Roots, and everybody while Stale is an error.
func (l *RevocationList) Peers() mtls.Revocation { return peersView{l} }

type peersView struct{ *RevocationList }

func (v peersView) Check(chain []*x509.Certificate) error {
	if err := v.RevocationList.Check(chain); err != nil {
		return err
	}
	if err := v.Stale(); err != nil {
		return err
	}
	roots := v.peers.roots.Load()
	if roots == nil || len(chain) == 0 || (*roots)[string(chain[len(chain)-1].RawSubjectPublicKeyInfo)] {
		return nil
	}
	return errNotAccepted
}

// Stale is an error that wraps mtls.ErrStale once the feed is older than
// ListConfig.StaleClose.
func (l *RevocationList) Stale() error {
	if at := l.peers.closesAt.Load(); at != 0 && l.cfg.Now().UnixNano() >= at {
		return fmt.Errorf("%w: the main server could not be asked for %v", mtls.ErrStale, l.cfg.StaleClose)
	}
	return nil
}

// Age is how long ago the feed was last known to be complete, or how long the list has
// waited for the first one. It is zero if the list has no feed.
func (l *RevocationList) Age() time.Duration {
	if l.cfg.FeedFile == "" {
		return 0
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return max(0, l.cfg.Now().Sub(l.since()))
}

// since is when the feed was last complete. A list that never had one counts from its start:
// a node that was just installed has nothing to forget.
func (l *RevocationList) since() time.Time {
	if l.feed.refreshed.IsZero() {
		return l.peers.opened
	}
	return l.feed.refreshed
}

func (l *RevocationList) openPeers() error {
	l.peers.opened = l.cfg.Now()
	l.lookAtPeers()
	return l.peers.rootsErr
}

// lookAtPeers reads the accepted authorities, and reports whether Peers refuses others than
// before. The lock is held.
func (l *RevocationList) lookAtPeers() (changed bool) {
	p := &l.peers
	if l.cfg.FeedFile != "" && l.cfg.StaleClose > 0 {
		at := l.since().Add(l.cfg.StaleClose)
		p.closesAt.Store(at.UnixNano())
		closed := !l.cfg.Now().Before(at)
		changed, p.closed = closed != p.closed, closed
	}
	if changed && p.closed {
		l.cfg.Log.Error("the main server could not be asked what is revoked, and nobody is let in until it answers", "since", l.since().UTC(), "limit", l.cfg.StaleClose)
	}
	return l.lookAtRoots() || changed
}

func (l *RevocationList) lookAtRoots() (changed bool) {
	p := &l.peers
	if l.cfg.Roots == "" {
		return false
	}
	data, err := durable.ReadFile(l.cfg.FS, l.cfg.Roots, mtls.MaxFileBytes)
	if err == nil && p.rootsErr == nil && p.rootsData != nil && bytes.Equal(data, p.rootsData) {
		return false
	}
	var certs []*x509.Certificate
	if err == nil {
		certs, err = mtls.ParseAuthorities(data)
	}
	if err != nil {
		err = fmt.Errorf("read the accepted authorities in %s: %w", l.cfg.Roots, err)
		if p.rootsErr == nil || p.rootsErr.Error() != err.Error() {
			l.cfg.Log.Error("the accepted authorities cannot be read, the last good ones stay", "err", err)
		}
		p.rootsErr = err
		return false
	}
	roots := make(map[string]bool)
	for _, c := range certs {
		roots[string(c.RawSubjectPublicKeyInfo)] = true
	}
	before := p.roots.Swap(&roots)
	p.rootsData, p.rootsErr = data, nil
	return before != nil && !maps.Equal(*before, roots)
}
