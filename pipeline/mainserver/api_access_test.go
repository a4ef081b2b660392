package mainserver_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/api"
	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/internal/testing/testnode"
)

// TestRoutesAreForTheirRoles asks every route as every role.
func TestRoutesAreForTheirRoles(t *testing.T) {
	var node *testnode.Node
	s := newServer(t, withBrokerAndBackups(&node))
	s.must(node.Dial(client.Config{}).Bind(t.Context(), "q", "x", "k"))
	s.firstAdmin()
	root := s.logIn("anna@example.com", goodPassword)
	root.confirm()
	root.want(201, "POST", "/api/v1/users", `{"email":"bob@example.com","password":"chosen by anna","role":"admin"}`)
	newcomer := s.logIn("bob@example.com", "chosen by anna") // who must change the password before anything else
	described := callers(t)
	fp := strings.Repeat("0", 64)
	job := strings.Repeat("0", 20)
	enrolment := strings.Repeat("0", 16)
	parameters := strings.NewReplacer("backup_20000101_000000.zip", "{filename}", "enrolment/tokens/"+enrolment, "enrolment/tokens/{enrolment_id}", "retry-jobs/"+job, "retry-jobs/{job_id}", "/acme", "/{client_id}", "/messages/m", "/messages/{message_id}", fp, "{fingerprint}", "/4711/", "/{connection_id}/", "?name=q", "", "?name=x", "",
		"/sessions/7", "/sessions/{session_id}", "/users/7", "/users/{user_id}", "/tokens/7", "/tokens/{token_id}")
	const (
		everybody = "everybody"
		internal  = "proxy worker"
		worker    = "worker"
		admin     = "admin"
		reader    = "admin operator"
		viewer    = "admin operator user_manager user"
		owner     = "admin user_manager user"
		holder    = "client proxy worker server admin monitor"
		account   = "account"
		manager   = "admin user_manager"
	)
	for _, r := range []struct{ who, method, path string }{
		{everybody, "GET", "/health"}, {everybody, "GET", "/health/live"}, {everybody, "GET", "/api/v1/health"},
		{everybody, "GET", "/api/v1/ca.crt"}, {everybody, "GET", "/api/v1/crl"},
		{account, "GET", "/api/v1/me/activity"}, {account, "POST", "/api/v1/me/second-factor"}, {account, "POST", "/api/v1/me/second-factor/confirm"}, {account, "POST", "/api/v1/me/second-factor/remove"},
		{account, "GET", "/api/v1/me/tokens"}, {account, "POST", "/api/v1/me/tokens"}, {account, "DELETE", "/api/v1/me/tokens/7"},
		{everybody, "POST", "/api/v1/passwords/forgot"}, {everybody, "POST", "/api/v1/passwords/reset"},
		{manager, "GET", "/api/v1/users"}, {manager, "POST", "/api/v1/users"}, {manager, "GET", "/api/v1/users/7"}, {manager, "PATCH", "/api/v1/users/7"}, {admin, "DELETE", "/api/v1/users/7"},
		{manager, "POST", "/api/v1/users/7/password"}, {manager, "POST", "/api/v1/users/7/unlock"}, {manager, "POST", "/api/v1/users/7/sign-out"}, {manager, "POST", "/api/v1/users/7/second-factor/remove"},
		{everybody, "POST", "/api/v1/sessions"}, {everybody, "POST", "/api/v1/second-factor"}, {account, "GET", "/api/v1/sessions"}, {account, "DELETE", "/api/v1/sessions"}, {account, "DELETE", "/api/v1/sessions/7"},
		{account, "DELETE", "/api/v1/sessions/current"}, {account, "POST", "/api/v1/sessions/current/confirm"},
		{account, "GET", "/api/v1/me"}, {account, "GET", "/api/v1/state"}, {account, "POST", "/api/v1/me/password"}, {everybody, "POST", "/api/v1/setup"}, {everybody, "POST", "/api/v1/setup/check"}, {everybody, "POST", "/api/v1/passwords/reset/check"}, {admin, "POST", "/api/v1/setup/link"},
		{everybody, "GET", "/openapi.json"}, {everybody, "GET", "/docs"}, {everybody, "GET", "/redoc"},
		{internal, "POST", "/api/v1/internal/messages/register"},
		{worker, "POST", "/api/v1/internal/messages/deliver"}, {worker, "POST", "/api/v1/internal/messages/status"},
		{internal, "GET", "/api/v1/internal/clients/acme/messages/m"}, {internal, "GET", "/api/v1/internal/keys"}, {"proxy worker server", "GET", "/api/v1/internal/revocations"}, {"proxy worker server", "POST", "/api/v1/internal/refused"},
		{viewer, "GET", "/api/v1/messages"}, {viewer, "POST", "/api/v1/messages/search"},
		{reader, "GET", "/api/v1/messages/retry-jobs"}, {admin, "POST", "/api/v1/messages/retry-jobs"},
		{reader, "GET", "/api/v1/messages/retry-jobs/" + job}, {admin, "POST", "/api/v1/messages/retry-jobs/" + job + "/cancel"},
		{reader, "GET", "/api/v1/certificates"}, {admin, "POST", "/api/v1/certificates"}, {reader, "GET", "/api/v1/certificates/expiring"},
		{admin, "POST", "/api/v1/certificates/verify"}, {reader, "GET", "/api/v1/certificates/" + fp},
		{admin, "POST", "/api/v1/certificates/" + fp + "/renew"}, {admin, "POST", "/api/v1/certificates/" + fp + "/revoke"},
		{reader, "GET", "/api/v1/certificates/" + fp + "/revoke/preview"}, {reader, "GET", "/api/v1/clients/acme/revoke/preview"}, {reader, "GET", "/api/v1/revocations"},
		{everybody, "POST", "/api/v1/enrolment"}, {everybody, "POST", "/api/v1/enrolment/renew-expired"}, {holder, "POST", "/api/v1/enrolment/renew"}, {admin, "POST", "/api/v1/certificates/" + fp + "/renewal-consent"},
		{reader, "GET", "/api/v1/enrolment/tokens"}, {admin, "POST", "/api/v1/enrolment/tokens"}, {admin, "DELETE", "/api/v1/enrolment/tokens/" + enrolment},
		{reader, "GET", "/api/v1/clients"}, {reader, "GET", "/api/v1/clients/acme"}, {admin, "PATCH", "/api/v1/clients/acme"}, {admin, "POST", "/api/v1/clients/acme/revoke"},
		{viewer, "GET", "/api/v1/clients/acme/messages/m"}, {viewer, "GET", "/api/v1/clients/acme/messages/m/timeline"}, {owner, "GET", "/api/v1/clients/acme/messages/m/content"}, {admin, "POST", "/api/v1/clients/acme/messages/m/retry"},
		{viewer, "POST", "/api/v1/search"}, {reader, "GET", "/api/v1/statistics"},
		{reader, "GET", "/api/v1/overview"}, {reader, "GET", "/api/v1/overview/history"}, {reader, "GET", "/api/v1/overview/events?limit=1"},
		{reader, "GET", "/api/v1/audit"}, {reader, "GET", "/api/v1/audit/chain"}, {reader, "GET", "/api/v1/database"}, {admin, "GET", "/api/v1/log-level"}, {admin, "PUT", "/api/v1/log-level"}, {reader, "GET", "/api/v1/queue"}, {reader, "GET", "/api/v1/queue/dead"},
		{admin, "POST", "/api/v1/queue/dead/requeue"}, {admin, "POST", "/api/v1/retention/preview"}, {admin, "POST", "/api/v1/retention/run"},
		{admin, "GET", "/api/v1/backups"}, {admin, "POST", "/api/v1/backups"}, {admin, "GET", "/api/v1/backups/backup_20000101_000000.zip"},
		{reader, "GET", "/api/v1/broker/queues"}, {admin, "POST", "/api/v1/broker/queues"}, {reader, "GET", "/api/v1/broker/queue?name=q"}, {reader, "GET", "/api/v1/broker/queue/messages?name=q"},
		{admin, "POST", "/api/v1/broker/queue/options?name=q"}, {admin, "POST", "/api/v1/broker/queue/pause?name=q"}, {admin, "POST", "/api/v1/broker/queue/resume?name=q"}, {admin, "POST", "/api/v1/broker/queue/purge?name=q"}, {admin, "POST", "/api/v1/broker/queue/delete?name=q"},
		{admin, "POST", "/api/v1/broker/dead/return"}, {reader, "GET", "/api/v1/broker/exchanges"}, {reader, "GET", "/api/v1/broker/exchange?name=x"},
		{reader, "GET", "/api/v1/broker/keys"}, {reader, "GET", "/api/v1/broker/connections"}, {admin, "POST", "/api/v1/broker/connections/4711/disconnect"},
	} {
		path, _, _ := strings.Cut(r.path, "?")
		route := r.method + " " + parameters.Replace(path)
		if want, ok := described[route]; ok && want != r.who {
			t.Errorf("openapi.yaml says that %s is for %s, and not for %s", route, want, r.who)
		}
		delete(described, route)
		if route != "GET /api/v1/me" && route != "POST /api/v1/me/password" && route != "DELETE /api/v1/sessions/current" && r.who != everybody {
			if a := newcomer.ask(r.method, r.path, ""); a.StatusCode != http.StatusForbidden || a.str("code") != "password_change_required" {
				t.Errorf("%s with a password that must be changed: %d %s", route, a.StatusCode, a.body)
			}
		}
		for _, role := range []sealmq.Role{"", sealmq.RoleClient, sealmq.RoleProxy, sealmq.RoleWorker, sealmq.RoleServer, sealmq.RoleMonitor, sealmq.RoleAdmin} {
			body := ""
			if r.method != "GET" {
				body = "{}" // which is not enough for most: who may, gets 404 or 422
				if strings.HasSuffix(r.path, "/deliver") {
					body = `{"worker_id":"w","messages":[{}]}`
				}
			}
			a := s.ask(s.as(role), r.method, r.path, body)
			allowed := r.who == everybody || role != "" && strings.Contains(r.who, string(role))
			refused := a.StatusCode == http.StatusForbidden || a.StatusCode == http.StatusUnauthorized
			if refused == allowed || a.StatusCode >= 500 || role == "" && !allowed && a.StatusCode != http.StatusUnauthorized {
				t.Errorf("%s %s as %q: %d %s", r.method, r.path, role, a.StatusCode, a.body)
			}
			if refused && strings.HasPrefix(r.path, "/api/") && a.Header.Get("Content-Type") != "application/problem+json" {
				t.Errorf("%s %s as %q: %s", r.method, r.path, role, a.Header.Get("Content-Type"))
			}
		}
	}
	for route := range described {
		t.Errorf("%s is not asked", route)
	}
}

