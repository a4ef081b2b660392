package keydir

import (
	"encoding/json"
	"testing"

	"github.com/sealmq/sealmq/internal/testing/testca"
	"github.com/sealmq/sealmq/keydir/keylog"
	"github.com/sealmq/sealmq/seal"
	"github.com/sealmq/sealmq/seal/ciphermq"
)

// FuzzFound reads answers to find_key from a broker that answers anything.
func FuzzFound(f *testing.F) {
	leaf := testca.New(f).Leaf("alice", "")
	signer, err := seal.NewSigner("alice", leaf.Certificate, leaf.PrivateKey)
	if err != nil {
		f.Fatal(err)
	}
	private, err := seal.Generate(seal.HPKEX25519, 0)
	if err != nil {
		f.Fatal(err)
	}
	key := private.Public()
	entry, err := seal.NewKeyEntry(signer, seal.KeyEntry{Key: key})
	if err != nil {
		f.Fatal(err)
	}
	for _, found := range []keylog.Found{
		{Client: "alice", Proven: true, Suite: string(seal.HPKEX25519), Entry: entry},
		{Client: "alice", Key: key.Bytes()},
	} {
		answer, err := json.Marshal(found)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(answer)
	}
	f.Add([]byte(`{"proof":["AAAA"],"index":-1}`))
	f.Fuzz(func(t *testing.T, answer []byte) {
		for _, suite := range []seal.Suite{"", seal.HPKEX25519, ciphermq.G5} {
			var found keylog.Found
			if json.Unmarshal(answer, &found) != nil {
				continue
			}
			if _, err := readShown(found, "alice", suite); err != nil || !found.Proven {
				continue
			}
			if e, err := seal.ParseKeyEntry(found.Entry, ciphermq.Suites{}); err != nil || e.Owner != "alice" || suite != "" && e.Suite() != suite {
				t.Fatalf("%q was taken: %v", answer, err)
			}
		}
	})
}
