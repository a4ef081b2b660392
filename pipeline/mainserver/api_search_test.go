package mainserver_test

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/api/mainapi"
	"github.com/sealmq/sealmq/audit/auditfile"
	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/internal/testing/testnode"
	"github.com/sealmq/sealmq/pipeline/accounts"
	"github.com/sealmq/sealmq/pipeline/mainserver"
)

// found is what a search gives, in short: what matches as a whole, and what of each kind.
func (s *server) found(q string) string {
	s.Helper()
	f := decode[mainapi.Found](s, s.want(200, "POST", "/api/v1/search", toJSON(map[string]string{"q": q})))
	out := []string{fmt.Sprintf("%d:", len(f.Exact))}
	for _, m := range f.Messages {
		out = append(out, m.ClientID+"/"+m.MessageID)
	}
	for _, c := range f.Clients {
		out = append(out, c.ClientID)
	}
	for _, c := range f.Certificates {
		out = append(out, "certificate of "+c.ClientID)
	}
	out = append(out, f.Queues...)
	for _, m := range f.More {
		out = append(out, "more "+string(m))
	}
	return strings.Join(out, " ")
}

func TestSearch(t *testing.T) {
	s := newServer(t, nil)
	s.register("acme-01", "order-1", "order-2")
	s.register("acme-02", "order-2")
	s.register("acme-011", "ace-of-base")
	c := s.want(201, "POST", "/api/v1/certificates", `{"client_id":"acme-02"}`)
	serial, fingerprint := c.str("serial"), c.str("fingerprint")
	for q, want := range map[string]string{
		"order-1":                                "1: acme-01/order-1",
		" order-1 ":                              "1: acme-01/order-1",
		"order-2":                                "2: acme-02/order-2 acme-01/order-2",
		"ace-":                                   "0: acme-011/ace-of-base",
		"acme-01":                                "1: acme-01 acme-011",
		"acme-02":                                "1: acme-02",
		"acme":                                   "0: acme-01 acme-011 acme-02",
		serial:                                   "1: certificate of acme-02",
		fingerprint:                              "1: certificate of acme-02",
		"SHA256:" + strings.ToUpper(fingerprint): "1: certificate of acme-02",
		serial[:12]:                              "0: certificate of acme-02",
		strings.ToUpper(serial[:2] + ":" + serial[2:8]): "0: certificate of acme-02",
		"+49 1520-0000000":                    "4: acme-011/ace-of-base acme-02/order-2 acme-01/order-2 acme-01/order-1",
		strings.TrimPrefix(secretNumber, "+"): "4: acme-011/ace-of-base acme-02/order-2 acme-01/order-2 acme-01/order-1",
		"+4915200000001":                      "0:",
		"nothing like it":                     "0:",
		"<script>alert(1)</script>":           "0:",
		"مرحبا 👩‍🔬":                           "0:",
		strings.Repeat("x", 256):              "0:",
	} {
		if got := s.found(q); got != want {
			t.Errorf("%q: %s, want %s", q, got, want)
		}
	}
	byNumber := decode[mainapi.Found](s, s.want(200, "POST", "/api/v1/search", toJSON(map[string]string{"q": secretNumber})))
	if list := s.want(200, "GET", "/api/v1/messages?number_token="+url.QueryEscape(byNumber.NumberToken), ""); len(list.items()) != 4 || byNumber.NumberToken == "" {
		t.Errorf("%s", list.body)
	}
	for _, bad := range []string{`{"q":""}`, `{"q":"  "}`, `{"q":7}`, `{}`, `{"q":"` + strings.Repeat("x", 257) + `"}`} {
		s.want(422, "POST", "/api/v1/search", bad)
	}
	if strings.Contains(s.log.String(), secretNumber[1:]) {
		t.Error("the log has the number")
	}
}

