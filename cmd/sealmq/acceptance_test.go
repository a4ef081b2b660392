package main

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"flag"
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
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/sealmq/sealmq/internal/testing/mariadb"
	"github.com/sealmq/sealmq/internal/testing/pipelineproc"
	"github.com/sealmq/sealmq/internal/testing/program"
	"github.com/sealmq/sealmq/internal/testing/redis"
	"github.com/sealmq/sealmq/mtls"
	"github.com/sealmq/sealmq/pipeline"
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

var transcriptFolder = flag.String("transcript", "", "the folder where TestAcceptanceRun writes what it did and saw")

// TestAcceptanceRun is the acceptance run of the design documents, steps 1 to 7, with each role
// in a process of its own. TestSearchANumber of portal/browser does step 6 in a browser, and
// TestPrometheus has data for every panel of every dashboard.
func TestAcceptanceRun(t *testing.T) {
	if testing.Short() || runtime.GOOS != "linux" {
		t.Skip("it needs a shell, and starts many processes")
	}
	t.Parallel() // it mostly waits
	for _, name := range []string{"bash", "curl", "openssl", "prometheus", "redis-cli"} {
		tool(t, name, "")
	}
	t.Run("default", func(t *testing.T) {
		a := newAcceptance(t)
		a.driver, a.dsn = "sqlite", "file:"+filepath.Join(a.data, "pipeline", "records.db")+"?_pragma=busy_timeout(10000)&_pragma=query_only(1)"
		a.roles, a.queueLength = append(slices.Clip(pipelineproc.Roles), pipelineproc.Portal), (*acceptance).brokerQueueLength
		a.run()
	})
	t.Run("Redis and MariaDB", func(t *testing.T) {
		queue := redis.Run(t)
		server := mariadb.Require(t, mariadb.Start)
		t.Cleanup(func() { server.Close() })
		url, name, err := server.Database()
		if err != nil {
			t.Fatal(err)
		}
		_, port, _ := net.SplitHostPort(queue.Addr())
		// These are the design documents' names.
		a := newAcceptance(t, "DATABASE_URL="+url, "REDIS_HOST=127.0.0.1", "REDIS_PORT="+port, "REDIS_PASSWORD="+queue.Password(), "REDISCLI_AUTH="+queue.Password())
		a.driver, a.dsn = "mysql", server.DSN(name)
		a.ports["redis-cli"] = "redis-cli -p " + port
		a.Set("SEALMQ_PIPELINE_BROKER=")
		a.roles, a.queueLength = []string{pipelineproc.Main, pipelineproc.Proxy, pipelineproc.Worker, pipelineproc.Portal}, (*acceptance).redisQueueLength
		a.run()
	})
}

type acceptance struct {
	*rolesWorld
	roles       []string          // in the order in which they are best started
	ports       map[string]string // of the documents to those of the test
	queueLength func(*acceptance) int
	driver, dsn string
	transcript  bytes.Buffer
	looked      bytes.Buffer // the rows that states saw
}

func newAcceptance(t *testing.T, env ...string) *acceptance {
	a := &acceptance{rolesWorld: newRolesWorld(t, pipelineproc.Config{Env: append([]string{"SEALMQ_WORKER_RETRY_INTERVAL=1s", "SEALMQ_WORKER_NAME=worker-1"}, env...)})}
	a.ports = map[string]string{":8000": portOf(a.Addr(pipelineproc.Main)), ":8001": portOf(a.Addr(pipelineproc.Proxy)), ":8080": portOf(a.Addr(pipelineproc.Portal)), ":9100": portOf(a.Addr(pipelineproc.Worker))}
	if *transcriptFolder != "" {
		t.Cleanup(func() {
			name := strings.ReplaceAll(strings.ToLower(filepath.Base(t.Name())), "_", "-") + ".txt"
			if err := os.WriteFile(filepath.Join(*transcriptFolder, name), a.transcript.Bytes(), 0o644); err != nil {
				t.Error(err)
			}
		})
	}
	return a
}

// note writes a line into the transcript.
func (a *acceptance) note(format string, args ...any) {
	fmt.Fprintf(&a.transcript, format+"\n", args...)
}

// sh runs commands in the tree, which must succeed, and returns what they print.
func (a *acceptance) sh(script string) string {
	a.Helper()
	out, err := a.try(script)
	if err != nil {
		a.Fatalf("%s\n%v\n%s", script, err, out)
	}
	a.note("$ %s\n%s", strings.TrimSpace(script), strings.TrimSpace(out))
	return out
}

// here is a text of the documents with the ports of the test.
func (a *acceptance) here(text string) string {
	for documents, test := range a.ports {
		text = strings.ReplaceAll(text, documents, test)
	}
	return text
}

