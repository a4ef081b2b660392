package trust_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/testing/testca"
	"github.com/sealmq/sealmq/mtls"
	"github.com/sealmq/sealmq/trust"
)

// openOneList reads the list in one file.
func openOneList(file string, mayBeMissing bool, log *slog.Logger) (*trust.RevocationList, error) {
	return trust.OpenRevocations(trust.ListConfig{Files: []trust.ListFile{{Path: file, MayBeMissing: mayBeMissing}}, Log: log})
}

func TestRevocationListNamesCertificates(t *testing.T) {
	ours, other := testca.New(t), testca.New(t)
	alice, bob := ours.Leaf("alice", sealmq.RoleClient).Leaf, ours.Leaf("bob", sealmq.RoleClient).Leaf
	root := ours.Root()
	for _, tc := range []struct {
		name, line string
		chain      []*x509.Certificate
		revoked    bool
	}{
		{"its fingerprint", "certificate " + mtls.Fingerprint(alice), []*x509.Certificate{alice, root}, true},
		{"another's fingerprint", "certificate " + mtls.Fingerprint(alice), []*x509.Certificate{bob, root}, false},
		{"its serial number", "serial " + mtls.Serial(alice) + " issuer " + mtls.Issuer(root), []*x509.Certificate{alice, root}, true},
		{"the serial number below another root", "serial " + mtls.Serial(alice) + " issuer " + mtls.Issuer(other.Root()), []*x509.Certificate{alice, root}, false},
		{"an authority between", "certificate " + mtls.Fingerprint(bob), []*x509.Certificate{alice, bob, root}, true},
		{"the root is not asked about", "certificate " + mtls.Fingerprint(root), []*x509.Certificate{alice, root}, false},
		{"unless it is alone", "certificate " + mtls.Fingerprint(root), []*x509.Certificate{root}, true},
		{"no chain", "certificate " + mtls.Fingerprint(root), nil, false},
	} {
		t.Run(tc.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "revoked.txt")
			testca.WriteFile(t, file, []byte(tc.line+"\n"))
			l, err := openOneList(file, false, nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := l.Check(tc.chain); errors.Is(err, mtls.ErrRevoked) != tc.revoked || (err == nil) == tc.revoked {
				t.Errorf("error %v", err)
			}
		})
	}
}

