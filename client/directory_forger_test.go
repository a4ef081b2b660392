package client_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/sealmq/sealmq/internal/testing/liar"
	"github.com/sealmq/sealmq/internal/testing/testca"
	"github.com/sealmq/sealmq/keydir"
	"github.com/sealmq/sealmq/keydir/keylog"
	"github.com/sealmq/sealmq/seal"
)

// forger is a broker whose directory says whatever the test wants, in a log that is as good
// as an honest one: it takes entries that an honest broker refuses.
type forger struct {
	t      testing.TB
	town   *town
	addr   string
	mu     sync.Mutex
	signer *keylog.Signer
	leaves []string
	hashes []tlog.Hash
	found  keylog.Found
	put    func(entry []byte) // called for put_key, without mu; nil asks the broker behind
}

func newForger(t testing.TB, w *town) *forger {
	t.Helper()
	f := &forger{t: t, town: w, signer: w.signer}
	n := w.broker()
	l, err := liar.Listen(liar.Config{TLS: w.ca.ServerTLS(), Identify: w.ca.Identify,
		Upstream: func(ctx context.Context, name string) (net.Conn, error) {
			return (&tls.Dialer{Config: named(w.ca.ClientTLS(name))}).DialContext(ctx, "tcp", n.Addr)
		}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	l.Lie(liar.Lies{ToBroker: func(c *liar.Conn, line string) []string {
		if rest, ok := strings.CutPrefix(line, "put_key "); ok && f.put != nil {
			_, entry, _ := strings.Cut(rest, " ")
			p, _ := base64.StdEncoding.DecodeString(entry)
			f.put(p)
			c.ToClient("Key stored 1")
			return nil
		}
		if answer := f.answer(line); answer != "" {
			c.ToClient(answer)
			return nil
		}
		return []string{line}
	}})
	f.addr = l.Addr()
	return f
}

func (f *forger) reader() tlog.HashReader {
	return tlog.HashReaderFunc(func(indexes []int64) (list []tlog.Hash, err error) {
		for _, i := range indexes {
			list = append(list, f.hashes[i])
		}
		return list, nil
	})
}

// add puts an entry into the log and shows it from now on.
func (f *forger) add(entry []byte, issuer string) {
	f.t.Helper()
	e, err := seal.ParseKeyEntry(entry)
	if err != nil {
		f.t.Fatal(err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	index := f.append(keylog.Leaf{Proven: true, Owner: e.Owner, Issuer: issuer, Suite: string(e.Suite()), Serial: e.Serial, Hash: e.Hash()})
	f.found = keylog.Found{Client: e.Owner, Suite: string(e.Suite()), Proven: true, Issuer: issuer, Entry: entry, Index: index}
}

// append adds a record to the log. The caller holds mu.
func (f *forger) append(leaf keylog.Leaf) int64 {
	f.t.Helper()
	index, text := int64(len(f.leaves)), leaf.Text()
	more, err := tlog.StoredHashes(index, []byte(text), f.reader())
	if err != nil {
		f.t.Fatal(err)
	}
	f.leaves, f.hashes = append(f.leaves, text), append(f.hashes, more...)
	return index
}

// reset puts a reset of an entry into the log.
func (f *forger) reset(entry []byte, change ...func(*keylog.Leaf)) keylog.Leaf {
	f.t.Helper()
	e, err := seal.ParseKeyEntry(entry)
	if err != nil {
		f.t.Fatal(err)
	}
	leaf := keylog.Leaf{Reset: true, Proven: true, Owner: e.Owner, Suite: string(e.Suite()), Serial: e.Serial, Hash: e.Hash()}
	for _, c := range change {
		c(&leaf)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.append(leaf)
	return leaf
}

func (f *forger) answer(line string) string {
	f.mu.Lock()
	defer f.mu.Unlock()
	size := int64(len(f.leaves))
	root, _ := tlog.TreeHash(size, f.reader())
	checkpoint, _ := f.signer.Checkpoint(tlog.Tree{N: size, Hash: root})
	var from, to int64
	var prefix string
	var reply any
	switch word, rest, _ := strings.Cut(line, " "); word {
	case "find_key":
		found := f.found
		found.Proof, _ = tlog.ProveRecord(size, found.Index, f.reader())
		found.Checkpoint, found.LogKey = checkpoint, f.signer.Public()
		prefix, reply = "Key: ", found
	case "find_reset":
		for i, text := range f.leaves {
			if strings.HasPrefix(text, "reset ") {
				proof, _ := tlog.ProveRecord(size, int64(i), f.reader())
				prefix, reply = "Reset: ", keylog.FoundReset{Leaf: text, Index: int64(i), Proof: proof, Checkpoint: checkpoint, LogKey: f.signer.Public()}
			}
		}
		if reply == nil {
			return "Error no_key: no key was reset"
		}
	case "key_log":
		_, _ = fmt.Sscan(rest, &from, &to)
		prefix, reply = "Key log: ", keylog.Page{From: from, Leaves: f.leaves[from:min(size, from+to)], Size: size, Checkpoint: checkpoint, LogKey: f.signer.Public()}
	case "key_proof":
		_, _ = fmt.Sscan(rest, &from, &to)
		proof, _ := tlog.ProveTree(to, from, f.reader())
		prefix, reply = "Key proof: ", keylog.Consistency{From: from, To: to, Proof: proof}
	default:
		return ""
	}
	p, _ := json.Marshal(reply)
	return prefix + string(p)
}

// entry makes an entry of alice's with a certificate of an authority.
func (f *forger) entry(ca *testca.CA, serial uint64, previous [32]byte) ([]byte, *seal.PublicKey) {
	f.t.Helper()
	leaf := ca.Leaf("alice", "")
	signer, err := seal.NewSigner("alice", leaf.Certificate, leaf.PrivateKey)
	if err != nil {
		f.t.Fatal(err)
	}
	key := generate(f.t, seal.HPKEX25519)
	entry, err := seal.NewKeyEntry(signer, seal.KeyEntry{Key: key, Serial: serial, Previous: previous, Created: time.Now()})
	if err != nil {
		f.t.Fatal(err)
	}
	return entry, key
}

func hashOf(t testing.TB, entry []byte) [32]byte {
	t.Helper()
	e, err := seal.ParseKeyEntry(entry)
	if err != nil {
		t.Fatal(err)
	}
	return e.Hash()
}

// A log can be in order and have in it what its owner's next entry cannot be.
func TestPinsAgainstAForgedButSoundLog(t *testing.T) {
	w := newTown(t)
	second := testca.New(t) // is accepted as well
	roots := w.ca.Pool()
	roots.AddCert(second.Root())
	verifier := &seal.X509Verifier{Roots: roots, Identify: w.ca.Identify}
	issuer := func(ca *testca.CA) string {
		s, err := verifier.Verify([]*x509.Certificate{ca.Leaf("alice", "").Leaf}, time.Now())
		if err != nil {
			t.Fatal(err)
		}
		return s.Issuer
	}
	trusting := func(c *keydir.Config) { c.Verifier = verifier }
	for _, tc := range []struct {
		name string
		next func(f *forger, first []byte) (entry []byte, key *seal.PublicKey, issuer string)
		want error
	}{
		{"an honest next one", func(f *forger, first []byte) ([]byte, *seal.PublicKey, string) {
			e, key := f.entry(w.ca, 2, hashOf(t, first))
			return e, key, issuer(w.ca)
		}, nil},
		{"two of one number", func(f *forger, _ []byte) ([]byte, *seal.PublicKey, string) {
			e, key := f.entry(w.ca, 1, [32]byte{})
			return e, key, issuer(w.ca)
		}, keydir.ErrPinned},
		{"one that follows another", func(f *forger, _ []byte) ([]byte, *seal.PublicKey, string) {
			e, key := f.entry(w.ca, 2, [32]byte{7})
			return e, key, issuer(w.ca)
		}, keydir.ErrPinned},
		{"another authority's", func(f *forger, first []byte) ([]byte, *seal.PublicKey, string) {
			e, key := f.entry(second, 2, hashOf(t, first))
			return e, key, issuer(second)
		}, keydir.ErrPinned},
		{"another authority's, passed off as the first one's", func(f *forger, first []byte) ([]byte, *seal.PublicKey, string) {
			e, key := f.entry(second, 2, hashOf(t, first))
			return e, key, issuer(w.ca)
		}, keydir.ErrLog},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f := newForger(t, w)
			first, pinned := f.entry(w.ca, 1, [32]byte{})
			f.add(first, issuer(w.ca))
			bob := w.directory(f.addr, "bob", trusting)
			finds(t, bob, "alice", "", pinned, nil)
			entry, key, by := tc.next(f, first)
			f.add(entry, by)
			if tc.want != keydir.ErrPinned {
				finds(t, bob, "alice", "", key, tc.want)
				return
			}
			_, err := bob.Find(t.Context(), "alice", "")
			refused(t, err, tc.want, pinned, key)
		})
	}
}

func TestAuditOfAForgedLog(t *testing.T) {
	w := newTown(t)
	f := newForger(t, w)
	first, key := f.entry(w.ca, 1, [32]byte{})
	f.add(first, "")
	f.add(first, "") // the same record again harms nobody
	bob := w.directory(f.addr, "bob")
	if _, err := bob.Audit(t.Context(), "alice"); err != nil {
		t.Errorf("an honest log: %v", err)
	}
	third, _ := f.entry(w.ca, 3, hashOf(t, first))
	f.add(third, "")
	if _, err := bob.Audit(t.Context(), "alice"); !errors.Is(err, keydir.ErrLog) {
		t.Errorf("an entry is left out: %v", err)
	}
	// The same log under another key is another log.
	var err error
	f.mu.Lock()
	f.signer, _, err = keylog.NewSigner()
	f.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bob.Audit(t.Context(), ""); !errors.Is(err, keydir.ErrLog) || !strings.Contains(err.Error(), "signed with another key than before") {
		t.Errorf("another key: %v", err)
	}
	finds(t, bob, "alice", "", key, keydir.ErrLog)
}
