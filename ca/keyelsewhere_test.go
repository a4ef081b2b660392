package ca_test

import (
	"errors"
	"slices"
	"testing"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/ca"
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
