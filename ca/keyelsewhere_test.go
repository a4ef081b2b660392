package ca_test

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/internal/testing/fakeclock"
	"github.com/sealmq/sealmq/internal/testing/faultfs"
)

// TestIntermediateKeyElsewhere: everything works but signing.
func TestIntermediateKeyElsewhere(t *testing.T) {
	o := newOffice(t)
	c := o.issue(ca.Request{Name: "proxy-1", Role: sealmq.RoleProxy, DNSNames: []string{"proxy.example"}})
	if err := o.fs.Remove(o.Paths().IntermediateKey); err != nil {
		t.Fatal(err)
	}
	if _, err := ca.Open("data", o.options()); err == nil {
		t.Error("an authority without its key is opened, although nobody asked for that")
	}
	options := o.options()
	options.KeyElsewhere = true
	a, err := ca.Open("data", options)
	if err != nil {
		t.Fatal(err)
	}
	if !o.HasKey() || a.HasKey() {
		t.Error("HasKey is wrong")
	}
	if _, err := a.Issue(ca.Request{Name: "alice"}); !errors.Is(err, ca.ErrNoKey) {
		t.Errorf("issue: %v", err)
	}
	if _, err := a.CRL(); !errors.Is(err, ca.ErrNoKey) {
		t.Errorf("CRL: %v", err)
	}
	if _, err := a.Revoke(ca.Revocation{Name: "proxy-1"}); err != nil {
		t.Errorf("revoke: %v", err)
	}
	history, err := a.HistoryOf("proxy-1")
	if err != nil || len(history) != 1 || !slices.Contains(history[0].Hosts, "proxy.example") || len(history[0].Hosts) != len(c.DNSNames)+len(c.IPAddresses) {
		t.Errorf("%+v, error %v", history, err)
	}
}

// TestSetupWithoutTheKey: a node whose authority has its key on another machine starts, also
// when its certificates should be renewed.
func TestSetupWithoutTheKey(t *testing.T) {
	fs, now := faultfs.New(), fakeclock.New(time.Now())
	options := ca.Options{FS: fs, Clock: now}
	if _, err := ca.Setup("data", nil, options); err != nil {
		t.Fatal(err)
	}
	if err := fs.Remove(ca.In("data").IntermediateKey); err != nil {
		t.Fatal(err)
	}
	if _, err := ca.Setup("data", nil, options); err == nil {
		t.Error("a key that nobody put elsewhere is not missed")
	}
	options.KeyElsewhere = true
	for range 2 { // also when its certificates should be renewed
		res, err := ca.Setup("data", nil, options)
		if err != nil || res.Authority.HasKey() || len(res.Made)+len(res.Renewed) > 0 {
			t.Fatalf("%+v, error %v", res, err)
		}
		now.Advance(340 * 24 * time.Hour)
	}
	options.Roles = []sealmq.Role{sealmq.RoleProxy}
	if _, err := ca.Setup("data", nil, options); err != nil {
		t.Errorf("a certificate that is still to come: %v", err)
	}
	if _, err := durable.ReadFile(fs, ca.In("data").Key("proxy"), 1<<20); !durable.IsNotExist(err) {
		t.Error("a key without a certificate was made")
	}
}
