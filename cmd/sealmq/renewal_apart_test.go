package main

import (
	"encoding/json"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq/internal/brokerproc"
	"github.com/sealmq/sealmq/internal/testing/pipelineproc"
	"github.com/sealmq/sealmq/internal/testing/program"
	"github.com/sealmq/sealmq/mtls"
)

// TestRolesRenewTheirCertificates: a proxy and a worker that were enrolled on hosts of their own
// renew their certificates and go on delivering beyond the end of the first ones. Without a main
// server they say that they cannot renew.
func TestRolesRenewTheirCertificates(t *testing.T) {
	if testing.Short() {
		t.Skip("it starts processes, and waits until certificates expire")
	}
	t.Parallel() // it mostly waits
	w := newRolesWorld(t, pipelineproc.Config{})
	w.start(pipelineproc.Broker)
	w.start(pipelineproc.Main)
	const life = "14s"
	apart := []string{pipelineproc.Proxy, pipelineproc.Worker, pipelineproc.Portal}
	certificate := map[string]string{pipelineproc.Proxy: "proxy", pipelineproc.Worker: "worker", pipelineproc.Portal: "server"}
	hosts := make(map[string]string)
	ends := make(map[string]time.Time)
	leaf := func(role string) (serial string, end time.Time) {
		certs, err := mtls.ReadCertificates(filepath.Join(hosts[role], "certs", certificate[role]+".crt"))
		if err != nil {
			t.Fatal(err)
		}
		return mtls.Serial(certs[0]), certs[0].NotAfter
	}
	procs := make(map[string]*brokerproc.Process)
	serials := make(map[string]string)
	for _, role := range apart {
		hosts[role] = filepath.Join(w.dir, "host-"+role)
		made := w.run("cert", "token", role+"-apart", "--role", certificate[role], "--host", "localhost", "--lifetime", life, "--main-url", w.URL(pipelineproc.Main))
		w.run("cert", "enroll", "--token", strings.TrimSpace(made[strings.LastIndex(made, "smqe_"):]), "--data", hosts[role])
		proc, err := brokerproc.Start(t.Context(), brokerproc.Config{Exe: program.Path(t), Data: hosts[role], Roles: []string{role}, Env: w.Env(), Log: w.logs[role]})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(proc.Kill)
		procs[role] = proc
		serials[role], ends[role] = leaf(role)
	}
	client := w.client("acme-01")
	delivers := func() bool {
		a, err := client.Post(w.URL(pipelineproc.Proxy)+"/submit", "application/json", strings.NewReader(`{"sender_number":"+4915200000000","message_body":"hello"}`))
		if err != nil {
			return false
		}
		defer a.Body.Close()
		var accepted struct {
			ID string `json:"message_id"`
		}
		if err := json.NewDecoder(a.Body).Decode(&accepted); err != nil || a.StatusCode != http.StatusAccepted {
			return false
		}
		w.until("the message is delivered", func() bool {
			_, body := get(t, client, w.URL(pipelineproc.Proxy)+"/api/v1/messages/"+accepted.ID)
			return strings.Contains(body, `"delivered"`)
		})
		return true
	}
	w.until("a first message is taken", delivers)
	allowed := make(map[string]string)
	for _, role := range apart {
		w.until("the first certificate of the "+role+" has expired, and another is in use", func() bool {
			serial, end := leaf(role)
			if time.Now().After(end) && allowed[role] != serial { // the machine was too busy
				allowed[role] = serial
				_, _ = w.try("cert", "allow-renewal", role+"-apart", "--main-url", w.URL(pipelineproc.Main))
			}
			return serial != serials[role] && time.Now().After(ends[role])
		})
	}
	w.until("a message is taken after the renewals", delivers)
	page := func(path string) string {
		_, body := get(t, http.DefaultClient, "http://"+w.Addr(pipelineproc.Worker)+path)
		return body
	}
	if text := page("/metrics"); strings.Contains(text, `sealmq_certificate_renewals_total{name="worker",result="renewed"} 0`) || !strings.Contains(text, `result="renewed"`) {
		t.Errorf("the metrics of the worker do not say that it renewed:\n%s", text)
	}
	w.Kill(pipelineproc.Main)
	w.until("the worker says that it cannot renew", func() bool {
		return !strings.Contains(page("/metrics"), `sealmq_certificate_renewals_total{name="worker",result="failed"} 0`) && strings.Contains(page("/health/ready"), "cannot be reached")
	})
	for role, proc := range procs {
		select {
		case <-proc.Done():
			t.Errorf("the %s has ended", role)
		default:
		}
	}
}

// get makes a GET, and returns nothing if it is not answered.
func get(t *testing.T, c *http.Client, address string) (status int, body string) {
	t.Helper()
	a, err := c.Get(address)
	if err != nil {
		return 0, ""
	}
	defer a.Body.Close()
	text, err := io.ReadAll(a.Body)
	if err != nil {
		return 0, ""
	}
	return a.StatusCode, string(text)
}
