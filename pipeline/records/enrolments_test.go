package records_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/sealmq/sealmq/pipeline/records"
)

func (e *env) enrolment(id string, change func(*records.Enrolment)) records.Enrolment {
	e.t.Helper()
	now := e.clock.Now()
	r := records.Enrolment{ID: id, Kind: records.EnrolToken, SecretHash: "hash", Client: "acme-01", Role: "proxy", Domain: "default", Hosts: []string{"a.example", "b.example"},
		Lifetime: time.Minute, CreatedBy: "admin", CreatedAt: now, ExpiresAt: now.Add(time.Hour)}
	if change != nil {
		change(&r)
	}
	if err := e.s.AddEnrolment(ctx(e.t), r); err != nil {
		e.t.Fatal(err)
	}
	return r
}

func TestEnrolments(t *testing.T) {
	onBoth(t, func(t *testing.T, e *env) {
		want := e.enrolment("0000000000000001", nil)
		got, err := e.s.Enrolment(ctx(t), want.ID)
		if err != nil || fmt.Sprint(got) != fmt.Sprint(want) || !got.Open(e.clock.Now()) {
			t.Errorf("%v\n%v %v", got, want, err)
		}
		if _, err := e.s.Enrolment(ctx(t), "0000000000000009"); !errors.Is(err, records.ErrNotFound) {
			t.Errorf("none: %v", err)
		}
		now := e.clock.Now()
		for _, c := range []struct {
			what, key string
			at        time.Duration
			open      bool
		}{
			{"expired", "key", 2 * time.Hour, false},
			{"open", "key", 0, true},
			{"claimed just now", "key", records.ClaimTime - time.Second, false},
			{"another key", "other", records.ClaimTime, false},
			{"claimed long ago by the same key", "key", records.ClaimTime, true},
		} {
			if err := e.s.ClaimEnrolment(ctx(t), want.ID, c.key, now.Add(c.at)); (err == nil) != c.open || !c.open && !errors.Is(err, records.ErrNotFound) {
				t.Errorf("claim, %s: %v", c.what, err)
			}
		}
		for _, c := range []struct {
			what, key string
			open      bool
		}{{"another key", "other", false}, {"the key", "key", true}, {"twice", "key", false}} {
			if err := e.s.UseEnrolment(ctx(t), want.ID, c.key, "pem"); (err == nil) != c.open || !c.open && !errors.Is(err, records.ErrNotFound) {
				t.Errorf("use, %s: %v", c.what, err)
			}
		}
		if err := e.s.ReleaseEnrolment(ctx(t), want.ID, "key"); err != nil {
			t.Error(err)
		}
		if err := e.s.RevokeEnrolment(ctx(t), want.ID, now); !errors.Is(err, records.ErrNotFound) {
			t.Errorf("revoked after its use: %v", err)
		}
		if got, err := e.s.Enrolment(ctx(t), want.ID); err != nil || got.KeyHash != "key" || got.Certificate != "pem" || got.UsedAt.IsZero() {
			t.Errorf("%+v %v", got, err)
		}
		e.enrolment("0000000000000002", nil)
		for range records.MaxEnrolmentFailures {
			if err := e.s.FailEnrolment(ctx(t), "0000000000000002"); err != nil {
				t.Fatal(err)
			}
		}
		if err := e.s.ClaimEnrolment(ctx(t), "0000000000000002", "key", now); !errors.Is(err, records.ErrNotFound) {
			t.Errorf("after too many failures: %v", err)
		}
		e.enrolment("0000000000000003", func(r *records.Enrolment) { r.Kind, r.Fingerprint = records.EnrolRenewal, "fp" })
		e.enrolment("0000000000000004", func(r *records.Enrolment) {
			r.Kind, r.Fingerprint, r.CreatedAt = records.EnrolRenewal, "fp", now.Add(time.Second)
		})
		if got, err := e.s.RenewalConsent(ctx(t), "fp"); err != nil || got.ID != "0000000000000004" {
			t.Errorf("%+v %v", got, err)
		}
		if err := e.s.RevokeEnrolment(ctx(t), "0000000000000003", now); err != nil {
			t.Error(err)
		}
		list, err := e.s.Enrolments(ctx(t))
		if err != nil || len(list) != 4 || !slices.IsSortedFunc(list, func(a, b records.Enrolment) int { return b.CreatedAt.Compare(a.CreatedAt) }) {
			t.Errorf("%v %v", list, err)
		}
		// Those that ended long ago make room.
		e.enrolment("0000000000000005", func(r *records.Enrolment) {
			r.CreatedAt = now.Add(40 * 24 * time.Hour)
			r.ExpiresAt = r.CreatedAt.Add(time.Hour)
		})
		if list, err := e.s.Enrolments(ctx(t)); err != nil || len(list) != 1 {
			t.Errorf("%v %v", list, err)
		}
	})
}

