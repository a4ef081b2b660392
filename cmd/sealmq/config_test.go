package main

import (
	"bytes"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/rawbytes"
	"github.com/knadh/koanf/v2"
	"github.com/spf13/pflag"

	"github.com/sealmq/sealmq/keydir/keylog"
)

// runCLI runs one command line in a new folder, so that no configuration file
// of the machine takes part.
func runCLI(t *testing.T, args ...string) (stdout string, err error) {
	t.Helper()
	var out, errOut bytes.Buffer
	err = run(t.Context(), args, &out, &errOut)
	if errOut.Len() > 0 {
		t.Logf("standard error: %s", errOut.String())
	}
	return out.String(), err
}

func printed(err error) string {
	var b strings.Builder
	if err != nil {
		printError(&b, err)
	}
	return b.String()
}

func TestConfigExampleHasEveryKey(t *testing.T) {
	out, err := runCLI(t, "config", "example")
	if err != nil {
		t.Fatal(err)
	}
	k := koanf.New(".")
	if err := k.Load(rawbytes.Provider([]byte(out)), yaml.Parser()); err != nil {
		t.Fatal(err)
	}
	d := defaultConfig()
	for _, f := range d.fields() {
		if !k.Exists(f.key) {
			t.Errorf("the example does not mention %s", f.key)
		}
	}
	if err := d.Validate(); err != nil {
		t.Error(err)
	}
	d.Limits.KeyLog, d.Limits.KeyChanges = keylog.MaxLog, keylog.MaxLog
	if err := d.Validate(); err != nil {
		t.Error(err)
	}
	d.Limits.KeyLog++
	if err := d.Validate(); err == nil {
		t.Error("a log of keys may be longer than clients read")
	}
}

