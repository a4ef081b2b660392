package main

import (
	"database/sql"
	"encoding/base64"
	"fmt"
	"net/url"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/sealmq/sealmq/internal/testing/mariadb"
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

// TestMigrationPage runs the page's commands, where there is an earlier system.
func TestMigrationPage(t *testing.T) {
	if testing.Short() || runtime.GOOS != "linux" {
		t.Skip("it needs a shell and a database server")
	}
	for _, name := range []string{"openssl", "mariadb-dump", "mariadb"} {
		program(t, name, "")
	}
	server := mariadb.Require(t, mariadb.Start)
	t.Cleanup(func() { server.Close() })
	address, db := oldSystem(t, server)
	name := strings.TrimPrefix(address.Path, "/")
	password, _ := address.User.Password()
	t.Setenv("MYSQL_PWD", password)

	var key []byte
	for i := range 32 {
		key = append(key, byte(i))
	}
	there := fmt.Sprintf(`set -exo pipefail
trap 'jobs -p | xargs -r kill; wait' EXIT
mkdir -p main_server/certs main_server/crl secrets
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
CRL_PATH=main_server/crl/revoked.pem
ENCRYPTION_KEY_PATH=secrets/encryption.key
END
chmod 600 .env
sealmq init --data other
if sealmq serve --data other; then exit 1; fi
if sealmq database adopt --key secrets/encryption.key --salt-file secrets/encryption.key; then exit 1; fi
`, base64.URLEncoding.EncodeToString(key), address)
	look := `
submit() { sealmq submit --cert $1.crt --cert-key $1.key --ca main_server/certs/ca.crt --sender +4915200000000 --message "after the move"; }
submit acme-01
if submit stolen; then exit 1; fi
if submit lost; then exit 1; fi
timeout 60 sh -c 'until grep -q "all stored messages have the newest key" node.log; do sleep 0.1; done'
sealmq message show 11111111-1111-4111-8111-111111111111 --client acme-01
sealmq database adopt --key secrets/encryption.key --salt-file salt.txt --snapshot before.sql
kill $!; wait $!
`
	var page strings.Builder
	for _, f := range fences(t, filepath.Join("..", "..", "docs", "migration-from-message-broker.md")) {
		if f.language == "sh" {
			page.WriteString(f.text)
		}
	}
	commands := page.String()
	commands = strings.Replace(commands, "kill $!; wait $!\n", look, 1)
	adopt := "sealmq database adopt --key secrets/encryption.key --salt-file salt.txt --snapshot before.sql"
	commands = strings.Replace(commands, adopt, "if "+adopt+"; then exit 1; fi\n"+adopt+" --keep-unreadable", 1) // one text of the fixture is damaged
	commands = strings.NewReplacer("--port=3306 --user=systemuser --password", "--port="+address.Port()+" --user='"+address.User.Username()+"'", "message_system", name).Replace(commands)
	out, err := paste(t, there+commands)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{
		"sealmq: error: the database is the earlier Python system's, and was not taken over yet",
		"sealmq: error: the key does not open 1 message",
		`"client_id":"acme-01"`, "admin@example.com", "Grüße aus dem Labor", "nothing was changed",
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
