package client_test

import (
	"testing"

	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/internal/testing/faultfs"
	"github.com/sealmq/sealmq/keydir"
)

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
		p, err := keydir.OpenPins(keydir.PinsConfig{File: "pins.json", FS: fs})
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