func (a *acceptance) try(script string) (string, error) {
	shell := exec.CommandContext(a.Context(), "bash", "-ec", a.here(script))
	shell.Dir = a.dir
	shell.Env = append(append(os.Environ(), "PATH="+filepath.Dir(program.Path(a))+string(os.PathListSeparator)+os.Getenv("PATH")), a.Env()...)
	var out, errs bytes.Buffer
	shell.Stdout, shell.Stderr = &out, &errs
	if err := shell.Run(); err != nil {
		return out.String(), fmt.Errorf("%w: %s", err, &errs)
	}
	return out.String(), nil
}

// submit submits with the certificate of a name, as the documents do for the proxy, and returns
// status and answer. With the key the message can be submitted again.
func (a *acceptance) submit(name, key string) (status, answer string) {
	a.Helper()
	folder := "main_server/certs/"
	if name == "proxy" {
		folder = "proxy/certs/"
	}
	out := a.sh(acceptanceSubmit + fmt.Sprintf(" --cert %[1]s%[2]s.crt --key %[1]s%[2]s.key --cacert %[1]sca.crt -H 'Idempotency-Key: %[3]s' -sS -w '\\n%%{http_code}'", folder, name, key))
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
	a.looked.Reset()
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
		fmt.Fprintln(&a.looked, id, client, hash, state, created)
	}
	if err := rows.Err(); err != nil {
		a.Fatal(err)
	}
	return states
}

// untilStates waits until n rows have a state, and no other row is there.
func (a *acceptance) untilStates(what string, state pipeline.State, n func() int) {
	a.Helper()
	a.until(what, func() bool { s := a.states(); return s[string(state)] == n() && len(s) == 1 })
	a.note("> %s;\n%s", acceptanceRows, &a.looked)
}

var acceptedID = regexp.MustCompile(`"message_id":"([0-9a-f-]{36})"`)

// brokerQueueLength is how many messages wait in the queue of the broker.
func (a *acceptance) brokerQueueLength() int {
	var q struct{ Ready int }
	if err := json.Unmarshal([]byte(a.sh("sealmq queue show message_queue --json")), &q); err != nil {
		a.Fatal(err)
	}
	return q.Ready
}

// redisQueueLength is the same in Redis. There the items can be looked at: they are JSON, with
// neither number nor text.
func (a *acceptance) redisQueueLength() int {
	n, err := strconv.Atoi(strings.TrimSpace(a.sh("redis-cli LLEN message_queue")))
	if err != nil {
		a.Fatal(err)
	}
	items := strings.FieldsFunc(a.sh("redis-cli LRANGE message_queue 0 -1"), func(r rune) bool { return r == '\n' })
	if len(items) != n {
		a.Errorf("LLEN says %d, and LRANGE shows %d items", n, len(items))
	}
	for _, text := range items {
		var item map[string]any
		if err := json.Unmarshal([]byte(text), &item); err != nil {
			a.Fatalf("an item is no JSON: %v: %s", err, text)
		}
		for key, want := range map[string]any{"client_id": "proxy", "domain": "default", "enc": "hpke-v1", "sender_number": nil, "message_body": nil} {
			if item[key] != want {
				a.Errorf("%s of an item is %v, want %v", key, item[key], want)
			}
		}
		if sealed, _ := item["sealed"].(map[string]any); item["message_id"] == nil || item["queued_at"] == nil || sealed["message_id"] != item["message_id"] {
			a.Errorf("an item lacks its id, its time, or what is sealed: %s", text)
		}
		if strings.Contains(text, "Test message") || strings.Contains(text, "5200000000") {
			a.Errorf("an item shows number or text: %s", text)
		}
	}
	return n
}

func (a *acceptance) run() {
	a.sh(acceptanceTree)
	a.sh(acceptanceTakeOver)
	a.healthy()
	prometheus := startPrometheus(a.T, a.monitoringFolder())
	ids := a.deliver()
	a.revoke(ids)
	a.search(len(ids))
	a.panels(prometheus)
}

// healthy is step 1: all become healthy, in whatever order they start.
func (a *acceptance) healthy() {
	a.note("# 1. Start main server, proxy, worker, portal.")
	for _, role := range slices.Backward(a.roles) {
		a.start(role)
	}
	for _, url := range []string{"https://localhost:8000/health", "https://localhost:8001/health", "http://localhost:9100/health/ready", "https://localhost:8080/health"} {
		look := "curl -s --cacert main_server/certs/ca.crt " + url
		a.until(url+" is healthy", func() bool {
			out, _ := a.try(look)
			return strings.Contains(out, `"status":"healthy"`) || strings.Contains(out, `"status":"ok"`)
		})
		a.sh(look)
	}
}

