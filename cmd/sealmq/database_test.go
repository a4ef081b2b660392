package main

import (
	"bufio"
	"database/sql"
	"encoding/base64"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sealmq/sealmq/internal/testing/mariadb"
	"github.com/sealmq/sealmq/internal/testing/pipelineproc"
	"github.com/sealmq/sealmq/internal/testing/program"
	"github.com/sealmq/sealmq/internal/testing/redis"
)

// oldSystem fills a database of the earlier Python system.
func oldSystem(t *testing.T, server *mariadb.Server) (address *url.URL, db *sql.DB) {
	t.Helper()
	text, name, err := server.Database()
	if err != nil {
		t.Fatal(err)
	}
	if address, err = url.Parse(text); err != nil {
		t.Fatal(err)
	}
	if db, err = sql.Open("mysql", server.DSN(name)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { db.Close() })
	script := readFile(t, filepath.Join("..", "..", "pipeline", "records", "testdata", "old_system.sql"))
	for _, statement := range strings.Split(strings.TrimSpace(script), ";\n") {
		if _, err := db.Exec(statement); err != nil {
			t.Fatalf("%.60s: %v", statement, err)
		}
	}
	return address, db
}

// oldItems are what the earlier system has left in Redis, the oldest first.
var oldItems = []string{
	// The row of this one was registered before.
	`{"message_id":"22222222-2222-4222-8222-222222222222","sender_number":"+4915200000002","message_body":"Grüße aus dem Labor","client_id":"acme-01","domain":"default",
	  "queued_at":"2025-03-01T08:16:00.000000Z","attempt_count":0,"metadata":{"timestamp":"2025-03-01T08:16:00Z","client_id":"acme-01","domain":null}}`,
	`{"message_id":"66666666-6666-4666-8666-666666666666","sender_number":"+4915200000006","message_body":"left: Grüße","client_id":"acme-01","domain":"default","queued_at":"2025-03-01T08:17:00.789012Z","attempt_count":3}`,
	`{"message_id":"66666666-6666-4666-8666-666666666666","sender_number":"+4915200000006","message_body":"left: Grüße","client_id":"acme-01","domain":"default","queued_at":"2025-03-01T08:17:00.789012Z","attempt_count":3}`,
	`{"message_id":"test-msg-1","sender_number":"+4915200000007","message_body":"left: bare","client_id":"acme-01"}`,
	`{"message_id":"test-msg-2","sender_number":"+4915200000008","message_body":"left: unknown member","client_id":"acme-01","priority":7,"queued_at":"2025-03-01T08:18:00+00:00"}`,
	`{"message_id":"test-msg-3","sender_number":"gAAAAABlU_EA","message_body":"gAAAAABlU_EA","client_id":"acme-01","enc":"v1"}`,
	`no JSON`,
}

// TestMySQLPage runs the page's commands with a server on another port, whose administrator has
// no password.
func TestMySQLPage(t *testing.T) {
	if testing.Short() || runtime.GOOS != "linux" {
		t.Skip("it needs a shell and a database server")
	}
	t.Parallel()
	tool(t, "mariadb", "")
	server := mariadb.Require(t, mariadb.Start)
	t.Cleanup(func() { server.Close() })
	text, _, err := server.Database()
	if err != nil {
		t.Fatal(err)
	}
	port := regexp.MustCompile(`:(\d+)/`).FindStringSubmatch(text)[1]
	out, err := paste(t, "set -exo pipefail\n"+endJobs+strings.NewReplacer("3306", port,
		"--user=root --password", "--user=root", "--user=systemuser --password", "--user=systemuser '--password=a long password'").Replace(commands(t, "docs/operations/mysql.md")))
	if err != nil || !regexp.MustCompile(`acme-01\s+delivered`).Match(out) {
		t.Errorf("%v\n%s", err, out)
	}
}

