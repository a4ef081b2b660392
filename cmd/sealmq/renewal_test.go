package main

import (
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/clock"
	"github.com/sealmq/sealmq/internal/testing/testca"
	"github.com/sealmq/sealmq/seal"
)

// TestFollowRenewal: a running command notices a renewed certificate, once, and waits for files
// of which one is new and the other is not.
func TestFollowRenewal(t *testing.T) {
	authority := testca.New(t)
	signer := func() *seal.Signer {
		cert := authority.Issue(authority.Template("alice", sealmq.RoleClient))
		s, err := seal.NewSigner("alice", cert.Certificate, cert.PrivateKey)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	old, renewed := signer(), signer()
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		current, failure, rotated := old, error(nil), 0
		set := func(signer *seal.Signer, err error) {
			mu.Lock()
			defer mu.Unlock()
			current, failure = signer, err
		}
		sign := func() (*seal.Signer, error) {
			mu.Lock()
			defer mu.Unlock()
			return current, failure
		}
		go followRenewal(t.Context(), clock.System, sign, func() { rotated++ })
		after := func(d time.Duration, want int) {
			t.Helper()
			time.Sleep(d)
			synctest.Wait()
			if rotated != want {
				t.Errorf("the epoch was ended %d times, want %d", rotated, want)
			}
		}
		after(time.Minute, 0)
		set(nil, errors.New("certificate and key do not belong together"))
		after(time.Minute, 0)
		set(renewed, nil)
		after(2*lookForRenewal, 1)
		after(time.Minute, 1)
	})
}
