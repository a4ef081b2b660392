package keylog_test

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/sealmq/sealmq/keydir/keylog"
	"github.com/sealmq/sealmq/seal"
)

// BenchmarkFindKey is a look-up with its proof in a log of 10,000 records.
func BenchmarkFindKey(b *testing.B) {
	r := open(b, func(c *keylog.Config) { c.Limits.Keys, c.Limits.Records = 1<<20, 1<<20 })
	for i := range 10_000 {
		k := key(0)
		binary.BigEndian.PutUint64(k, uint64(i))
		r.PutKey(admin, fmt.Sprint("client", i), k, func(bool, error) {})
	}
	id := r.who(r.ca, "alice", "")
	r.must(second(r.put(id, seal.HPKEHybrid, r.entry(publicKey(b, seal.HPKEHybrid), nil))))
	b.ResetTimer()
	for b.Loop() {
		if _, err := r.Find(bob, "alice", ""); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkOpenDirectory opens a log of 10,000 records.
func BenchmarkOpenDirectory(b *testing.B) {
	r := open(b, func(c *keylog.Config) { c.Limits.Keys, c.Limits.Records = 1<<20, 1<<20 })
	for i := range 10_000 {
		k := key(0)
		binary.BigEndian.PutUint64(k, uint64(i))
		r.PutKey(admin, fmt.Sprint("client", i), k, func(bool, error) {})
	}
	stored := r.store.definitions()
	b.ResetTimer()
	for b.Loop() {
		if _, err := keylog.Open(r.cfg, stored); err != nil {
			b.Fatal(err)
		}
	}
}
