package records_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/pipeline"
	"github.com/sealmq/sealmq/pipeline/records"
)

func TestClients(t *testing.T) {
	onBoth(t, func(t *testing.T, e *env) {
		r, err := e.s.Register(ctx(t), messages(0, 1))
		want(t, r, err, pipeline.StatusRegistered)
		c, err := e.s.Client(ctx(t), "acme-01")
		if err != nil || c.Status != records.Active || c.Domain != "default" || c.Fingerprint != "" || !c.ExpiresAt.Equal(t0.AddDate(1, 0, 0)) {
			t.Errorf("a client that registered itself: %+v, %v", c, err)
		}
		seen, err := e.s.Audit(ctx(t), records.AuditFilter{Type: "client_auto_registered", Limit: 2})
		if err != nil || len(seen) != 1 || seen[0].Client != "acme-01" {
			t.Errorf("the audit has %+v, %v", seen, err)
		}
		long := strings.Repeat("x", 255)
		fp := strings.Repeat("ab", 32)
		for _, put := range []records.Client{{Name: "beta", Fingerprint: fp, Domain: "d2", IssuedAt: t0, ExpiresAt: t0}, {Name: long, IssuedAt: t0, ExpiresAt: t0}, {Name: "Beta", IssuedAt: t0, ExpiresAt: t0}} {
			for range 2 {
				if err := e.s.PutClient(ctx(t), put); err != nil {
					t.Fatal(err)
				}
			}
		}
		for name, put := range map[string]records.Client{
			"certificate of another": {Name: "gamma", Fingerprint: fp, IssuedAt: t0, ExpiresAt: t0},
			"blank":                  {Name: "gamma ", IssuedAt: t0, ExpiresAt: t0},
			"without a reason":       {Name: "gamma", Status: records.Revoked, IssuedAt: t0, ExpiresAt: t0},
			"fingerprint":            {Name: "gamma", Fingerprint: "xyz", IssuedAt: t0, ExpiresAt: t0},
			"without times":          {Name: "gamma"},
			"status":                 {Name: "gamma", Status: "gone", IssuedAt: t0, ExpiresAt: t0},
		} {
			if err := e.s.PutClient(ctx(t), put); sealmq.CodeOf(err) != sealmq.BadArgument {
				t.Errorf("%s: %v", name, err)
			}
		}
		list, err := e.s.Clients(ctx(t), records.ClientFilter{Limit: 2})
		if err != nil || len(list) != 2 || list[0].Name != "Beta" || list[1].Name != "acme-01" {
			t.Errorf("%+v, %v", list, err)
		}
		list, err = e.s.Clients(ctx(t), records.ClientFilter{After: "acme-01", Prefix: "b", Domain: "d2", State: records.Active, At: t0})
		if err != nil || len(list) != 1 || list[0].Name != "beta" || list[0].Fingerprint != fp {
			t.Errorf("%+v, %v", list, err)
		}
		counts, err := e.s.CountClients(ctx(t), t0)
		if err != nil || counts[records.Active] != 4 {
			t.Errorf("%v, %v", counts, err)
		}
	})
}

// TestStatesOfClients: the filter and the counts agree with what is shown.
func TestStatesOfClients(t *testing.T) {
	onBoth(t, func(t *testing.T, e *env) {
		fp := func(c string) string { return strings.Repeat(c, 64) }
		later := t0.Add(time.Hour)
		want := map[records.ClientStatus][]string{records.Active: {"good", "unbound"}, records.Expired: {"expired", "old", "written"}, records.Revoked: {"all-certificates", "name"}}
		for _, c := range []records.Client{
			{Name: "good", Fingerprint: fp("a"), ExpiresAt: later.Add(time.Hour)},
			{Name: "unbound", ExpiresAt: t0},
			{Name: "expired", Fingerprint: fp("b"), ExpiresAt: t0},
			{Name: "old", Fingerprint: fp("c"), ExpiresAt: later.Add(-time.Second)},
			{Name: "written", Status: records.Expired, ExpiresAt: later.Add(time.Hour)},
			{Name: "all-certificates", Fingerprint: fp("d"), ExpiresAt: later.Add(time.Hour)},
			{Name: "name", Fingerprint: fp("e"), Status: records.Revoked, Reason: "lost", ExpiresAt: later.Add(time.Hour)},
		} {
			c.IssuedAt = t0
			if err := e.s.PutClient(ctx(t), c); err != nil {
				t.Fatal(err)
			}
		}
		for _, name := range []string{"all-certificates", "name"} { // the second stays as it is
			c := records.Client{Name: name, Fingerprint: fp("f"), IssuedAt: t0, ExpiresAt: later.Add(time.Hour), RevokedAt: t0, Reason: "stolen"}
			if err := e.s.PutClientCertificate(ctx(t), c); err != nil {
				t.Fatal(err)
			}
		}
		if c, err := e.s.Client(ctx(t), "name"); err != nil || c.Fingerprint != fp("e") || c.Reason != "lost" {
			t.Errorf("a revoked client: %+v, %v", c, err)
		}
		counts, err := e.s.CountClients(ctx(t), later)
		if err != nil || len(counts) != len(want) {
			t.Errorf("%v, %v", counts, err)
		}
		for state, names := range want {
			list, err := e.s.Clients(ctx(t), records.ClientFilter{State: state, At: later})
			var got []string
			for i := range list {
				got = append(got, list[i].Name)
				if shown := list[i].StateAt(later); shown != state {
					t.Errorf("%s is shown as %s among those that are %s", list[i].Name, shown, state)
				}
			}
			if err != nil || !slices.Equal(got, names) || counts[state] != int64(len(names)) {
				t.Errorf("%s: %v, %d in all, %v", state, got, counts[state], err)
			}
		}
	})
}

