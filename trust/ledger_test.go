package trust_test

import (
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq/internal/testing/faultfs"
	"github.com/sealmq/sealmq/trust"
)

const (
	ledgerFile = "data/ca/revocations.jsonl"
	ledgerCopy = "data.revocations"
)

func openLedger(t testing.TB, fs *faultfs.FS) *trust.Ledger {
	t.Helper()
	l, err := trust.OpenLedger(fs, ledgerFile, ledgerCopy)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func revoke(t testing.TB, l *trust.Ledger, names ...string) {
	t.Helper()
	for _, name := range names {
		if _, err := l.Append(trust.Entry{Scope: trust.ScopeName, Name: name}); err != nil {
			t.Fatal(err)
		}
	}
}

func named(entries []trust.Entry) string {
	var names []string
	for _, e := range entries {
		names = append(names, fmt.Sprintf("%d %s", e.Version, e.Name))
	}
	return strings.Join(names, ", ")
}

func TestLedgerKeepsWhatWasRevoked(t *testing.T) {
	fs := faultfs.New()
	l := openLedger(t, fs)
	revoke(t, l, "alice", "bob")
	if n, err := l.NextCRL(time.Now()); n != 1 || err != nil {
		t.Errorf("CRL number %d, %v", n, err)
	}
	revoke(t, l, "carol")
	if n, err := l.NextCRL(time.Now()); n != 2 || err != nil {
		t.Errorf("CRL number %d, %v", n, err)
	}
	if got := fs.Unsynced(); len(got) != 0 {
		t.Errorf("not durable: %q", got)
	}
	again := openLedger(t, fs)
	if got := named(again.Entries()); got != "1 alice, 2 bob, 3 carol" || again.Version() != 3 || len(again.Gap()) > 0 || again.CopyErr() != nil {
		t.Errorf("%s, version %d, gap %v, copy %v", got, again.Version(), again.Gap(), again.CopyErr())
	}
	if covers, ok := again.Covers(big.NewInt(2)); again.CRL() != 2 || covers != 3 || !ok {
		t.Errorf("CRL %d covers %d", again.CRL(), covers)
	}
	if string(fs.Get(ledgerFile)) != string(fs.Get(ledgerCopy)) {
		t.Error("the two files differ")
	}
	for what, e := range map[string]trust.Entry{
		"nothing": {}, "no name": {Scope: trust.ScopeName}, "no certificate": {Scope: trust.ScopeCertificate, Name: "x"},
		"a serial in another form": {Scope: trust.ScopeCertificate, Serial: "0A", Name: "x"},
	} {
		if _, err := again.Append(e); err == nil {
			t.Errorf("revoked %s", what)
		}
	}
}

// TestRestoreForgetsNothing: whichever of the two files is put back to an older state or is
// gone, what was revoked stays so, numbers grow, and the gap is named.
func TestRestoreForgetsNothing(t *testing.T) {
	fs := faultfs.New()
	l := openLedger(t, fs)
	revoke(t, l, "alice")
	old := fs.Get(ledgerFile)
	revoke(t, l, "bob", "carol")
	l.NextCRL(time.Now())
	for _, tc := range []struct {
		name   string
		change func(*faultfs.FS)
		gap    string
	}{
		{"the folder was restored", func(fs *faultfs.FS) { fs.Put(ledgerFile, old) }, "2 bob, 3 carol"},
		{"the folder is new", func(fs *faultfs.FS) { fs.Remove(ledgerFile) }, "1 alice, 2 bob, 3 carol"},
		{"the copy was restored", func(fs *faultfs.FS) { fs.Put(ledgerCopy, old) }, ""},
		{"the copy is gone", func(fs *faultfs.FS) { fs.Remove(ledgerCopy) }, ""},
		{"a line is cut off", func(fs *faultfs.FS) { fs.Put(ledgerFile, append(old[:len(old):len(old)], `{"ver`...)) }, "2 bob, 3 carol"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			fs := fs.Snapshot()
			tc.change(fs)
			l := openLedger(t, fs)
			if got := named(l.Gap()); got != tc.gap {
				t.Errorf("gap %q, want %q", got, tc.gap)
			}
			revoke(t, l, "dave")
			again := openLedger(t, fs)
			if got := named(again.Entries()); got != "1 alice, 2 bob, 3 carol, 4 dave" || len(again.Gap()) > 0 {
				t.Errorf("%s, gap %v", got, again.Gap())
			}
			if n, err := again.NextCRL(time.Now()); n != 2 || err != nil {
				t.Errorf("CRL number %d, %v", n, err)
			}
			if string(fs.Get(ledgerFile)) != string(fs.Get(ledgerCopy)) {
				t.Error("the two files differ")
			}
		})
	}

	// In a folder that was restored where the copy could not be seen, others were revoked.
	fs.Put(ledgerFile, append(old[:len(old):len(old)], `{"version":2,"scope":"cn","client_id":"eve"}`+"\n"+`{"crl_number":1,"covers":2}`+"\n"...))
	l = openLedger(t, fs)
	if got := named(l.Gap()); got != "2 bob, 3 carol" {
		t.Errorf("gap %q", got)
	}
	revoke(t, l, "dave")
	if got := named(openLedger(t, fs).Entries()); got != "1 alice, 2 bob, 3 carol, 4 eve, 5 dave" {
		t.Errorf("after the two went apart: %s", got)
	}
}

func TestDamagedLedger(t *testing.T) {
	fs := faultfs.New()
	revoke(t, openLedger(t, fs), "alice", "bob")
	good := fs.Get(ledgerFile)
	damaged := []byte(strings.Replace(string(good), "alice\"", "alice", 1))
	for _, name := range []string{ledgerFile, ledgerCopy} {
		fs := fs.Snapshot()
		fs.Put(name, damaged)
		l := openLedger(t, fs)
		if err := l.Save(); err != nil || string(fs.Get(name)) != string(good) {
			t.Errorf("%s is not mended: %v", name, err)
		}
	}
	fs.Put(ledgerFile, damaged)
	fs.Put(ledgerCopy, damaged)
	_, err := trust.OpenLedger(fs, ledgerFile, ledgerCopy)
	var hint interface{ Hint() string }
	if err == nil || !strings.Contains(err.Error(), ledgerFile) || !strings.Contains(err.Error(), "line 1") || !errors.As(err, &hint) {
		t.Errorf("both damaged: %v", err)
	}
}

// TestLedgerSurvivesEveryFault: what Append has promised is there after every fault, also if
// the folder is then restored from before.
func TestLedgerSurvivesEveryFault(t *testing.T) {
	faultfs.Sweep(t, func(fs *faultfs.FS) (done int) {
		l, err := trust.OpenLedger(fs, ledgerFile, ledgerCopy)
		if err != nil {
			return 0
		}
		for i, name := range []string{"a", "b", "c"} {
			if _, err := l.Append(trust.Entry{Scope: trust.ScopeName, Name: name}); err != nil {
				return done
			}
			done = i + 1
		}
		return done
	}, func(t *testing.T, fs *faultfs.FS, promised int) {
		l := openLedger(t, fs)
		if got := len(l.Entries()); got < promised {
			t.Errorf("%d of %d are left", got, promised)
		}
		revoke(t, l, "d")
		if got := openLedger(t, fs).Entries(); len(got) <= promised || got[len(got)-1].Name != "d" {
			t.Errorf("later: %s", named(got))
		}
	})
}
