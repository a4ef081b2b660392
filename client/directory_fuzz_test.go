package client_test

import (
	"encoding/json"
	"testing"

	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/internal/keylog"
	"github.com/sealmq/sealmq/internal/testing/faultfs"
	"github.com/sealmq/sealmq/internal/testing/testca"
	"github.com/sealmq/sealmq/seal"
)

// FuzzFound reads answers to find_key from a broker that answers anything.
func FuzzFound(f *testing.F) {
	leaf := testca.New(f).Leaf("alice", "")
	signer, err := seal.NewSigner("alice", leaf.Certificate, leaf.PrivateKey)
	if err != nil {
		f.Fatal(err)
	}
	key := generate(f, seal.HPKEX25519)
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
		for _, suite := range []seal.Suite{"", seal.HPKEX25519, seal.CipherMQG5} {
			var found keylog.Found
			if client.ReadFound(answer, "alice", suite) != nil || json.Unmarshal(answer, &found) != nil || !found.Proven {
				continue
			}
			if e, err := seal.ParseKeyEntry(found.Entry); err != nil || e.Owner != "alice" || suite != "" && e.Suite() != suite {
				t.Fatalf("%q was taken: %v", answer, err)
			}
		}
	})
}

// FuzzPins opens arbitrary files. What is understood is listed, what is not is an error.
func FuzzPins(f *testing.F) {
	f.Add([]byte(`{"v":1,"directories":{}}`))
	f.Add([]byte(`{"v":1,"directories":{"town":{"log_key":"k","checkpoint":"AAAA","keys":{"alice":{"hpke-x25519-aes256gcm":` +
		`{"fingerprint":"sha256:00","proven":true,"serial":1,"entry":"0000000000000000000000000000000000000000000000000000000000000000","issuer":"i","first_seen":"2026-05-04T09:00:00Z"}}}}}}`))
	f.Add([]byte(`{"v":1,"directories":{"town":null}}`))
	f.Add([]byte(`{"v":2}`))
	f.Fuzz(func(t *testing.T, content []byte) {
		fs := faultfs.New()
		if err := durable.WriteFile(fs, "pins.json", content, 0o600); err != nil {
			t.Fatal(err)
		}
		p, err := client.OpenPins(client.PinsConfig{File: "pins.json", FS: fs})
		if err != nil {
			return
		}
		if _, err := p.Keys("town"); err != nil {
			t.Fatal(err)
		}
		if err := p.Forget(t.Context(), "town", "alice"); err != nil {
			t.Fatal(err)
		}
		if keys, err := p.Keys("town"); err != nil || keys["alice"] != nil {
			t.Fatalf("%v, %v", keys, err)
		}
	})
}