func TestConfigPrecedence(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "sealmq.yaml", "data: from-file\nserver:\n  addr: 127.0.0.1:1\nlog:\n  level: debug\n")
	t.Setenv("SEALMQ_SERVER_ADDR", "127.0.0.1:2")
	t.Setenv("SEALMQ_DATA", "from-env")
	out, err := runCLI(t, "--data", "from-flag", "config", "check")
	if err != nil {
		t.Fatal(err)
	}
	want := "data: from-flag  # flag for data\nserver.addr: 127.0.0.1:2  # environment SEALMQ_SERVER_ADDR\nlog.level: debug  # sealmq.yaml\nconfiguration is valid\n"
	if diff := cmp.Diff(want, out); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestConfigReportsEveryProblemWithItsKey(t *testing.T) {
	const hint = "sealmq: hint: \"sealmq config example\" prints every key with its meaning and default\n"
	for _, tt := range []struct {
		name, file string
		env        map[string]string
		want       string
	}{
		{
			name: "unknown keys and wrong types together",
			file: "server:\n  adr: 127.0.0.1:1\n  max_connections: ten\nwhatever: 1\ntls: 5\ndedup:\n  window: 60\n",
			want: `sealmq: error: c.yaml: dedup.window: "60" is not a duration such as 30s, 5m or 1h
sealmq: error: c.yaml: server.adr: unknown key; did you mean server.addr?
sealmq: error: c.yaml: server.max_connections: "ten" is not a whole number
sealmq: error: c.yaml: tls: is a section and has no value of its own
sealmq: error: c.yaml: whatever: unknown key
` + hint,
		},
		{
			name: "ranges and contradictions together",
			file: "server: {addr: localhost, max_connections: 0}\ntls: {cert: a.crt}\nstorage: {segment_bytes: 1MiB, damage: ignore}\nmetrics: {addr: '127.0.0.1:99999'}\nlog: {level: loud}\n",
			want: `sealmq: error: server.addr: "localhost" is not host:port; did you mean localhost:5672?
sealmq: error: server.max_connections: 0 is not between 1 and 1000000
sealmq: error: storage.damage: "ignore" is not one of refuse, quarantine
sealmq: error: metrics.addr: port "99999" is not a number from 0 to 65535
sealmq: error: log.level: "loud" is not one of debug, info, warn, error
sealmq: error: storage.segment_bytes: must be at least twice server.max_line_bytes (4MiB)
sealmq: error: tls.cert, tls.key and tls.ca: must be set together
` + hint,
		},
		{
			name: "a wrong value is reported once",
			file: "server: {max_memory_bytes: 1}\nportal: {acme_hosts: mq.example.org, acme_agree: maybe}\n",
			want: `sealmq: error: server.max_memory_bytes: 1 is not between 1MiB and 1TiB
sealmq: error: portal.acme_agree: "maybe" is not one of yes, no
` + hint,
		},
		{
			name: "lists, sections, switches and nothing where a value belongs",
			file: "data: [a, b]\nserver:\n  addr: {a: 1}\n  max_connections: true\n  max_line_bytes:\nlog:\n",
			want: `sealmq: error: c.yaml: data: needs one value, not a list
sealmq: error: c.yaml: server.addr.a: unknown key; did you mean server.addr?
sealmq: error: c.yaml: server.max_connections: cannot be true; put it in quotes if it is a text
sealmq: error: c.yaml: server.max_line_bytes: has no value
` + hint,
		},
		{
			name: "contradictions about Redis",
			file: "redis: {addr: 'a:1', sentinels: 'b', password: x, password_file: y, cert: c, ca: d, queue: 'a b', db: -1}\n",
			want: `sealmq: error: redis.db: -1 is not between 0 and 1000000
sealmq: error: redis.addr and redis.sentinels: cannot be combined; the Sentinels know the server's address
sealmq: error: redis.sentinels and redis.master: must be set together
sealmq: error: redis.sentinels: "b" is not host:port
sealmq: error: redis.password and redis.password_file: cannot be combined
sealmq: error: redis.cert and redis.key: must be set together
sealmq: error: redis.tls: must be on for redis.ca and redis.cert
sealmq: error: redis.queue: must be a name of 1 to 200 bytes without blanks
` + hint,
		},
		{
			name: "addresses that only some roles use",
			file: "pipeline: {main: 'http://main:8000'}\nproxy: {trusted_networks: 10.0.0.0/33}\nportal: {url: 'http://portal', prefix: sealmq/, trusted_networks: lan}\nmail: {host: mail}\n",
			want: `sealmq: error: pipeline.main: the main server's address must have the form https://host:port
sealmq: error: proxy.trusted_networks: "10.0.0.0/33" is not a network such as 10.0.0.0/8
sealmq: error: portal.trusted_networks: "lan" is not a network such as 10.0.0.0/8
sealmq: error: portal.url: "http://portal" is not an address such as https://host:port
sealmq: error: portal.prefix: the path prefix "sealmq/" is not like /sealmq
sealmq: error: mail: mails need a host and a sender's address
` + hint,
		},
		{
			name: "addresses that are good",
			file: "pipeline: {main: 'https://main:8000/'}\nproxy: {trusted_networks: '10.0.0.0/8, 192.0.2.7'}\nportal: {url: 'https://portal/mq', prefix: /mq}\nmail: {host: mail, from: mq@example.org}\n",
		},
		{
			name: "misspelt environment variable",
			env:  map[string]string{"SEALMQ_SERVER_ADR": "x", "SEALMQ_STORAGE_CACHE_BYTES": "much"},
			want: `sealmq: error: environment SEALMQ_SERVER_ADR: unknown key; did you mean SEALMQ_SERVER_ADDR?
sealmq: error: environment SEALMQ_STORAGE_CACHE_BYTES: "much" is not a size such as 4096, 64KiB or 32MiB
` + hint,
		},
		{
			name: "variables that Kubernetes sets",
			env: map[string]string{"SEALMQ_SERVICE_HOST": "10.0.0.1", "SEALMQ_SERVICE_PORT_AMQP": "5672", "SEALMQ_PORT": "tcp://10.0.0.1:5672",
				"SEALMQ_PORT_5672_TCP_ADDR": "10.0.0.1"},
		},
		{
			name: "the same key twice",
			file: "log:\n  level: info\n  level: warn\n",
			want: "sealmq: error: read configuration \"c.yaml\": line 3: mapping key \"level\" already defined at line 2\nsealmq: hint: the keys of a section begin in the same column; \"sealmq config example\" shows all of them\n",
		},
		{
			name: "version written as a number",
			file: "tls:\n  min_version: 1.3\n",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			write(t, "c.yaml", tt.file)
			for k, v := range tt.env {
				t.Setenv(k, v)
			}
			_, err := runCLI(t, "--config", "c.yaml", "config", "check")
			if diff := cmp.Diff(tt.want, printed(err)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestConfigFileThatWasAskedForMustExist(t *testing.T) {
	t.Chdir(t.TempDir())
	_, err := runCLI(t, "--config", "nowhere.yaml", "config", "check")
	if want := "sealmq: error: read configuration \"nowhere.yaml\": no such file or directory\nsealmq: hint: check --config"; !strings.HasPrefix(printed(err), want) {
		t.Errorf("got %q, want %q", printed(err), want)
	}
}

func TestWrongUsageHasStatusTwo(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, tt := range []struct {
		args string
		want string
	}{
		{"confg", "sealmq: error: unknown command \"confg\" for \"sealmq\"\nsealmq: hint: did you mean \"sealmq config\"?\n"},
		{"config chek", "sealmq: error: unknown command \"chek\" for \"sealmq config\"\nsealmq: hint: did you mean \"sealmq config check\"?\n"},
		{"cehck", "sealmq: error: unknown command \"cehck\" for \"sealmq\"\nsealmq: hint: did you mean one of these: \"sealmq config check\", \"sealmq journal check\"?\n"},
		{"queue lsit", "sealmq: error: unknown command \"lsit\" for \"sealmq queue\"\nsealmq: hint: did you mean \"sealmq queue list\"?\n"},
		{"zzz", "sealmq: error: unknown command \"zzz\" for \"sealmq\"\nsealmq: hint: see \"sealmq --help\"\n"},
		{"config check --loud", "sealmq: error: unknown flag: --loud\nsealmq: hint: see \"sealmq config check --help\"\n"},
		{"version now", "sealmq: error: unexpected argument \"now\"\nsealmq: hint: a text with spaces needs quotes; see \"sealmq version --help\"\n"},
	} {
		_, err := runCLI(t, strings.Fields(tt.args)...)
		if diff := cmp.Diff(tt.want, printed(err)); diff != "" {
			t.Errorf("sealmq %s (-want +got):\n%s", tt.args, diff)
		}
		if got := exitCode(err); got != 2 {
			t.Errorf("sealmq %s: exit status %d, want 2", tt.args, got)
		}
	}
}

func TestSizeReadsWhatItPrints(t *testing.T) {
	for _, tt := range []struct {
		text string
		want Size
	}{{"0", 0}, {"4096", 4096}, {"64KiB", 64 << 10}, {"32 MiB", 32 << 20}, {"1_000", 1000}, {"3GiB", 3 << 30}, {"1 GB", 1e9}} {
		got, err := parseSize(tt.text)
		if err != nil || got != tt.want {
			t.Errorf("parseSize(%q) = %d, %v; want %d", tt.text, got, err, tt.want)
		}
		fl, n := pflag.NewFlagSet("", pflag.ContinueOnError), int64(0)
		addSizeFlag(fl, &n, "size", 0, "")
		if err := fl.Set("size", tt.text); err != nil || Size(n) != tt.want || fl.Lookup("size").Value.String() != tt.want.String() {
			t.Errorf("--size %q is %d, %v; want %d", tt.text, n, err, tt.want)
		}
		if again, err := parseSize(got.String()); err != nil || again != got {
			t.Errorf("%q is printed as %q, which reads as %d, %v", tt.text, got, again, err)
		}
	}
	for _, text := range []string{"", "MiB", "1.5MiB", "1XB", "99999999999GiB"} {
		if got, err := parseSize(text); err == nil {
			t.Errorf("parseSize(%q) = %d, want an error", text, got)
		}
	}
}

func TestDistance(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want int
	}{{"list", "list", 0}, {"lsit", "list", 1}, {"lsit", "init", 2}, {"recieve", "receive", 1}, {"", "abc", 3}, {"ca", "abc", 3}, {"abdc", "acbd", 2}} {
		if got, back := distance(tt.a, tt.b), distance(tt.b, tt.a); got != tt.want || back != tt.want {
			t.Errorf("from %q to %q: %d, back %d; want %d", tt.a, tt.b, got, back, tt.want)
		}
	}
}

func write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Clean(name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestConfigPageShowsTheExample(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "config.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, text, _ := strings.Cut(string(page), "```yaml\n")
	text, _, _ = strings.Cut(text, "```\n")
	if diff := cmp.Diff(configExample, text); diff != "" {
		t.Errorf("docs/config.md differs from the example (-example +page):\n%s", diff)
	}
}

// TestConfigPageShowsTheNames compares the table in docs/config.md with documentNames. -update
// writes it.
func TestConfigPageShowsTheNames(t *testing.T) {
	page := filepath.Join("..", "..", "docs", "config.md")
	b, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	code := func(s string) string {
		if s == "" {
			return ""
		}
		return "`" + s + "`"
	}
	d := defaultConfig()
	table := "| variable | in the files | here |\n| --- | --- | --- |\n"
	for _, n := range documentNames {
		here := n.say
		if n.key != "" {
			here = code(n.key)
			if n.part != "" {
				here += ", its " + n.part
			}
			if n.live {
				here += "; works as it is"
			}
			if !slices.ContainsFunc(d.fields(), func(f field) bool { return f.key == n.key }) {
				t.Errorf("%s%s: there is no key %s", n.env, n.yaml, n.key)
			}
		}
		table += "| " + code(n.env) + " | " + code(n.yaml) + " | " + here + " |\n"
	}
	const begin, end = "<!-- names -->\n", "<!-- end -->\n"
	before, rest, _ := strings.Cut(string(b), begin)
	has, after, ok := strings.Cut(rest, end)
	if !ok {
		t.Fatal("docs/config.md has no place for the table of names")
	}
	if *update {
		if err := os.WriteFile(page, []byte(before+begin+table+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
	} else if diff := cmp.Diff(table, has); diff != "" {
		t.Errorf("docs/config.md is stale; write it with -update (-code +page):\n%s", diff)
	}
}

func TestEnvExampleHasEveryDefault(t *testing.T) {
	t.Chdir(t.TempDir())
	out, err := runCLI(t, "config", "example", "--env")
	if err != nil {
		t.Fatal(err)
	}
	write(t, ".env", strings.ReplaceAll(out, "\n#SEALMQ_", "\nSEALMQ_"))
	if got, err := runCLI(t, "config", "check"); err != nil || got != "configuration is valid\n" {
		t.Errorf("got %q, %v", got, err)
	}
	for _, f := range (&Config{}).fields() {
		if !strings.Contains(out, "\n#"+envName(f.key)+"=") {
			t.Errorf("the example does not have %s", f.key)
		}
	}
}

// TestEnvironmentNames is about the order of all places that a setting can come from.
func TestEnvironmentNames(t *testing.T) {
	t.Chdir(t.TempDir())
	write(t, "sealmq.yaml", "log: {level: error}\nmain: {database: 'sqlite:file.db'}\nworker: {name: file}\n")
	write(t, ".env", "DATABASE_URL=mysql+pymysql://u:secret@h/dotenv\nSEALMQ_WORKER_NAME=own\nWORKER_ID=shared\nPROXY_PORT=1\nWORKER_COUNT=2\nOTHER=3\nREDIS_PASSWORD=secret\nREDIS_TLS=true\n")
	t.Setenv("REDIS_HOST", "queue.example.org")
	t.Setenv("REDIS_PORT", "tcp://10.0.0.1:6379")
	t.Setenv("REDIS_DB", "3")
	t.Setenv("REDIS_USERNAME", "sealmq")
	t.Setenv("REDIS_QUEUE_NAME", "other_queue")
	t.Setenv("DATABASE_URL", "mysql+pymysql://u:secret@h/real")
	t.Setenv("LOG_LEVEL", "loud")
	t.Setenv("PORTAL_PORT", "tcp://10.0.0.1:80")
	t.Setenv("MAINTENANCE_MODE", "on")
	var out, notes bytes.Buffer
	if err := run(t.Context(), []string{"config", "check"}, &out, &notes); err != nil {
		t.Fatal(err)
	}
	want := `log.level: error  # sealmq.yaml
worker.name: own  # .env:2: SEALMQ_WORKER_NAME
main.database: mysql+pymysql://u:***@h/real  # environment DATABASE_URL
redis.addr: queue.example.org:6379  # environment REDIS_HOST
redis.user: sealmq  # environment REDIS_USERNAME
redis.password: ***  # .env:7: REDIS_PASSWORD
redis.db: 3  # environment REDIS_DB
redis.queue: other_queue  # environment REDIS_QUEUE_NAME
redis.tls: on  # .env:8: REDIS_TLS
configuration is valid
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	want = `sealmq: .env:4: PROXY_PORT: is not read from here; "sealmq config import .env" carries it over to sealmq.yaml
sealmq: .env:5: WORKER_COUNT: nothing reads it
sealmq: environment LOG_LEVEL is not taken: "loud" is no level of a log
sealmq: environment MAINTENANCE_MODE: nothing reads it
sealmq: environment REDIS_PORT is not taken: it is no port, but what Kubernetes says about a service
`
	if diff := cmp.Diff(want, notes.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestPathsAreRelativeToTheFile(t *testing.T) {
	t.Chdir(t.TempDir())
	for _, dir := range []string{"etc", "var"} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	write(t, "etc/revoked.pem", "")
	write(t, "etc/sealmq.yaml", "data: state\ntls: {revoked: revoked.pem}\nlog: {folder: off}\nmain: {database: 'sqlite:db/records.db'}\nportal: {cert: /p.crt, key: /p.key}\n")
	write(t, "etc/moved.yaml", "data: var\n")
	t.Setenv("SEALMQ_IDENTITIES", "people")
	out, err := runCLI(t, "--config", "etc/sealmq.yaml", "config", "check")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"data: etc/state ", "identities: people ", "tls.revoked: etc/revoked.pem ", "log.folder: off ", "main.database: sqlite:etc/db/records.db ", "portal.cert: /p.crt "} {
		if !strings.Contains(out, "\n"+want) && !strings.HasPrefix(out, want) {
			t.Errorf("%q is missing in:\n%s", want, out)
		}
	}
	_, err = runCLI(t, "--config", "etc/moved.yaml", "config", "check")
	const moved = "sealmq: error: data: var is relative to the folder of the configuration file and means etc/var, which does not exist, but there is one in the current folder; write the whole path\n"
	if got := printed(err); !strings.HasPrefix(got, moved) {
		t.Errorf("got %q, want %q", got, moved)
	}
}

func TestConfigCheckOfARole(t *testing.T) {
	t.Chdir(t.TempDir())
	t.Setenv("SEALMQ_PROXY_RATE", "5")
	out, err := runCLI(t, "config", "check", "--role", "proxy")
	want := `sealmq: error: role proxy: pipeline.broker: names no broker; set it, run the role broker in the same process, or set redis.addr
sealmq: error: role proxy: pipeline.main: names no main server; set it, or run the role main in the same process
sealmq: error: role proxy: sealmq-data/ca/root.crt is missing; docs/operations/apart.md says how to enroll this host
sealmq: error: role proxy: sealmq-data/certs/proxy.crt is missing; docs/operations/apart.md says how to enroll this host
sealmq: error: role proxy: sealmq-data/certs/proxy.key is missing; docs/operations/apart.md says how to enroll this host
`
	if diff := cmp.Diff(want, printed(err)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if !strings.Contains(out, "proxy.rate: 5  # environment SEALMQ_PROXY_RATE\n") || !strings.Contains(out, "proxy.addr: 127.0.0.1:8001  # default\n") || strings.Contains(out, "worker.") {
		t.Errorf("got:\n%s", out)
	}
	if out, err = runCLI(t, "config", "check", "--role", "proxy,worker,main,broker"); err != nil || !strings.HasSuffix(out, "\nconfiguration is valid\n") {
		t.Errorf("all roles lack something: %v\n%s", err, out)
	}
	for role, want := range map[string][]string{"broker": {"backup.schedule", "ca.stale_close", "pipeline.main"}, "main": {"backup.schedule", "ca.renew_for"}} {
		var out, notes bytes.Buffer
		if err := run(t.Context(), []string{"config", "check", "--role", role}, &out, &notes); err != nil {
			t.Fatal(err)
		}
		for _, key := range want {
			if !strings.Contains(out.String(), "\n"+key+": ") {
				t.Errorf("role %s lacks %s:\n%s", role, key, &out)
			}
		}
		if told := strings.HasPrefix(notes.String(), "sealmq: role broker: pipeline.main: names no main server; "); told != (role == "broker") {
			t.Errorf("role %s: got the notes %q", role, &notes)
		}
	}
	if _, err = runCLI(t, "config", "check", "--role", "cook"); exitCode(err) != 2 {
		t.Errorf("there is a role cook: %v", err)
	}
}
