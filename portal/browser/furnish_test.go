package browser

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/api/mainapi"
	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/mtls"
	"github.com/sealmq/sealmq/pipeline"
)

// The account of the client acme-01 that a furnished site has.
const (
	userEmail    = "bob@example.com"
	userPassword = "staple horse correct"
)

// submitAs submits a message over HTTPS with a client's certificate, and returns its id.
func (s *site) submitAs(client, sender, text string) string {
	s.t.Helper()
	p := ca.In(s.Data)
	c, err := httpsClient(mtls.Files{Cert: p.Cert(client), Key: p.Key(client), CA: p.CA})
	if err != nil {
		s.t.Fatal(err)
	}
	defer c.CloseIdleConnections()
	body, _ := json.Marshal(map[string]string{"sender_number": sender, "message_body": text})
	key := rand.Text()
	for deadline := time.Now().Add(time.Minute); ; <-time.After(100 * time.Millisecond) { // a disk or a machine that is slow for a second is a 503
		r, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, "https://"+s.ProxyAddr+"/submit", bytes.NewReader(body))
		if err != nil {
			s.t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/json")
		r.Header.Set("Idempotency-Key", key)
		answer, err := c.Do(r)
		if err != nil {
			s.t.Fatal(err)
		}
		var accepted struct {
			MessageID string `json:"message_id"`
		}
		err = json.NewDecoder(answer.Body).Decode(&accepted)
		answer.Body.Close()
		if err == nil && answer.StatusCode == http.StatusAccepted {
			return accepted.MessageID
		}
		if answer.StatusCode != http.StatusServiceUnavailable || time.Now().After(deadline) {
			s.t.Fatalf("submit: %s %v", answer.Status, err)
		}
	}
}

// tryAs submits with a certificate that is refused, and waits until the overview knows.
func (s *site) tryAs(client string) {
	s.t.Helper()
	p := ca.In(s.Data)
	c, err := httpsClient(mtls.Files{Cert: p.Cert(client), Key: p.Key(client), CA: p.CA})
	if err != nil {
		s.t.Fatal(err)
	}
	defer c.CloseIdleConnections()
	r, alert := c.Post("https://"+s.ProxyAddr+"/submit", "application/json", nil)
	if alert == nil {
		r.Body.Close()
		if r.StatusCode != http.StatusForbidden {
			s.t.Fatalf("%s is not refused: %s", client, r.Status)
		}
	}
	for end := time.Now().Add(stepTimeout); ; <-time.After(100 * time.Millisecond) {
		o, err := s.API.GetOverviewWithResponse(s.t.Context())
		if err != nil || o.JSON200 == nil {
			s.t.Fatalf("overview: %v", err)
		}
		if slices.ContainsFunc(o.JSON200.Refusals, func(e mainapi.AuditEntry) bool { return e.ClientID == client }) {
			return
		}
		if time.Now().After(end) {
			s.t.Fatalf("the overview does not say that %s was refused; its call ended with %v", client, alert)
		}
	}
}

// settled waits until n messages are in a state.
func (s *site) settled(state pipeline.State, n int64) {
	s.t.Helper()
	for end := time.Now().Add(stepTimeout); ; {
		r, err := s.API.SearchMessagesWithResponse(s.t.Context(), mainapi.MessageSearch{Status: mainapi.State(state), Limit: 1})
		if err != nil || r.JSON200 == nil {
			s.t.Fatalf("search: %v %s", err, r.Body)
		}
		if r.JSON200.Total.Count == n {
			return
		}
		if time.Now().After(end) {
			s.t.Fatalf("%d messages are %s, want %d", r.JSON200.Total.Count, state, n)
		}
	}
}

// backUp makes a backup.
func (s *site) backUp() {
	s.t.Helper()
	r, err := s.API.StartBackupWithResponse(s.t.Context())
	if err != nil || r.JSON202 == nil {
		s.t.Fatalf("no backup: %v %s", err, r.Body)
	}
	for end := time.Now().Add(stepTimeout); ; {
		list, err := s.API.ListBackupsWithResponse(s.t.Context())
		if err != nil || list.JSON200 == nil {
			s.t.Fatalf("backups: %v %s", err, list.Body)
		}
		if list.JSON200.Items[0].State == mainapi.BackupStateComplete {
			return
		}
		if time.Now().After(end) {
			s.t.Fatalf("the backup does not end: %s", list.Body)
		}
	}
}

// brokerConnection is a connection to the broker, which is seen at the next look at it.
func (s *site) brokerConnection() mainapi.BrokerConnection {
	s.t.Helper()
	for end := time.Now().Add(stepTimeout); ; {
		r, err := s.API.ListBrokerConnectionsWithResponse(s.t.Context(), &mainapi.ListBrokerConnectionsParams{Limit: 1})
		if err != nil || r.JSON200 == nil {
			s.t.Fatalf("no connections: %v", err)
		}
		if len(r.JSON200.Items) > 0 {
			return r.JSON200.Items[0]
		}
		if time.Now().After(end) {
			s.t.Fatal("nobody is connected")
		}
	}
}