// TestRevokedAdministrator: a revocation acts on the next request of an open connection.
func TestRevokedAdministrator(t *testing.T) {
	s := newServer(t, nil)
	cert := s.issue("admin-2", sealmq.RoleAdmin)
	second := s.with(&cert)
	if a := s.ask(second, "GET", "/api/v1/clients", ""); a.StatusCode != 200 {
		t.Fatalf("%d %s", a.StatusCode, a.body)
	}
	a := s.want(200, "POST", "/api/v1/clients/admin-2/revoke", `{"reason":"keyCompromise"}`)
	if a.m["certificates"] != float64(1) || a.m["revocation_version"] == float64(0) {
		t.Errorf("%s", a.body)
	}
	if a := s.ask(second, "GET", "/api/v1/clients", ""); a.StatusCode != 403 || !strings.Contains(a.body, "revoked") {
		t.Errorf("after the revocation: %d %s", a.StatusCode, a.body)
	}
	if a := s.ask(s.with(&cert), "GET", "/api/v1/clients", ""); a.StatusCode != 403 {
		t.Errorf("on a new connection: %d", a.StatusCode)
	}
}

// callers are the roles that openapi.yaml names for each operation of the main server, or
// everybody.
func callers(t *testing.T) map[string]string {
	t.Helper()
	operations, err := api.Operations(api.TagMain)
	if err != nil {
		t.Fatal(err)
	}
	of := make(map[string]string)
	for pattern, o := range operations {
		of[pattern] = strings.Join(o.Callers, " ")
		if o.Public {
			of[pattern] = "everybody"
		}
	}
	return of
}

