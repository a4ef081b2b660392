//go:build unix

package seal_test

import (
	"bytes"
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/sealmq/sealmq/seal"
)

// The benchmarks report what they take of one core, which does not depend on what else
// the machine does: cpu-ns/op, and operations per second of processor time.

func cpuTime(tb testing.TB) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func measure(b *testing.B, op func()) {
	b.ReportAllocs()
	start := cpuTime(b)
	for b.Loop() {
		op()
	}
	spent := cpuTime(b) - start
	b.ReportMetric(float64(spent.Nanoseconds())/float64(b.N), "cpu-ns/op")
	b.ReportMetric(float64(b.N)/spent.Seconds(), "per-core/s")
}

const benchID = "11111111-1111-4111-8111-111111111111"

func benchContent() seal.Content {
	return seal.Content{ID: benchID, Exchange: testExchange, RoutingKey: testRoute, Body: bytes.Repeat([]byte("x"), 256)}
}

func BenchmarkSeal(b *testing.B) {
	for _, suite := range provingSuites {
		b.Run(string(suite), func(b *testing.B) {
			w := newWorld(b, suite, "bob")
			s := w.sealer([]string{"bob"}, func(c *seal.SealerConfig) { c.EpochMessages, c.Now = 1<<32, nil })
			var body []byte
			measure(b, func() {
				var err error
				if body, err = s.Seal(benchContent()); err != nil {
					b.Fatal(err)
				}
			})
			b.ReportMetric(float64(len(body)), "envelope-bytes")
		})
	}
}

func BenchmarkOpen(b *testing.B) {
	for _, suite := range provingSuites {
		b.Run(string(suite), func(b *testing.B) {
			w := newWorld(b, suite, "bob")
			body := w.seal(w.sealer([]string{"bob"}), benchContent())
			o := w.opener("bob", func(c *seal.OpenerConfig) { c.Now = nil })
			measure(b, func() {
				if _, err := o.Open(body, seal.Expect{ID: benchID}); err != nil {
					b.Fatal(err)
				}
			})
		})
	}
}

// An epoch change is a message that opens an epoch, on either side.
func BenchmarkEpochChange(b *testing.B) {
	for _, suite := range provingSuites {
		for _, kind := range []string{"P-256", "P-384", "Ed25519", "RSA"} {
			w := newWorld(b, suite, "bob")
			w.alice = w.signer("alice", kind)
			s := w.sealer([]string{"bob"}, func(c *seal.SealerConfig) { c.EpochMessages = 1 })
			b.Run(fmt.Sprintf("%s/%s/seal", suite, kind), func(b *testing.B) {
				measure(b, func() { w.seal(s, benchContent()) })
			})
			body := w.seal(s, benchContent())
			b.Run(fmt.Sprintf("%s/%s/open", suite, kind), func(b *testing.B) {
				o := w.opener("bob")
				ring := w.ring("bob")
				measure(b, func() {
					o.SetKeys(ring)
					w.open(o, body, benchID)
				})
			})
		}
	}
}

func BenchmarkSeveralReceivers(b *testing.B) {
	w := newWorld(b, seal.HPKEHybrid, "bob", "carol", "dave")
	s := w.sealer([]string{"bob", "carol", "dave"}, func(c *seal.SealerConfig) { c.EpochMessages, c.Now = 1<<32, nil })
	o := w.opener("carol", func(c *seal.OpenerConfig) { c.Now = nil })
	var body []byte
	b.Run("seal", func(b *testing.B) {
		measure(b, func() { body = w.seal(s, benchContent()) })
		b.ReportMetric(float64(len(body)), "envelope-bytes")
	})
	b.Run("open", func(b *testing.B) {
		measure(b, func() { w.open(o, body, benchID) })
	})
}
