package trust

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"sync/atomic"
	"time"

	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/mtls"
)

// peers is what Peers needs beside the list.
type peers struct {
	// closesAt is when the feed is too old, in Unix nanoseconds; 0 is never.
	closesAt atomic.Int64

	// The list's lock guards what follows.
	opened time.Time
	closed bool // as far as those who want to know of changes were told
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
	roots := v.accepted.keys.Load()
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
	return errors.Join(l.accepted.err, l.own.err)
}

// lookAtPeers reads the authorities, and reports whether Peers refuses others than before, or
// Identifier believes others. The lock is held.
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
	changed = l.accepted.look(l.cfg.FS, l.cfg.Log) || changed
	return l.own.look(l.cfg.FS, l.cfg.Log) || changed
}

// Identifier tells a listener who its peers are. It believes the roles in certificates of our own
// authority, as ListConfig.OwnRoots has it at the time, and asks Peers whom to let in.
func (l *RevocationList) Identifier() *mtls.Identifier {
	i := mtls.NewIdentifierOf(func(root *x509.Certificate) bool {
		keys := l.own.keys.Load()
		return keys != nil && (*keys)[string(root.RawSubjectPublicKeyInfo)]
	})
	i.Revocation = l.Peers()
	return i
}

// OwnIssuer reports whether an Identity's Issuer is our own authority, as Identifier knows it at
// the time.
func (l *RevocationList) OwnIssuer(issuer string) bool {
	keys := l.own.keys.Load()
	return keys != nil && (*keys)[issuer]
}

// rootsFile is a file of authorities that is read again and again. Its content decides, not its
// time or size. If it cannot be used, the last good content stays.
type rootsFile struct {
	path         string
	mayBeMissing bool                            // until it appears
	keys         atomic.Pointer[map[string]bool] // of the authorities, as they are and as mtls.Issuer; nil without a file

	// The list's lock guards what follows.
	data []byte
	err  error
}

// look reads the file, and reports whether it has other authorities than before.
func (f *rootsFile) look(files durable.FS, log *slog.Logger) (changed bool) {
	if f.path == "" {
		return false
	}
	data, err := durable.ReadFile(files, f.path, mtls.MaxFileBytes)
	if f.mayBeMissing && f.data == nil && errors.Is(err, fs.ErrNotExist) || err == nil && f.err == nil && f.data != nil && bytes.Equal(data, f.data) {
		return false
	}
	var certs []*x509.Certificate
	if err == nil {
		certs, err = mtls.ParseAuthorities(data)
	}
	if err != nil {
		err = fmt.Errorf("read the authorities in %s: %w", f.path, err)
		if f.err == nil || f.err.Error() != err.Error() {
			log.Error("the authorities cannot be read, the last good ones stay", "err", err)
		}
		f.err = err
		return false
	}
	keys := make(map[string]bool)
	for _, c := range certs {
		keys[string(c.RawSubjectPublicKeyInfo)], keys[mtls.Issuer(c)] = true, true
	}
	before := f.keys.Swap(&keys)
	f.data, f.err = data, nil
	return before == nil || !maps.Equal(*before, keys)
}
