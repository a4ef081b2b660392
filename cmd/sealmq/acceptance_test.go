package main

import (
	"bytes"
	"database/sql"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq/internal/testing/mariadb"
	"github.com/sealmq/sealmq/internal/testing/pipelineproc"
	"github.com/sealmq/sealmq/mtls"
)

// acceptanceTree makes authority, certificates and the list of revoked names in a tree as the
// design documents have it, with their commands.
const acceptanceTree = `
mkdir -p main_server/certs main_server/crl proxy/certs worker/certs
cd main_server/certs
openssl genrsa -out ca.key 4096
openssl req -x509 -new -nodes -key ca.key -sha256 -days 3650 -out ca.crt -subj "/CN=MessageBrokerCA"
for name in localhost proxy worker acme-01 stolen; do
	openssl genrsa -out $name.key 2048
	openssl req -new -key $name.key -out $name.csr -subj "/CN=$name"
	openssl x509 -req -in $name.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out $name.crt -days 365 -sha256
done
mv localhost.key server.key
mv localhost.crt server.crt
cp ca.crt proxy.crt proxy.key ../../proxy/certs
cp ca.crt worker.crt worker.key ../../worker/certs
printf 'stolen \r\n' > ../crl/revoked.pem
`

// acceptanceTakeOver is what the documentation says about such a tree.
const acceptanceTakeOver = `
mkdir -p sealmq-data/ca
cp main_server/certs/ca.crt sealmq-data/ca/root.crt
cp -p main_server/certs/ca.key sealmq-data/ca/root.key
cat > sealmq.yaml <<END
tls:
  revoked: $PWD/main_server/crl/revoked.pem
END
`

// acceptanceSubmit is the command of the design documents. A test may need another port, and
// wants the status.
const acceptanceSubmit = `curl -X POST https://localhost:8001/submit -H "Content-Type: application/json" -d '{"sender_number": "+4915200000000", "message_body": "Test message"}'`

// acceptanceRows is their look into the database.
const acceptanceRows = `SELECT id, client_id, sender_number_hashed, status, created_at FROM messages ORDER BY created_at DESC LIMIT 10`

// TestAcceptanceRun is the acceptance run of the design documents, steps 1 to 5, without Redis.
// Step 6, the search for a number, is TestSearchANumber of portal/browser; step 7, data in each
// panel of Grafana, is TestPrometheus.
func TestAcceptanceRun(t *testing.T) {
	if testing.Short() || runtime.GOOS != "linux" {
		t.Skip("it needs a shell, and starts many processes")
	}
	for _, name := range []string{"bash", "curl", "openssl"} {
		if _, err := exec.LookPath(name); err != nil && os.Getenv(mariadb.RequireEnv) != "1" {
			t.Skipf("%v; with %s=1 this is a failure", err, mariadb.RequireEnv)
		} else if err != nil {
			t.Fatal(err)
		}
	}
	t.Run("SQLite", func(t *testing.T) {
		a := newAcceptance(t)
		a.driver, a.dsn = "sqlite", "file:"+filepath.Join(a.data, "pipeline", "records.db")+"?_pragma=busy_timeout(10000)&_pragma=query_only(1)"
		a.run()
	})
	t.Run("MariaDB", func(t *testing.T) {
		server := mariadb.Require(t, mariadb.Start)
		t.Cleanup(func() { server.Close() })
		url, name, err := server.Database()
		if err != nil {
			t.Fatal(err)
		}
		a := newAcceptance(t, "SEALMQ_MAIN_DATABASE="+url)
		a.driver, a.dsn = "mysql", server.DSN(name)
		a.run()
	})
}

type acceptance struct {
	*rolesWorld
	ports       *strings.Replacer // of the documents to those of the test
	driver, dsn string
}

func newAcceptance(t *testing.T, env ...string) *acceptance {
	a := &acceptance{rolesWorld: newRolesWorld(t, pipelineproc.Config{Env: append([]string{"SEALMQ_WORKER_RETRY_INTERVAL=1s"}, env...)})}
	port := func(role string) string { _, port, _ := net.SplitHostPort(a.Addr(role)); return ":" + port }
	a.ports = strings.NewReplacer(":8000", port(pipelineproc.Main), ":8001", port(pipelineproc.Proxy), ":9100", port(pipelineproc.Worker))
	return a
}

// sh runs commands in the tree, which must succeed, and returns what they print.
func (a *acceptance) sh(script string) string {
	a.Helper()
	out, err := a.try(script)
	if err != nil {
		a.Fatalf("%s\n%v\n%s", script, err, out)
	}
	return out
}

func (a *acceptance) try(script string) (string, error) {
	shell := exec.CommandContext(a.Context(), "bash", "-ec", a.ports.Replace(script))
	shell.Dir = a.dir
	shell.Env = append(append(os.Environ(), "PATH="+filepath.Dir(builtBinary(a))+string(os.PathListSeparator)+os.Getenv("PATH")), a.Env()...)
	var out, errs bytes.Buffer
	shell.Stdout, shell.Stderr = &out, &errs
	if err := shell.Run(); err != nil {
		return out.String(), fmt.Errorf("%w: %s", err, &errs)
	}
	return out.String(), nil
}