func TestMessagesOfClients(t *testing.T) {
	onBoth(t, func(t *testing.T, e *env) {
		r, err := e.s.Register(ctx(t), messages(0, 2))
		want(t, r, err, pipeline.StatusRegistered, pipeline.StatusRegistered)
		for since, n := range map[time.Duration]int64{-24 * time.Hour: 2, 0: 2, 2 * time.Hour: 0} {
			counts, err := e.s.MessagesOf(ctx(t), []string{"acme-01", "nobody"}, e.clock.Now().Add(since))
			if err != nil || counts["acme-01"] != n || len(counts) > 1 {
				t.Errorf("since %v: %v, %v", since, counts, err)
			}
		}
		if counts, err := e.s.MessagesOf(ctx(t), nil, time.Time{}); err != nil || len(counts) != 0 {
			t.Errorf("%v, %v", counts, err)
		}
		if _, err := e.s.MessagesOf(ctx(t), make([]string, records.MaxLimit+1), time.Time{}); sealmq.CodeOf(err) != sealmq.BadArgument {
			t.Errorf("too many: %v", err)
		}
	})
}

func TestRevokedAndUnknownClients(t *testing.T) {
	onBoth(t, func(t *testing.T, e *env) {
		r, err := e.s.Register(ctx(t), messages(0, 1))
		want(t, r, err, pipeline.StatusRegistered)
		e.clock.Advance(time.Hour)
		if err := e.s.RevokeClient(ctx(t), "acme-01", "key lost"); err != nil {
			t.Fatal(err)
		}
		if err := e.s.RevokeClient(ctx(t), "acme-01", "again"); err != nil {
			t.Fatal(err)
		}
		c, err := e.s.Client(ctx(t), "acme-01")
		if err != nil || c.Status != records.Revoked || c.Reason != "key lost" || !c.RevokedAt.Equal(e.clock.Now()) {
			t.Errorf("%+v, %v", c, err)
		}
		if err := e.s.RevokeClient(ctx(t), "nobody", "x"); !errors.Is(err, records.ErrNotFound) {
			t.Errorf("nobody: %v", err)
		}
		// What it sent before is still delivered; new rows are refused.
		r, err = e.s.Register(ctx(t), messages(0, 2))
		want(t, r, err, pipeline.StatusDuplicate, pipeline.StatusRefused)
		r, err = e.s.Deliver(ctx(t), deliveries(messages(0, 2)))
		want(t, r, err, pipeline.StatusDelivered, pipeline.StatusRefused)
	})
}