// TestMigrationPage runs the page's commands, where there is an earlier system.
func TestMigrationPage(t *testing.T) {
	if testing.Short() || runtime.GOOS != "linux" {
		t.Skip("it needs a shell and a database server")
	}
	for _, name := range []string{"openssl", "mariadb-dump", "mariadb"} {
		tool(t, name, "")
	}
	server := mariadb.Require(t, mariadb.Start)
	t.Cleanup(func() { server.Close() })
	address, db := oldSystem(t, server)
	queue := redis.Run(t)
	_, port, err := net.SplitHostPort(queue.Addr())
	if err != nil {
		t.Fatal(err)
	}
	items := queue.Client()
	defer items.Close()
	for _, item := range oldItems {
		if err := items.LPush(t.Context(), "message_queue", item).Err(); err != nil {
			t.Fatal(err)
		}
	}
	name := strings.TrimPrefix(address.Path, "/")
	password, _ := address.User.Password()
	t.Setenv("MYSQL_PWD", password)

	var key []byte
	for i := range 32 {
		key = append(key, byte(i))
	}
	there := fmt.Sprintf("set -exo pipefail\n"+endJobs+`mkdir -p main_server/certs main_server/crl secrets
openssl req -x509 -newkey rsa:2048 -nodes -sha256 -days 3650 -keyout main_server/certs/ca.key -out main_server/certs/ca.crt -subj /CN=MessageBrokerCA
for client in acme-01 stolen lost; do
  openssl req -newkey rsa:2048 -nodes -keyout $client.key -out $client.csr -subj /CN=$client
  openssl x509 -req -in $client.csr -CA main_server/certs/ca.crt -CAkey main_server/certs/ca.key -CAcreateserial -out $client.crt -days 365 -sha256
done
printf 'Certificate: lost\nReason: gone\n=====\n' > main_server/crl/revoked.pem
echo %s > secrets/encryption.key
cat > .env <<'END'
DATABASE_URL=%s
HASH_SALT=old-salt
REDIS_HOST=127.0.0.1
REDIS_PORT=%s
REDIS_PASSWORD=%s
CRL_PATH=main_server/crl/revoked.pem
ENCRYPTION_KEY_PATH=secrets/encryption.key
END
chmod 600 .env
sealmq init --data other
if sealmq serve --data other; then exit 1; fi
if sealmq database adopt --key secrets/encryption.key --salt-file secrets/encryption.key; then exit 1; fi
`, base64.URLEncoding.EncodeToString(key), address, port, queue.Password())
	look := `
submit() { sealmq submit --cert $1.crt --cert-key $1.key --ca main_server/certs/ca.crt --sender +4915200000000 --message "after the move"; }
submit acme-01
if submit stolen; then exit 1; fi
if submit lost; then exit 1; fi
timeout 60 sh -c 'until sealmq queue state --json | grep "\"processing\":0,\"ready\":0"; do sleep 0.1; done'
timeout 60 sh -c 'until grep -q "all stored messages have the newest key" node.log; do sleep 0.1; done'
sealmq message show 11111111-1111-4111-8111-111111111111 --client acme-01
for id in 22222222-2222-4222-8222-222222222222 66666666-6666-4666-8666-666666666666 test-msg-1 test-msg-2; do
  sealmq message list --id $id --json
  sealmq message show $id --client acme-01
done
sealmq queue dead --json
sealmq database adopt --key secrets/encryption.key --salt-file salt.txt --snapshot before.sql
kill $!; wait $!
`
	script := commands(t, "docs/migration-from-message-broker.md")
	script = strings.Replace(script, "kill $!; wait $!\n", look, 1)
	adopt := "sealmq database adopt --key secrets/encryption.key --salt-file salt.txt --snapshot before.sql"
	script = strings.Replace(script, adopt, "if "+adopt+"; then exit 1; fi\n"+adopt+" --keep-unreadable", 1) // one text of the fixture is damaged
	script = strings.NewReplacer("--port=3306 --user=systemuser --password", "--port="+address.Port()+" --user='"+address.User.Username()+"'", "message_system", name).Replace(script)
	out, err := paste(t, there+script)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{
		"sealmq: error: the database is the earlier Python system's, and was not taken over yet",
		"sealmq: error: the key does not open 1 message",
		`"client_id":"acme-01"`, "admin@example.com", "Grüße aus dem Labor", "is SealMQ's already",
		`"message_id":"22222222-2222-4222-8222-222222222222","queued_at":"2025-03-01T08:16:00Z","sealed":false,"sender_number_masked":"hash:3c8162d4","status":"delivered"}]`,
		`"message_id":"66666666-6666-4666-8666-666666666666","queued_at":"2025-03-01T08:17:00.789012Z","sealed":false,"sender_number_masked":"+491****0006","status":"delivered"}]`,
		"text       left: Grüße", "text       left: bare", "text       left: unknown member",
		`[{"malformed":true,"reason":"malformed"},{"malformed":true,"reason":"malformed"}]`,
	} {
		if !strings.Contains(string(out), want) {
			t.Errorf("%q is missing", want)
		}
	}
	var rows int
	if err := db.QueryRow("SELECT COUNT(*) FROM messages WHERE message_id <> '' AND client_id = 'ACME-01'").Scan(&rows); err != nil || rows != 2 {
		t.Errorf("after the way back: %d, %v", rows, err)
	}
	if t.Failed() {
		t.Logf("%s", out)
	}
}