// submit submits with the proxy's certificate, as the documents do, and returns status and
// answer.
func (a *acceptance) submit(name string) (status, answer string) {
	a.Helper()
	folder := "main_server/certs/"
	if name == "proxy" {
		folder = "proxy/certs/"
	}
	out := a.sh(acceptanceSubmit + fmt.Sprintf(" --cert %[1]s%[2]s.crt --key %[1]s%[2]s.key --cacert %[1]sca.crt -sS -w '\\n%%{http_code}'", folder, name))
	answer, status, _ = strings.Cut(out, "\n\n")
	if status == "" {
		answer, status, _ = strings.Cut(out, "\n")
	}
	return strings.TrimSpace(status), answer
}

// states counts the rows in each state, as the documents' query shows them.
func (a *acceptance) states() map[string]int {
	a.Helper()
	db, err := sql.Open(a.driver, a.dsn)
	if err != nil {
		a.Fatal(err)
	}
	defer db.Close()
	rows, err := db.Query(acceptanceRows)
	if err != nil {
		a.Fatal(err)
	}
	defer rows.Close()
	states := make(map[string]int)
	for rows.Next() {
		var id int64
		var client, hash, state, created string
		if err := rows.Scan(&id, &client, &hash, &state, &created); err != nil {
			a.Fatal(err)
		}
		if client != "proxy" && client != "acme-01" || strings.Contains(hash, "15200000000") || created == "" {
			a.Errorf("a row has client %q, number %q, time %q", client, hash, created)
		}
		states[state]++
	}
	if err := rows.Err(); err != nil {
		a.Fatal(err)
	}
	return states
}

var acceptedID = regexp.MustCompile(`"message_id":"([0-9a-f-]{36})"`)

func (a *acceptance) run() {
	a.sh(acceptanceTree)
	a.sh(acceptanceTakeOver)

	// 1. All become healthy, in whatever order they start.
	for _, role := range slices.Backward(pipelineproc.Roles) {
		a.start(role)
	}
	for _, url := range []string{"https://localhost:8000/health", "https://localhost:8001/health", "http://localhost:9100/health/ready"} {
		a.until(url+" is healthy", func() bool {
			out, _ := a.try("curl -s --cacert main_server/certs/ca.crt " + url)
			return strings.Contains(out, `"status":"healthy"`) || strings.Contains(out, `"status":"ok"`)
		})
	}

	// 2 and 3. Without a worker a message is queued, and has a row that says so.
	a.Kill(pipelineproc.Worker)
	ids := make(map[string]bool)
	submit := func(n int) {
		for range n {
			status, answer := a.submit("proxy")
			id := acceptedID.FindStringSubmatch(answer)
			if status != "202" || id == nil {
				a.Fatalf("answered %s: %s", status, answer)
			}
			ids[id[1]] = true
		}
	}
	submit(3)
	a.until("three rows are queued", func() bool { s := a.states(); return s["queued"] == 3 && len(s) == 1 })
	if out := a.sh("sealmq queue show message_queue --json"); !strings.Contains(out, `"ready":3,`) {
		a.Errorf("the queue has not three messages: %s", out)
	}
	if out, err := a.try(`grep -r "Test message" sealmq-data`); err == nil {
		a.Errorf("the text is readable: %s", out)
	}

	// 4. The worker comes back, is killed, and comes back again.
	a.start(pipelineproc.Worker)
	submit(2)
	a.Kill(pipelineproc.Worker)
	submit(1)
	a.start(pipelineproc.Worker)
	a.until("each message is delivered once", func() bool { s := a.states(); return s["delivered"] == len(ids) && len(s) == 1 })

	// 5. A revoked certificate is refused, on an open connection and on a new one.
	if status, answer := a.submit("stolen"); status != "403" {
		a.Errorf("a certificate from the list that was taken over is answered %s: %s", status, answer)
	}
	conf, err := mtls.ClientConfig(mtls.Files{Cert: filepath.Join(a.dir, "proxy/certs/proxy.crt"), Key: filepath.Join(a.dir, "proxy/certs/proxy.key"),
		CA: filepath.Join(a.dir, "proxy/certs/ca.crt")}, mtls.ClientOptions{})
	if err != nil {
		a.Fatal(err)
	}
	open := a.httpClient(conf)
	call := func() int {
		resp, err := open.Post(a.ports.Replace("https://localhost:8001/submit"), "application/json", strings.NewReader("{}"))
		if err != nil {
			return 0
		}
		defer resp.Body.Close()
		io.Copy(io.Discard, resp.Body)
		return resp.StatusCode
	}
	if got := call(); got != http.StatusUnprocessableEntity {
		a.Errorf("before the revocation an empty message is answered %d", got)
	}
	a.sh(`printf 'proxy \r\n' >> main_server/crl/revoked.pem`)
	began := time.Now()
	a.until("the open connection is refused", func() bool { c := call(); return c == http.StatusForbidden || c == 0 })
	a.Logf("refused after %v", time.Since(began).Round(time.Millisecond))
	if status, answer := a.submit("proxy"); status != "403" {
		a.Errorf("a revoked certificate is answered %s: %s", status, answer)
	}
	// A proxy whose own name is revoked takes nothing, and says why.
	a.until("a revoked proxy takes nothing", func() bool {
		status, answer := a.submit("acme-01")
		if id := acceptedID.FindStringSubmatch(answer); status == "202" && id != nil { // it looks ten times a second
			ids[id[1]] = true
		}
		return status == "503"
	})
	a.until("the health of the revoked proxy says so", func() bool {
		out, _ := a.try("curl -s --cacert main_server/certs/ca.crt https://localhost:8001/health")
		return strings.Contains(out, `"certificate":"revoked"`)
	})
	a.until("in the end each message is delivered once", func() bool { s := a.states(); return s["delivered"] == len(ids) && len(s) == 1 })
}
