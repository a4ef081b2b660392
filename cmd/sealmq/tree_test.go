package main

import (
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
)

// earlierTree is the rest of a tree of the earlier Python system, beside acceptanceTree.
const earlierTree = `
cd ../..
mkdir -p client-scripts/certs monitoring/grafana/datasources monitoring/grafana/dashboards portal secrets
cp main_server/certs/ca.crt main_server/certs/acme-01.crt main_server/certs/acme-01.key client-scripts/certs
openssl rand -hex 32 > secrets/encryption.key
cat > .env <<'END'
LOG_LEVEL=DEBUG
LOG_FILE_PATH=logs
CRL_PATH=main_server/crl/revoked.pem
ADMIN_USER=chief@example.com
ADMIN_PASS=plenty of rain in april
JWT_SECRET=0123456789abcdef0123456789abcdef
MAINTENANCE_MODE=false
END
chmod 600 .env
printf 'validation:\n  max_message_length: 20\ntls:\n  enabled: true\n' > proxy/config.yaml
printf 'worker:\n  concurrency: 2\n' > worker/config.yaml
`

// earlierTakeOver proves what the page's table says, row by row.
const earlierTakeOver = `
sealmq config import .env proxy/config.yaml worker/config.yaml
grep -q 'revoked: main_server/crl/revoked.pem' sealmq.yaml
grep -q 'concurrency: 2' sealmq.yaml
mkdir -p sealmq-data/ca
cp main_server/certs/ca.crt sealmq-data/ca/root.crt
cp -p main_server/certs/ca.key sealmq-data/ca/root.key
sealmq serve > node.log 2>&1 &
sleep 1
submit() { sealmq submit --cert $1.crt --cert-key $1.key --ca $(dirname $1)/ca.crt --sender +4915200000000 --message "$2"; }
submit client-scripts/certs/acme-01 "Test message"
submit proxy/certs/proxy "Test message"
submit worker/certs/worker "Test message"
if submit client-scripts/certs/acme-01 "longer than 20 characters"; then exit 1; fi
if submit main_server/certs/stolen "Test message"; then exit 1; fi
printf 'acme-01 \r\n' >> main_server/crl/revoked.pem
until ! submit client-scripts/certs/acme-01 "Test message"; do sleep 0.1; done
sealmq user list | grep chief@example.com
until sealmq message list | grep proxy.*delivered; do sleep 0.1; done
ls logs/main_server.log logs/proxy.log
grep -q '"DEBUG"\|level=DEBUG' logs/*.log
openssl verify -CAfile main_server/certs/ca.crt -untrusted sealmq-data/ca/intermediate.crt sealmq-data/certs/server.crt
cp "$SOURCE/deploy/monitoring/prometheus.yml" monitoring/prometheus.yml
cp -r "$SOURCE/deploy/monitoring/rules" monitoring/rules
cp "$SOURCE/deploy/monitoring/grafana/provisioning/datasources/prometheus.yml" monitoring/grafana/datasources/prometheus.yml
cp "$SOURCE/deploy/monitoring/grafana/dashboards/system_dashboard.json" monitoring/grafana/dashboards/system_dashboard.json
cp "$SOURCE/deploy/monitoring/grafana/dashboards/system_dashboard.json" portal/system_dashboard.json
sealmq cert issue prometheus --role monitor --out monitoring/certs
promtool check config monitoring/prometheus.yml
`

// TestEarlierTree takes a tree of the earlier Python system over where it is. Every path of the
// page's table is in the tree, so that no row is without proof.
func TestEarlierTree(t *testing.T) {
	if testing.Short() || runtime.GOOS != "linux" {
		t.Skip("it needs a shell and starts a node")
	}
	t.Parallel() // it mostly waits
	tool(t, "openssl", "")
	tool(t, "promtool", "")
	page := readFile(t, filepath.Join(repository, "docs", "operations", "take-over.md"))
	_, table, _ := strings.Cut(page, "| there | here |\n")
	table, _, _ = strings.Cut(table, "\n\n")
	var looks strings.Builder
	path := regexp.MustCompile("`([^` ]+)`")
	for _, row := range strings.Split(table, "\n")[1:] {
		there, here, _ := strings.Cut(strings.TrimPrefix(row, "| "), " | ")
		for _, m := range path.FindAllStringSubmatch(there, -1) {
			looks.WriteString("ls -d " + m[1] + "\n")
		}
		for _, m := range path.FindAllStringSubmatch(here, -1) {
			if strings.HasPrefix(m[1], "deploy/") {
				if _, err := os.Stat(filepath.Join(repository, m[1])); err != nil {
					t.Error(err)
				}
			}
		}
	}
	if looks.Len() == 0 {
		t.Fatal("the page has no table")
	}
	out, err := paste(t, "set -exo pipefail\n"+endJobs+acceptanceTree+earlierTree+earlierTakeOver+looks.String())
	if err != nil || !strings.Contains(string(out), "MAINTENANCE_MODE") {
		t.Errorf("%v\n%s", err, out)
	}
}
