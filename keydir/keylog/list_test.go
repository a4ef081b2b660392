package keylog_test

import (
	"fmt"
	"testing"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/keydir/keylog"
	"github.com/sealmq/sealmq/seal"
)

// TestList: current keys by name, bare ones too, and none that was reset.
func TestList(t *testing.T) {
	r := open(t)
	alice := r.who(r.ca, "alice", "")
	public := publicKey(t, seal.HPKEHybrid)
	first := r.entry(public, nil)
	r.must(second(r.put(alice, seal.HPKEHybrid, first)))
	next := r.entry(publicKey(t, seal.HPKEHybrid), first)
	r.must(second(r.put(alice, seal.HPKEHybrid, next)))
	for _, name := range []string{"alice", "bob", "carol", "dave has blanks"} {
		r.must(second(r.putKey(admin, name, key(7))))
	}
	r.must(second(wait(func(done func([]int64, error)) { r.Reset(admin, "carol", "", done) })))
	for _, tc := range []struct {
		from string
		n    int
		want string
	}{
		{"", 100, "alice/false alice/true bob/false dave has blanks/false "},
		{"", 1, "alice/false alice/true "},
		{"alice", 2, "alice/false alice/true bob/false "},
		{"b", 1, "bob/false "},
		{"dave h", 5, "dave has blanks/false "},
		{"z", 5, ""},
	} {
		list, err := r.List(bob, tc.from, tc.n)
		r.must(err)
		got := ""
		for _, k := range list {
			got += fmt.Sprintf("%s/%t ", k.Client, k.Proven)
			if k.Fingerprint == "" || k.Record < 0 || k.Proven && (k.Entry != 2 || k.Since.IsZero() || k.Issuer != alice.Issuer || k.Suite != string(seal.HPKEHybrid)) {
				t.Errorf("%+v", k)
			}
		}
		if got != tc.want {
			t.Errorf("from %q, %d clients: %q, want %q", tc.from, tc.n, got, tc.want)
		}
	}
	denied := open(t, func(c *keylog.Config) {
		c.Allow = func(sealmq.Identity, keylog.Action, string) error { return sealmq.ErrDenied }
	})
	_, err := denied.List(bob, "", 1)
	denied.code(sealmq.Denied, err)
}