// deliver is steps 2 to 4. It returns the ids of the messages that were accepted.
func (a *acceptance) deliver() map[string]bool {
	a.note("# 2. Submit with curl, while no worker runs, and look into the queue.")
	a.Kill(pipelineproc.Worker)
	ids := make(map[string]bool)
	submit := func(n int) {
		for range n {
			key := fmt.Sprint("message-", len(ids))
			a.until(key+" is accepted", func() bool { // 503 if the queue is slow
				status, answer := a.submit("proxy", key)
				id := acceptedID.FindStringSubmatch(answer)
				if status == "202" && id != nil {
					ids[id[1]] = true
					return true
				}
				if status != "503" {
					a.Fatalf("answered %s: %s", status, answer)
				}
				return false
			})
		}
	}
	count := func() int { return len(ids) }
	for n := range 3 {
		submit(1)
		if got := a.queueLength(a); got != n+1 {
			a.Errorf("after %d messages the queue has %d", n+1, got)
		}
	}
	a.note("# 3. Look into the database: a row each, queued while no worker runs, nothing readable.")
	a.untilStates("three rows are queued", pipeline.Queued, count)
	if out, err := a.try(`grep -r "Test message" sealmq-data`); err == nil {
		a.Errorf("the text is readable: %s", out)
	}

	a.note("# 4. The worker comes back, is killed, and comes back again.")
	a.start(pipelineproc.Worker)
	submit(2)
	a.Kill(pipelineproc.Worker)
	submit(1)
	a.start(pipelineproc.Worker)
	a.untilStates("each message is delivered once", pipeline.Delivered, count)
	if got := a.queueLength(a); got != 0 {
		a.Errorf("the queue still has %d messages", got)
	}
	return ids
}

// revoke is step 5: a revoked certificate is refused, on an open connection and on a new one.
func (a *acceptance) revoke(ids map[string]bool) {
	a.note("# 5. Revoke the proxy's certificate.")
	if status, answer := a.submit("stolen", "message"); status != "403" {
		a.Errorf("a certificate from the list that was taken over is answered %s: %s", status, answer)
	}
	conf, err := mtls.ClientConfig(mtls.Files{Cert: filepath.Join(a.dir, "proxy/certs/proxy.crt"), Key: filepath.Join(a.dir, "proxy/certs/proxy.key"),
		CA: filepath.Join(a.dir, "proxy/certs/ca.crt")}, mtls.ClientOptions{})
	if err != nil {
		a.Fatal(err)
	}
	open := a.httpClient(conf)
	call := func() int {
		resp, err := open.Post(a.here("https://localhost:8001/submit"), "application/json", strings.NewReader("{}"))
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
	a.note("An open connection is refused after %v.", time.Since(began).Round(time.Millisecond))
	if status, answer := a.submit("proxy", "message"); status != "403" {
		a.Errorf("a revoked certificate is answered %s: %s", status, answer)
	}
	// A proxy whose own name is revoked takes nothing, and says why.
	a.until("a revoked proxy takes nothing", func() bool {
		status, answer := a.submit("acme-01", fmt.Sprint("message-", len(ids)))
		if id := acceptedID.FindStringSubmatch(answer); status == "202" && id != nil { // it looks ten times a second
			ids[id[1]] = true
		}
		return status == "503" && strings.Contains(answer, "takes no messages")
	})
	a.until("the health of the revoked proxy says so", func() bool {
		out, _ := a.try("curl -s --cacert main_server/certs/ca.crt https://localhost:8001/health")
		return strings.Contains(out, `"certificate":"revoked"`)
	})
	a.untilStates("in the end each message is delivered once", pipeline.Delivered, func() int { return len(ids) })
}

// acceptanceLogin makes the first administrator, logs in at the portal, and searches.
const acceptanceLogin = `
browse() { curl -sS --fail-with-body --cacert main_server/certs/ca.crt -b jar -c jar -L "$@"; }
link=$(sealmq user setup-link | sed 's/127.0.0.1/localhost/')
browse -o page "$link" -d name=Anna -d email=anna@example.com -d password="correct horse battery" -d repeat="correct horse battery" -d token="${link#*token=}"
rm jar
browse -o page https://localhost:8080/login -d email=anna@example.com -d password="correct horse battery"
for number in %2B4915200000000 %2B4915200000001; do
	browse https://localhost:8080/messages/find -d q=$number | grep -c '<td data-label="Number"' || true
done
`

// search is step 6: a search for a number lists the messages of exactly that number.
func (a *acceptance) search(messages int) {
	a.note("# 6. Log in to the portal and search a sender's number.")
	if got, want := strings.TrimSpace(a.sh(acceptanceLogin)), fmt.Sprintf("%d\n0", messages); got != want {
		a.Errorf("the searches for a number and for another find %q, want %q", got, want)
	}
}

// panels is step 7: each of the four panels of Grafana shows data.
func (a *acceptance) panels(prometheus string) {
	a.note("# 7. The panels of Grafana, asked of Prometheus.")
	for _, panel := range dashboards(a.T)["system_dashboard.json"].Panels[:4] {
		for _, target := range panel.Targets {
			var first string
			a.until(panel.Title+": "+target.Expr, func() bool {
				n, one, err := ask(prometheus, target.Expr)
				first = one
				return err == nil && n > 0
			})
			a.note("%s: %s\n  %s", panel.Title, target.Expr, first)
		}
	}
}