// TestDeniedRequestsAreOnRecord: who was not let in where, and no more of them than there is
// room for.
func TestDeniedRequestsAreOnRecord(t *testing.T) {
	s := newServer(t, nil)
	stolen := s.as(sealmq.RoleWorker)
	s.ask(s.as(sealmq.RoleClient), "GET", "/api/v1/messages", "")
	s.ask(s.as(""), "GET", "/admin/stats?search=secret", "")
	_, err := s.authority.Revoke(ca.Revocation{Name: "worker-test"})
	s.must(err)
	s.revoked.Refresh()
	s.ask(stolen, "GET", "/internal/revocations", "")
	list := s.want(200, "GET", "/api/v1/audit?event_type=auth_denied", "")
	var got []string
	for _, e := range list.items() {
		details, _ := e["details"].(map[string]any)
		got = append(got, fmt.Sprintf("%v %v: %v", e["client_id"], details["endpoint"], details["reason"]))
	}
	want := []string{
		"worker-test /internal/revocations: Client certificate has been revoked",
		"<nil> /admin/stats: Invalid or missing client certificate",
		"client-test /api/v1/messages: The role of this identity may not do this",
	}
	if !slices.Equal(got, want) || strings.Contains(list.body, "secret") {
		t.Errorf("%q\n%s", got, list.body)
	}
	for range 80 {
		s.ask(s.as(""), "GET", "/admin/stats", "")
	}
	list = s.want(200, "GET", "/api/v1/audit?event_type=auth_denied&limit=500", "")
	if n := len(list.items()); n != 60 {
		t.Errorf("%d records", n)
	}
	s.audit.mu.Lock()
	defer s.audit.mu.Unlock()
	denied := 0
	for _, r := range s.audit.list {
		if r.Command == "auth_denied" {
			denied++
		}
	}
	if denied != 60 {
		t.Errorf("%d records in the file", denied)
	}
}