// furnish fills a site whose administrator is set up, so that each page has something to show:
// messages in each state, queues with dead letters, clients, certificates, accounts, a retry.
// It returns addresses for the pages whose paths do not say what they are about.
func (s *site) furnish() map[string]string {
	s.t.Helper()
	for _, args := range [][]string{{"acme-01"}, {"clinic-7"}, {"lab-03", "--days", "6"}, {"stolen"}} {
		s.run(append([]string{"cert", "issue"}, args...)...)
	}
	s.run("cert", "token", "laptop-3", "--server", "https://"+s.MainAddr)
	s.run("cert", "revoke", "stolen", "--reason", "keyCompromise", "--force")
	const delivered, failed = 12, 3
	for i := range delivered {
		s.submitAs([]string{"acme-01", "clinic-7", "lab-03"}[i%3], fmt.Sprintf("+4915200000%03d", i%4), "Your results are ready.")
	}
	s.settled(pipeline.Delivered, delivered)

	// The queue is paused, so that what is submitted now stays as it is told to be.
	ctx, broker := s.t.Context(), s.connect()
	if err := broker.PauseQueue(ctx, pipeline.QueueName); err != nil {
		s.t.Fatal(err)
	}
	updates := mainapi.StatusRequest{}
	for i := range failed {
		id := s.submitAs("clinic-7", fmt.Sprintf("+4420700000%02d", i), "Please call back.")
		updates.Updates = append(updates.Updates, mainapi.Update{MessageID: id, ClientID: "clinic-7", State: pipeline.Failed, Attempts: 10, Error: "main server answered 503", Worker: "worker-1"})
	}
	s.settled(pipeline.Queued, failed)
	told, err := s.apiAs("worker").UpdateMessagesWithResponse(ctx, updates)
	if err != nil || told.JSON200 == nil {
		s.t.Fatalf("no message failed: %v %s", err, told.Body)
	}
	s.settled(pipeline.Failed, failed)
	if _, err := broker.PurgeQueue(ctx, pipeline.QueueName); err != nil {
		s.t.Fatal(err)
	}
	waiting := s.submitAs("acme-01", "+4915200000001", "Your results are ready.")
	job, err := s.API.StartRetryJobWithResponse(ctx, mainapi.RetryJobRequest{ClientID: "clinic-7"})
	if err != nil || job.JSON202 == nil {
		s.t.Fatalf("no retry: %v %s", err, job.Body)
	}

	s.backUp()
	s.put(broker, "results", "r-1", "r-2", "r-3", "r-4")
	s.kill("results", "signature is not valid", 4)
	s.put(broker, "results", "r-5", "r-6")
	s.put(broker, "orders/eu", "o-1", "o-2")
	if _, err := s.connect().Consume(ctx, "orders/eu", 1); err != nil {
		s.t.Fatal(err)
	}

	bob, err := s.API.CreateUserWithResponse(ctx, mainapi.UserCreate{Email: userEmail, Name: "Bob", Role: "user", ClientID: "acme-01", Password: userPassword, KeepPassword: true})
	if err != nil || bob.JSON201 == nil {
		s.t.Fatalf("no user: %v %s", err, bob.Body)
	}
	certificates, err := s.API.ListCertificatesWithResponse(ctx, &mainapi.ListCertificatesParams{ClientID: "lab-03", Role: sealmq.RoleClient, Status: mainapi.CertificateStatusActive, Limit: 1})
	if err != nil || certificates.JSON200 == nil || len(certificates.JSON200.Items) == 0 {
		s.t.Fatalf("no certificate: %v", err)
	}
	connection := s.brokerConnection()
	of := func(pairs ...string) string {
		q := url.Values{}
		for i := 0; i+1 < len(pairs); i += 2 {
			q.Set(pairs[i], pairs[i+1])
		}
		return "?" + q.Encode()
	}
	certificate := "/admin/certificates/" + certificates.JSON200.Items[0].Fingerprint
	account := fmt.Sprintf("/admin/users/%d", bob.JSON201.ID)
	return map[string]string{
		"/search":                                  "/search" + of("q", "results"),
		"/messages/retry":                          "/messages/retry" + of("status", "failed"),
		"/messages/{client}/{id}":                  "/messages/acme-01/" + waiting,
		"/messages/{client}/{id}/text":             "/messages/acme-01/" + waiting + "/text",
		"/admin/retries/{job}":                     "/admin/retries/" + job.JSON202.ID,
		"/admin/certificates/{fingerprint}":        certificate,
		"/admin/certificates/{fingerprint}/renew":  certificate + "/renew",
		"/admin/certificates/{fingerprint}/revoke": certificate + "/revoke",
		"/admin/clients/{client}":                  "/admin/clients/acme-01",
		"/admin/connections/{id}/disconnect":       fmt.Sprintf("/admin/connections/%d/disconnect%s", connection.ID, of("client", connection.Client)),
		"/admin/exchanges/show":                    "/admin/exchanges/show" + of("name", "clinic"),
		"/admin/queues/show":                       "/admin/queues/show" + of("name", "results", "messages", "1"),
		"/admin/queues/options":                    "/admin/queues/options" + of("name", "results"),
		"/admin/queues/purge":                      "/admin/queues/purge" + of("name", "results"),
		"/admin/queues/delete":                     "/admin/queues/delete" + of("name", "results"),
		"/admin/users/{id}":                        account,
		"/admin/users/{id}/password":               account + "/password",
		"/admin/users/{id}/second-factor":          account + "/second-factor",
		"/admin/users/{id}/delete":                 account + "/delete",
	}
}