// TestAdoptionKilled kills the command at each line that it prints, and as it makes its keys, and
// gives it again each time.
func TestAdoptionKilled(t *testing.T) {
	if testing.Short() {
		t.Skip("it changes a database step by step")
	}
	t.Parallel()
	server := mariadb.Require(t, mariadb.Start)
	t.Cleanup(func() { server.Close() })
	key := filepath.Join(t.TempDir(), "encryption.key")
	if err := os.WriteFile(key, []byte("000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	salt := filepath.Join(t.TempDir(), "salt")
	if err := os.WriteFile(salt, []byte("old-salt\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	adopt := []string{"database", "adopt", "--key", key, "--salt-file", salt, "--snapshot-exists", "--keep-unreadable"}
	prepare := func() (*rolesWorld, *sql.DB) {
		address, db := oldSystem(t, server)
		w := newRolesWorld(t, pipelineproc.Config{Env: []string{"SEALMQ_MAIN_DATABASE=" + address.String()}})
		w.run("init")
		return w, db
	}
	whole, db := prepare()
	whole.run(adopt...)
	want := adopted(whole, db)

	w, db := prepare()
	kill := func(at func(lines int) bool) (ended bool) {
		cmd := exec.CommandContext(t.Context(), program.Path(t), adopt...)
		cmd.Env = append(os.Environ(), w.Env()...)
		out, err := cmd.StderrPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := make(chan int, 1000)
		go func() {
			defer close(lines)
			for n, s := 0, bufio.NewScanner(out); s.Scan(); {
				n++
				lines <- n
			}
		}()
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for n, open := 0, true; open; {
			select {
			case n, open = <-lines:
			case <-tick.C:
			}
			if open && at(n) {
				cmd.Process.Kill() //nolint:errcheck // it may have ended
			}
		}
		return cmd.Wait() == nil
	}
	kills := 0
	for _, name := range []string{"records.key", "records-2.key", saltFile, "numbers.key"} {
		w.until("it is killed when there is a file "+name, func() bool {
			if kill(func(int) bool { return exists(filepath.Join(w.data, "pipeline", name)) }) {
				w, db = prepare() // it was quicker than the test
				return false
			}
			return true
		})
		kills++
	}
	for n := 1; !kill(func(lines int) bool { return lines >= n }); n++ {
		kills++
	}
	if kills == 4 {
		t.Error("it was never killed at a line")
	}
	if diff := cmp.Diff(want, adopted(w, db)); diff != "" {
		t.Error(diff)
	}
	w.start(pipelineproc.Main)
	if out := w.run("message", "show", "11111111-1111-4111-8111-111111111111", "--client", "acme-01"); !strings.Contains(out, "Grüße aus dem Labor") {
		t.Error(out)
	}
}

// adopted is what an adoption made that does not differ from run to run.
func adopted(w *rolesWorld, db *sql.DB) (all []string) {
	w.Helper()
	ask := func(query string) {
		w.Helper()
		rows, err := db.Query(query)
		if err != nil {
			w.Fatal(err)
		}
		defer rows.Close()
		for rows.Next() {
			var s string
			if err := rows.Scan(&s); err != nil {
				w.Fatal(err)
			}
			all = append(all, s)
		}
		if err := rows.Err(); err != nil {
			w.Fatal(err)
		}
	}
	ask("SELECT CONCAT_WS(' ', table_name, column_name, column_type, collation_name, is_nullable, column_default) FROM information_schema.columns WHERE table_schema = DATABASE() ORDER BY table_name, ordinal_position")
	ask("SELECT CONCAT_WS(' ', table_name, index_name, column_name, seq_in_index, non_unique) FROM information_schema.statistics WHERE table_schema = DATABASE() ORDER BY table_name, index_name, seq_in_index")
	ask("SELECT CONCAT_WS(' ', table_name, constraint_name, constraint_type) FROM information_schema.table_constraints WHERE table_schema = DATABASE() ORDER BY table_name, constraint_name")
	ask("SELECT CONCAT_WS(' ', message_id, client_id, sender_number_hashed, encrypted_body, encryption_key_version, status, created_at) FROM messages ORDER BY id")
	ask("SELECT CONCAT_WS(' ', client_id, cert_fingerprint, status, revocation_reason, updated_at) FROM clients ORDER BY id")
	ask("SELECT CONCAT_WS(' ', email, password_hash, role, client_id, updated_at) FROM users ORDER BY id")
	ask("SELECT CONCAT_WS(' ', client_id, hour, domain, status, messages, delivery_us) FROM message_counts ORDER BY client_id, hour, domain, status")
	ask("SELECT event_type FROM audit_log ORDER BY id")
	ask("SELECT name FROM settings ORDER BY name")
	files, err := os.ReadDir(filepath.Join(w.data, "pipeline"))
	if err != nil {
		w.Fatal(err)
	}
	for _, f := range files {
		all = append(all, f.Name())
	}
	revoked := readFile(w.T, filepath.Join(w.data, "ca", "revocations.jsonl"))
	return append(all, fmt.Sprintf("%d lines that revoke", strings.Count(revoked, `"name":"stolen"`)))
}