func TestEnrolmentsAreBounded(t *testing.T) {
	onBoth(t, func(t *testing.T, e *env) {
		for i := range records.MaxEnrolments {
			e.enrolment(fmt.Sprintf("%016x", i), nil)
		}
		extra := records.Enrolment{ID: "ffffffffffffffff", Kind: records.EnrolToken, Client: "a", Role: "client", Domain: "default", CreatedAt: e.clock.Now(), ExpiresAt: e.clock.Now().Add(time.Hour)}
		if err := e.s.AddEnrolment(ctx(t), extra); !errors.Is(err, records.ErrTooManyEnrolments) {
			t.Errorf("one more: %v", err)
		}
		if err := e.s.RevokeEnrolment(ctx(t), fmt.Sprintf("%016x", 7), e.clock.Now()); err != nil {
			t.Fatal(err)
		}
		if err := e.s.AddEnrolment(ctx(t), extra); err != nil {
			t.Errorf("after one was taken back: %v", err)
		}
	})
}

// TestEnrolmentIsClaimedOnce: of many claims of two main servers one succeeds, and so does one
// after it was given back.
func TestEnrolmentIsClaimedOnce(t *testing.T) {
	onBoth(t, func(t *testing.T, e *env) {
		one := e.enrolment("0000000000000001", nil)
		stores := []*records.Store{e.s, e.s}
		if e.name != "" { // several processes share a database on a server only
			stores[1] = e.open(nil)
		}
		for range 2 {
			var wg sync.WaitGroup
			var mu sync.Mutex
			var winners []string
			for i := range 16 {
				wg.Go(func() {
					key := fmt.Sprint("key", i/2) // two of each
					err := stores[i%2].ClaimEnrolment(ctx(t), one.ID, key, e.clock.Now())
					mu.Lock()
					defer mu.Unlock()
					if err == nil {
						winners = append(winners, key)
					} else if !errors.Is(err, records.ErrNotFound) {
						t.Error(err)
					}
				})
			}
			if wg.Wait(); len(winners) != 1 {
				t.Fatalf("claimed by %v", winners)
			}
			if err := e.s.ReleaseEnrolment(ctx(t), one.ID, "another"); err != nil {
				t.Fatal(err)
			}
			if got, err := e.s.Enrolment(ctx(t), one.ID); err != nil || got.KeyHash != winners[0] || got.UsedAt.IsZero() {
				t.Fatalf("%+v %v", got, err)
			}
			if err := e.s.ReleaseEnrolment(ctx(t), one.ID, winners[0]); err != nil {
				t.Fatal(err)
			}
		}
		now := e.clock.Now()
		if err := e.s.ClaimEnrolment(ctx(t), one.ID, "key", now); err != nil {
			t.Fatal(err)
		}
		if err := e.s.RevokeEnrolment(ctx(t), one.ID, now); err != nil {
			t.Errorf("taken back before there is a certificate: %v", err)
		}
		if err := e.s.UseEnrolment(ctx(t), one.ID, "key", "pem"); !errors.Is(err, records.ErrNotFound) {
			t.Errorf("used after it was taken back: %v", err)
		}
	})
}