// TestMessagesAreAudited: if that is asked for, each registration and delivery is an event,
// once.
func TestMessagesAreAudited(t *testing.T) {
	onBoth(t, func(t *testing.T, e *env) {
		audited := e.open(func(c *records.Config) { c.AuditMessages = true })
		for range 2 {
			_, err := audited.Register(ctx(t), messages(0, 2))
			if err == nil {
				_, err = audited.Deliver(ctx(t), deliveries(messages(0, 1)))
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		count := func() (n int) {
			list, err := audited.Audit(ctx(t), records.AuditFilter{Client: "acme-01"})
			if err != nil {
				t.Fatal(err)
			}
			for _, event := range list {
				if strings.HasPrefix(event.Type, "message_") && strings.Contains(string(event.Data), message(0).ID[:4]) {
					n++
				}
			}
			return n
		}
		if n := count(); n != 3 {
			t.Errorf("%d events", n)
		}
		if _, err := e.s.Register(ctx(t), messages(2, 1)); err != nil {
			t.Fatal(err)
		}
		if n := count(); n != 3 {
			t.Errorf("%d events, although nobody asked for them", n)
		}
	})
}

func TestCertificates(t *testing.T) {
	onBoth(t, func(t *testing.T, e *env) {
		r, err := e.s.Register(ctx(t), messages(0, 1))
		want(t, r, err, pipeline.StatusRegistered)
		seen := records.Certificate{Client: "acme-01", Serial: "0a1b", Fingerprint: strings.Repeat("12", 32), Subject: "CN=acme-01,O='x'", Role: "client", Source: "seen", NotBefore: t0, NotAfter: t0.AddDate(0, 0, 90)}
		for _, wanted := range []bool{true, false} {
			if added, err := e.s.AddCertificate(ctx(t), seen); err != nil || added != wanted {
				t.Errorf("added %v, %v", added, err)
			}
		}
		c, err := e.s.Client(ctx(t), "acme-01")
		if err != nil || c.Fingerprint != seen.Fingerprint || !c.ExpiresAt.Equal(seen.NotAfter) {
			t.Errorf("%+v, %v", c, err)
		}
		second := seen
		second.Fingerprint, second.Source = strings.Repeat("34", 32), "api"
		if added, err := e.s.AddCertificate(ctx(t), second); err != nil || !added {
			t.Errorf("added %v, %v", added, err)
		}
		if err := e.s.RevokeCertificate(ctx(t), second.Fingerprint, "lost"); err != nil {
			t.Fatal(err)
		}
		if err := e.s.RevokeCertificate(ctx(t), strings.Repeat("56", 32), "lost"); !errors.Is(err, records.ErrNotFound) {
			t.Errorf("unknown: %v", err)
		}
		list, err := e.s.Certificates(ctx(t), "acme-01", 0, 1)
		if err != nil || len(list) != 1 || list[0].Status != "revoked" || list[0].Reason != "lost" || !list[0].RevokedAt.Equal(t0) {
			t.Fatalf("%+v, %v", list, err)
		}
		list, err = e.s.Certificates(ctx(t), "", list[0].RowID, 10)
		if err != nil || len(list) != 1 || list[0].Serial != "0a1b" || list[0].Subject != seen.Subject {
			t.Errorf("%+v, %v", list, err)
		}
		for i, role := range []sealmq.Role{sealmq.RoleProxy, sealmq.RoleWorker, sealmq.RoleServer, sealmq.RoleAdmin, sealmq.RoleMonitor} {
			of := seen
			of.Fingerprint, of.Role = fmt.Sprintf("%064x", i), string(role)
			if added, err := e.s.AddCertificate(ctx(t), of); err != nil || !added {
				t.Errorf("role %s: added %v, %v", role, added, err)
			}
		}
		bad := seen
		bad.Fingerprint, bad.Role = strings.Repeat("78", 32), "king"
		if _, err := e.s.AddCertificate(ctx(t), bad); sealmq.CodeOf(err) != sealmq.BadArgument {
			t.Errorf("an unknown role: %v", err)
		}
	})
}

func TestAudit(t *testing.T) {
	onBoth(t, func(t *testing.T, e *env) {
		events := []records.AuditEvent{
			{Type: "user_login", User: 7, IP: "::1", At: t0},
			{Type: "user_login_failed", Client: "acme-01", Severity: records.Warning, Data: json.RawMessage(`{"a":"'; DROP TABLE x"}`), At: t0.Add(time.Hour)},
		}
		if err := e.s.AddAudit(ctx(t), events); err != nil {
			t.Fatal(err)
		}
		list, err := e.s.Audit(ctx(t), records.AuditFilter{})
		if err != nil || len(list) != 2 || list[0].Client != "acme-01" || string(list[0].Data) != string(events[1].Data) || list[1].User != 7 || !list[1].At.Equal(t0) || list[1].IP != "::1" {
			t.Fatalf("%+v, %v", list, err)
		}
		for _, f := range []records.AuditFilter{{Type: "user_login"}, {Except: "user_login_failed"}, {User: 7}, {Severity: records.Info}, {To: t0.Add(time.Minute)}, {Before: list[0].ID}, {Limit: 1, Before: list[0].ID}} {
			if got, err := e.s.Audit(ctx(t), f); err != nil || len(got) != 1 || got[0].ID != list[1].ID {
				t.Errorf("%+v: %+v, %v", f, got, err)
			}
		}
		// All or none.
		err = e.s.AddAudit(ctx(t), []records.AuditEvent{{Type: "x"}, {Type: "y", Severity: "INFO"}})
		if sealmq.CodeOf(err) != sealmq.BadArgument {
			t.Errorf("%v", err)
		}
		if got, err := e.s.Audit(ctx(t), records.AuditFilter{}); err != nil || len(got) != 2 {
			t.Errorf("%d events, %v", len(got), err)
		}
	})
}
