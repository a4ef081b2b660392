package mainclient_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/api/mainapi"
	"github.com/sealmq/sealmq/pipeline/mainclient"
	"github.com/sealmq/sealmq/pipeline/records"
)

// TestRefusedIsSummedUp: the first attempt is told of at once, those that follow once a minute,
// also after the main server was away, and no more is kept than there is room for.
func TestRefusedIsSummedUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r mainclient.Refused
		var mu sync.Mutex // guards the three below
		var away error
		var told []string
		leftOut := 0
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			r.Run(ctx, func(_ context.Context, report mainapi.RefusedReport) error {
				mu.Lock()
				defer mu.Unlock()
				if away != nil {
					return away
				}
				for i := range report.Items {
					a := &report.Items[i]
					told = append(told, fmt.Sprintf("%s %s %s %d", a.Component, a.ClientID, a.Address, a.Attempts))
				}
				leftOut += report.LeftOut
				return nil
			}, slog.New(slog.DiscardHandler))
		}()
		after := func(d time.Duration, want ...string) {
			t.Helper()
			time.Sleep(d)
			synctest.Wait()
			mu.Lock()
			defer mu.Unlock()
			if fmt.Sprint(told) != fmt.Sprint(want) {
				t.Errorf("told of %q, want %q", told, want)
			}
			told = nil
		}
		setAway := func(err error) { mu.Lock(); defer mu.Unlock(); away = err }
		for range 3 {
			r.Note("proxy", "stolen", "revoked", "192.0.2.1")
		}
		after(1100*time.Millisecond, "proxy stolen 192.0.2.1 3")
		for range 40 {
			r.Note("proxy", "stolen", "revoked", "192.0.2.2")
			after(time.Second)
		}
		after(25*time.Second, "proxy stolen 192.0.2.2 40")
		setAway(errors.New("away"))
		r.Note("broker", "stolen", "revoked", "192.0.2.3")
		after(time.Hour)
		r.Note("broker", "stolen", "revoked", "192.0.2.4")
		setAway(nil)
		after(6*time.Second, "broker stolen 192.0.2.4 2")
		for i := range 150 {
			r.Note("proxy", fmt.Sprint("client-", i), "expired", "192.0.2.5")
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		mu.Lock()
		if len(told) < 98 || len(told) > 100 || len(told)+leftOut != 150 {
			t.Errorf("told of %d, left out %d", len(told), leftOut)
		}
		told = nil
		mu.Unlock()
		r.Note("proxy", "client-0", "expired", "192.0.2.6")
		cancel()
		<-done
		after(0, "proxy client-0 192.0.2.6 1")
	})
}

// TestTellRefused: a proxy in another process fills the audit log, of which a client cannot
// decide how long it gets.
func TestTellRefused(t *testing.T) {
	w := newWorld(t)
	proxy, _ := w.as("proxy-1", sealmq.RoleProxy)
	proxy.Self = mainclient.Self{Name: "proxy-host-1"}
	report := mainapi.RefusedReport{LeftOut: 7, Items: []mainapi.RefusedAttempts{
		{Component: "proxy", ClientID: "stolen", Reason: "Client certificate has been revoked", Address: "192.0.2.1", Attempts: 12, Last: time.Now()},
		{Component: "proxy", Reason: "Client certificate is of an unknown authority", Attempts: 1, Last: time.Now()}}}
	w.must(proxy.TellRefused(t.Context(), report))
	list, err := w.store.Audit(t.Context(), records.AuditFilter{Type: "auth_denied"})
	w.must(err)
	if len(list) != 2 || list[1].Client != "stolen" || list[1].IP != "192.0.2.1" ||
		string(list[1].Data) != `{"attempts":12,"endpoint":"proxy","left_out_before":7,"reason":"Client certificate has been revoked","reported_by":"proxy-host-1"}` {
		t.Errorf("%+v", list)
	}
	for range 100 {
		w.must(proxy.TellRefused(t.Context(), report))
	}
	if list, err = w.store.Audit(t.Context(), records.AuditFilter{Type: "auth_denied", Limit: records.MaxLimit}); err != nil || len(list) != 60 {
		t.Errorf("%d events, %v", len(list), err)
	}
	report.Items = nil
	if err := proxy.TellRefused(t.Context(), report); sealmq.CodeOf(err) != sealmq.BadArgument {
		t.Errorf("an empty report: %v", err)
	}
	stranger, _ := w.as("acme", sealmq.RoleClient)
	if err := stranger.TellRefused(t.Context(), report); sealmq.CodeOf(err) != sealmq.Denied {
		t.Errorf("a client reports: %v", err)
	}
}
