package keydir_test

import (
	"context"
	"encoding/hex"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/internal/testing/fakebroker"
	"github.com/sealmq/sealmq/keydir"
)

// Certificates that the broker does not have are asked for once, by however many messages,
// and again after a pause.
func TestMissingCertificatesAreAskedForOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := fakebroker.New(t)
		c, p := f.Open(client.Config{})
		find := keydir.NewChains(c, 2*time.Second, time.Now).Find
		sum := [32]byte{7}
		question := "find_chain " + hex.EncodeToString(sum[:])
		for range 2 {
			done := make(chan error, 50)
			for range cap(done) {
				go func() {
					_, err := find(t.Context(), sum)
					done <- err
				}()
			}
			p.Expect(question)
			// A caller that gives up waiting does not end the request of the others.
			ended, cancel := context.WithCancel(t.Context())
			cancel()
			if _, err := find(ended, sum); !errors.Is(err, context.Canceled) {
				t.Error(err)
			}
			p.Send("Error no_key: no certificates are stored under this hash\n")
			for range cap(done) {
				if err := <-done; err == nil || errors.Is(err, context.Canceled) {
					t.Error(err)
				}
			}
			if _, err := find(t.Context(), sum); err == nil {
				t.Error("certificates that nobody has")
			}
			p.Silent()
			<-time.After(time.Second)
		}
	})
}