// TestRevocationActsWithinASecond: after each write the list is in force, and the watcher
// is told, within a second. A list that cannot be used changes nothing.
func TestRevocationActsWithinASecond(t *testing.T) {
	ca := testca.New(t)
	chain := func(cn string) []*x509.Certificate {
		return []*x509.Certificate{ca.Leaf(cn, sealmq.RoleClient).Leaf, ca.Root()}
	}
	entry := func(cn string) string { return "certificate " + mtls.Fingerprint(chain(cn)[0]) + "\n" }
	alice, bob := entry("alice"), entry("bob")
	file := filepath.Join(t.TempDir(), "revoked.txt")
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		l, err := openOneList(file, true, slog.New(slog.NewTextHandler(&log, nil)))
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		changes := 0
		done := make(chan struct{})
		go func() { defer close(done); l.Watch(ctx, func() { changes++ }) }()
		for _, step := range []struct {
			name       string
			do         func() error
			alice, bob bool // revoked
			changes    int
			err        string
		}{
			{"there is no file", func() error { return nil }, false, false, 0, ""},
			{"it appears", func() error { return os.WriteFile(file, []byte(alice), 0o600) }, true, false, 1, ""},
			{"another in its place, of the same size and time", func() error { return sameTime(file, []byte(bob)) }, false, true, 2, ""},
			{"a comment", func() error { return os.WriteFile(file, []byte("#\n"+bob), 0o600) }, false, true, 3, ""},
			{"damaged", func() error { return os.WriteFile(file, []byte(alice+"{x\n"), 0o600) }, false, true, 3, "line 2"},
			{"gone", func() error { return os.Remove(file) }, false, true, 3, "no such file"},
			{"back as it was", func() error { return os.WriteFile(file, []byte("#\n"+bob), 0o600) }, false, true, 3, ""},
			{"both", func() error { return os.WriteFile(file, []byte(alice+bob), 0o600) }, true, true, 4, ""},
			{"emptied by damage", func() error { return os.WriteFile(file, nil, 0o600) }, true, true, 4, "is empty"},
			{"a line that is ignored", func() error { return os.WriteFile(file, []byte(alice+"serial 7\n"), 0o600) }, true, false, 5, "line 2 is ignored"},
			{"the last line has no end", func() error { return os.WriteFile(file, []byte(bob[:len(bob)-1]), 0o600) }, false, true, 6, "no end"},
			{"emptied on purpose", func() error { return os.WriteFile(file, []byte("# nobody\n"), 0o600) }, false, false, 7, ""},
		} {
			if err := step.do(); err != nil {
				t.Fatal(err)
			}
			time.Sleep(999 * time.Millisecond)
			synctest.Wait()
			if got := l.Check(chain("alice")) != nil; got != step.alice {
				t.Errorf("%s: alice revoked: %v", step.name, got)
			}
			if got := l.Check(chain("bob")) != nil; got != step.bob {
				t.Errorf("%s: bob revoked: %v", step.name, got)
			}
			if changes != step.changes {
				t.Errorf("%s: told of %d changes, want %d", step.name, changes, step.changes)
			}
			if err := l.Err(); (err != nil) != (step.err != "") || err != nil && !strings.Contains(err.Error(), step.err) {
				t.Errorf("%s: error %v, want %q", step.name, err, step.err)
			}
		}
		stop()
		<-done
		if got := strings.Count(log.String(), "level=ERROR"); got != 5 {
			t.Errorf("%d errors in the log, want one for each reason:\n%s", got, log.String())
		}
	})
}

func sameTime(file string, data []byte) error {
	info, err := os.Stat(file)
	if err != nil {
		return err
	}
	if err := os.WriteFile(file, data, 0o600); err != nil {
		return err
	}
	return os.Chtimes(file, info.ModTime(), info.ModTime())
}

func TestRevocationListMustExistIfNamed(t *testing.T) {
	if _, err := openOneList(filepath.Join(t.TempDir(), "nowhere"), false, nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}

func TestRevokesFingerprint(t *testing.T) {
	ca := testca.New(t)
	alice := ca.Leaf("alice", sealmq.RoleClient).Leaf
	file := filepath.Join(t.TempDir(), "revoked.txt")
	testca.WriteFile(t, file, []byte("certificate "+mtls.Fingerprint(alice)+"\n"))
	l, err := openOneList(file, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !l.RevokesFingerprint(mtls.Fingerprint(alice)) || l.RevokesFingerprint(mtls.Fingerprint(ca.Root())) {
		t.Error("it does not say what the list says")
	}
}

// TestRefreshWaitsForThoseWhoAreBeingTold: another look has found the change, and is still telling of it.
func TestRefreshWaitsForThoseWhoAreBeingTold(t *testing.T) {
	file := filepath.Join(t.TempDir(), "revoked.txt")
	testca.WriteFile(t, file, []byte("# nothing\n"))
	l, err := openOneList(file, false, nil)
	if err != nil {
		t.Fatal(err)
	}
	var told atomic.Bool
	returned := make(chan bool, 1)
	defer l.OnChange(func() {
		go func() {
			l.Refresh()
			returned <- told.Load()
		}()
		select {
		case was := <-returned:
			returned <- was
		case <-time.After(100 * time.Millisecond): // it waits, as it should
		}
		told.Store(true)
	})()
	testca.WriteFile(t, file, []byte("name alice\n"))
	l.Refresh()
	if !<-returned {
		t.Error("it has returned before all were told")
	}
}