// TestSearchIsBounded gives ten of a kind, and says that there are more.
func TestSearchIsBounded(t *testing.T) {
	s := newServer(t, nil)
	for i := range 12 {
		s.register(fmt.Sprintf("many-%02d", i), fmt.Sprintf("message-%02d", i))
	}
	if got := s.found("many-"); strings.Count(got, "many-") != 10 || !strings.Contains(got, "more clients") {
		t.Error(got)
	}
	if got := s.found("message-"); strings.Count(got, "message-") != 10 || !strings.Contains(got, "more messages") {
		t.Error(got)
	}
	if got := s.found("message-07"); got != "1: many-07/message-07" {
		t.Error(got)
	}
	if got := s.found(secretNumber); strings.Count(got, "message-") != 10 || !strings.Contains(got, "more messages") {
		t.Error(got)
	}
}

func TestSearchForQueues(t *testing.T) {
	var node *testnode.Node
	s := newServer(t, withBroker(&node))
	c := node.Dial(client.Config{})
	for _, queue := range []string{"results", "results.eu", "my-results", "acme-01"} {
		s.must(c.Bind(t.Context(), queue, "x", queue))
	}
	s.register("acme-01", "m-1")
	for q, want := range map[string]string{"results": "1: results results.eu", "resul": "0: results results.eu", "acme-01": "2: acme-01 acme-01"} {
		if got := s.found(q); got != want {
			t.Errorf("%q: %s, want %s", q, got, want)
		}
	}
}

// TestSearchShowsWhatTheCallerMaySee: a user finds messages of its own client, and nothing else.
func TestSearchShowsWhatTheCallerMaySee(t *testing.T) {
	s := newServer(t, nil)
	s.register("acme-01", "order-1")
	s.register("acme-02", "order-1", "order-2")
	serial := s.want(201, "POST", "/api/v1/certificates", `{"client_id":"acme-02"}`).str("serial")
	s.firstAdmin()
	for _, tc := range []struct {
		who          *person
		q            string
		found        int
		certificates bool
	}{
		{s.account(accounts.Operator, ""), "order-", 3, true},
		{s.account(accounts.Plain, "acme-02"), "order-", 2, false},
		{s.account(accounts.UserManager, "acme-02"), secretNumber, 2, false},
		{s.account(accounts.Plain, ""), "order-", 0, false},
	} {
		f := decode[mainapi.Found](s, tc.who.want(200, "POST", "/api/v1/search", toJSON(map[string]string{"q": tc.q})))
		if len(f.Messages) != tc.found {
			t.Errorf("%s: %+v", tc.q, f.Messages)
		}
		f = decode[mainapi.Found](s, tc.who.want(200, "POST", "/api/v1/search", toJSON(map[string]string{"q": serial})))
		if (len(f.Certificates) == 1) != tc.certificates {
			t.Errorf("%+v", f.Certificates)
		}
		f = decode[mainapi.Found](s, tc.who.want(200, "POST", "/api/v1/search", `{"q":"acme"}`))
		if (len(f.Clients) > 0) != tc.certificates {
			t.Errorf("%+v", f.Clients)
		}
	}
}

// account is somebody with another account than the first administrator's.
func (s *server) account(role sealmq.Role, client string) *person {
	s.Helper()
	u, err := s.store.UserByEmail(s.Context(), "anna@example.com")
	s.must(err)
	s.accounts++
	u.Email, u.Role, u.ClientID = fmt.Sprintf("%s-%d@example.com", role, s.accounts), role, client
	_, err = s.store.AddUser(s.Context(), u)
	s.must(err)
	return s.logIn(u.Email, goodPassword)
}

// TestAuditChain: the audit file is read once for all who ask, and an error is kept for a while too.
func TestAuditChain(t *testing.T) {
	reads := make(chan error)
	s := newServer(t, func(_ *server, cfg *mainserver.HandlerConfig) {
		cfg.AuditChain = func() (auditfile.Chain, error) { return auditfile.Chain{Records: 7}, <-reads }
	})
	go func() { reads <- errors.New("no such file") }()
	s.want(503, "GET", "/api/v1/audit/chain", "")
	s.want(503, "GET", "/api/v1/audit/chain", "") // it would wait for ever if it read again
}
