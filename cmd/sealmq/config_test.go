package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/knadh/koanf/parsers/yaml"
	"github.com/knadh/koanf/providers/rawbytes"
	"github.com/knadh/koanf/v2"

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
	want := "data: from-flag\nserver.addr: 127.0.0.1:2\nlog.level: debug\nconfiguration is valid\n"
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
			name: "lists, sections, switches and nothing where a value belongs",
			file: "data: [a, b]\nserver:\n  addr: {a: 1}\n  max_connections: true\n  max_line_bytes:\nlog:\n",
			want: `sealmq: error: c.yaml: data: needs one value, not a list
sealmq: error: c.yaml: server.addr.a: unknown key; did you mean server.addr?
sealmq: error: c.yaml: server.max_connections: cannot be true; put it in quotes if it is a text
sealmq: error: c.yaml: server.max_line_bytes: has no value
` + hint,
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
			want: "sealmq: error: read configuration \"c.yaml\": line 3: mapping key \"level\" already defined at line 2\n",
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
	if want := "sealmq: error: read configuration \"nowhere.yaml\": no such file or directory\n"; printed(err) != want {
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
	}{{"0", 0}, {"4096", 4096}, {"64KiB", 64 << 10}, {"32 MiB", 32 << 20}, {"1_000", 1000}, {"3GiB", 3 << 30}} {
		got, err := parseSize(tt.text)
		if err != nil || got != tt.want {
			t.Errorf("parseSize(%q) = %d, %v; want %d", tt.text, got, err, tt.want)
		}
		if again, err := parseSize(got.String()); err != nil || again != got {
			t.Errorf("%q is printed as %q, which reads as %d, %v", tt.text, got, again, err)
		}
	}
	for _, text := range []string{"", "MiB", "1.5MiB", "1MB", "99999999999GiB"} {
		if got, err := parseSize(text); err == nil {
			t.Errorf("parseSize(%q) = %d, want an error", text, got)
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
