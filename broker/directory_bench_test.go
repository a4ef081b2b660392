package broker_test

import (
	"encoding/binary"
	"fmt"
	"testing"

	"github.com/sealmq/sealmq/broker"
	"github.com/sealmq/sealmq/internal/testing/testca"
	"github.com/sealmq/sealmq/seal"
)

// BenchmarkFindKey is a look-up with its proof in a log of 10,000 records.
func BenchmarkFindKey(b *testing.B) {
	r := openRegistry(b)
	for i := range 10_000 {
		k := key(0)
		binary.BigEndian.PutUint64(k, uint64(i))
		r.PutKey(admin, fmt.Sprint("client", i), k, func(bool, error) {})
	}
	id := r.who(r.ca, "alice", "")
	r.must(second(r.put(id, seal.HPKEHybrid, r.entry(publicKey(b, seal.HPKEHybrid), nil))))
	b.ResetTimer()
	for b.Loop() {
		if _, err := r.FindKey(alice, "alice", ""); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkOpenDirectory starts a broker whose log has 10,000 records.
func BenchmarkOpenDirectory(b *testing.B) {
	r := openRegistry(b)
	for i := range 10_000 {
		k := key(0)
		binary.BigEndian.PutUint64(k, uint64(i))
		r.PutKey(admin, fmt.Sprint("client", i), k, func(bool, error) {})
	}
	cfg := r.cfg
	cfg.Engine = r.engine
	b.ResetTimer()
	for b.Loop() {
		if _, err := broker.New(cfg); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkSealedCheck is what a publish of an envelope of the default suite costs more on
// its way to a queue that takes sealed messages only.
func BenchmarkSealedCheck(b *testing.B) {
	body := sealedBody(b, testca.New(b), seal.HPKEHybrid, "1")
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		if _, err := seal.Inspect(body); err != nil {
			b.Fatal(err)
		}
	}
}
