package main

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"

	"github.com/sealmq/sealmq/internal/testing/pipelineproc"
	"github.com/sealmq/sealmq/internal/testing/program"
	"github.com/sealmq/sealmq/internal/testing/server"
)

// example is the path of a file below examples.
func example(t *testing.T, name ...string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join(append([]string{"..", "..", "examples"}, name...)...))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// TestExamplesSubmit runs send_message.py and send_message.sh as the client of a real node.
func TestExamplesSubmit(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("they are run where there is a shell")
	}
	t.Parallel()
	python, curl := "", ""
	t.Run("needs", func(t *testing.T) { python, curl = tool(t, "python3", ""), tool(t, "curl", "") })
	if python == "" || curl == "" {
		t.Skip("python3 and curl are needed")
	}
	w := newNodeWorld(t)
	dir := t.TempDir()
	w.run("cert", "issue", "client", "--out", filepath.Join(dir, "certs"))
	text := "two \"lines\",\r\n\ta backslash \\, tabs\t\tand ümläute"
	for _, e := range []struct {
		name string
		args func(sender, message, key string) []string
	}{
		{"send_message.py", func(sender, message, key string) []string {
			return []string{python, example(t, "send_message.py"), "--sender", sender, "--message", message, "--id", key, "--url", w.URL(pipelineproc.Proxy)}
		}},
		{"send_message.sh", func(sender, message, key string) []string {
			return []string{"sh", example(t, "send_message.sh"), sender, message, key}
		}},
	} {
		t.Run(e.name, func(t *testing.T) {
			run := func(sender, message, key string) (answer map[string]any, output string, err error) {
				args := e.args(sender, message, key)
				cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
				cmd.Dir, cmd.Env = dir, append(os.Environ(), "PROXY_URL="+w.URL(pipelineproc.Proxy))
				out, err := cmd.CombinedOutput()
				_ = json.Unmarshal(out, &answer)
				return answer, string(out), err
			}
			first, out, err := run("+4915200000000", text, e.name)
			if err != nil || first["status"] != "queued" {
				t.Fatalf("%v\n%s", err, out)
			}
			if again, out, err := run("+4915200000000", text, e.name); err != nil || again["message_id"] != first["message_id"] || again["duplicate"] != true {
				t.Errorf("again: %v\n%s", err, out)
			}
			if _, out, err := run("123", text, "bad-number"); err == nil || !strings.Contains(out, "Invalid phone number format") {
				t.Errorf("a bad number: %v\n%s", err, out)
			}
			id, _ := first["message_id"].(string)
			w.eventually(http.StatusOK, "/api/v1/clients/client/messages/"+id)
			if shown := w.run("message", "show", id, "--client", "client", "--json"); !strings.Contains(shown, literal(t, text)) {
				t.Errorf("the message is not what was submitted: %s", shown)
			}
		})
	}
}

func literal(t *testing.T, s string) string {
	t.Helper()
	b, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// TestExamplesOfClients publishes and consumes with the clients in other languages. The page
// shows them as they are.
func TestExamplesOfClients(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds the program and starts brokers")
	}
	t.Parallel()
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "clients.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range []struct{ interpreter, file string }{{"python3", "client.py"}, {"node", "client.js"}} {
		t.Run(e.file, func(t *testing.T) {
			source, err := os.ReadFile(example(t, e.file))
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(string(page), "\n"+string(source)+"```\n") {
				t.Errorf("docs/clients.md does not show %s as it is", e.file)
			}
			tool(t, e.interpreter, "")
			client := e.interpreter + " " + example(t, e.file) + " sealmq-identities/"
			out, err := paste(t, "set -eo pipefail\n"+endJobs+`sealmq serve broker > node.log 2>&1 &
sleep 1
sealmq identity create alice bob 2>&1
sealmq bind letters post bob
printf '%s\n' '{"text":"grüße","n":1}' '{"text":"again","message_id":"m2"}' | `+client+`alice/alice publish post bob
echo '{"text":"again","message_id":"m2"}' | `+client+`alice/alice publish post bob
`+client+`bob/bob consume letters 2
sealmq queue list --json
echo sealed | sealmq seal - --lines --as alice --to bob=sealmq-identities/bob/keys/bob.pub | `+client+`alice/alice publish post bob
`+client+`bob/bob consume letters 1 | sealmq open - --lines --as bob
echo '{}' | `+client+`bob/bob publish post nobody 2>&1 || echo "status $?"
`)
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			rest := string(out)
			for _, want := range []string{`"n":1`, `"m2"`, `"ready":0`, `"acked":2`, `"message":"sealed"`, `"sender":"alice"`, "publish: Error: No queues bound", "status 1"} {
				_, after, found := strings.Cut(strings.ReplaceAll(rest, `": `, `":`), want)
				if !found {
					t.Fatalf("%q is missing, or not at its place, in:\n%s", want, out)
				}
				rest = after
			}
		})
	}
}

// TestExamplesOfCertificates runs the scripts that have the names and arguments of the design
// documents' batch files.
func TestExamplesOfCertificates(t *testing.T) {
	if testing.Short() || runtime.GOOS == "windows" {
		t.Skip("it builds the program and needs a shell")
	}
	dir := t.TempDir()
	run := func(script string, args ...string) (string, error) {
		cmd := exec.CommandContext(t.Context(), "sh", append([]string{example(t, "certificates", script+".sh")}, args...)...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "PATH="+filepath.Dir(program.Path(t))+string(os.PathListSeparator)+os.Getenv("PATH"))
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	for _, step := range []struct {
		line  string // script and arguments
		fails bool
		want  string
	}{
		{"init_ca", false, "sealmq-data/ca/root.crt"},
		{"init_ca", false, "Nothing to do"},
		{"generate_cert", true, "usage: "},
		{"generate_cert acme-02 shop.example 90", false, "acme-02.crt"},
		{"generate_cert acme-03", false, "acme-03.crt"},
		{"generate_cert proxy", true, "--role proxy"},
		{"generate_cert proxy default 365 --role proxy", false, "role proxy"},
		{"verify_cert acme-02.crt", false, "not revoked"},
		{"list_certs", false, "acme-03"},
		{"renew_cert acme-02 30", false, "acme-02.crt"},
		{"revoke_cert acme-02 lost", false, "revoked every certificate of acme-02"},
		{"verify_cert acme-02.crt", true, "is revoked"},
		{"list_certs revoked", false, "acme-02"},
	} {
		script, rest, _ := strings.Cut(step.line, " ")
		out, err := run(script, strings.Fields(rest)...)
		if (err != nil) != step.fails || !strings.Contains(out, step.want) {
			t.Errorf("%s: %v\n%s", step.line, err, out)
		}
	}
	for _, name := range []string{"acme-02.key", "acme-02.csr", "acme-02.crt", "acme-03.key"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
}

// TestBatchFilesCallTheSame: a batch file runs the commands of the shell script beside it,
// with the same options and defaults.
func TestBatchFilesCallTheSame(t *testing.T) {
	scripts, err := filepath.Glob(example(t, "certificates", "*.sh"))
	if err != nil || len(scripts) < 6 {
		t.Fatal(scripts, err)
	}
	command := regexp.MustCompile(`(?m)^(?:exec )?(sealmq .*?)\s*$`)
	option := regexp.MustCompile(`^(sealmq|[a-z]+|--[a-z]+|\.)$`)
	calls := func(file string) (list []string) {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range command.FindAllStringSubmatch(string(b), -1) {
			var words []string
			for _, w := range strings.Fields(m[1]) {
				if option.MatchString(w) {
					words = append(words, w)
				}
			}
			list = append(list, strings.Join(words, " "))
		}
		return list
	}
	for _, sh := range scripts {
		bat := strings.TrimSuffix(sh, ".sh") + ".bat"
		if got, want := strings.Join(calls(bat), "\n"), strings.Join(calls(sh), "\n"); got != want || want == "" {
			t.Errorf("%s calls\n%s\nand %s\n%s", filepath.Base(bat), got, filepath.Base(sh), want)
		}
	}
}

// tool is the path of a program that is not ours. Without it the test is skipped, and
// fails where continuous integration promises to have it.
func tool(t *testing.T, name, variable string) string {
	t.Helper()
	if path := os.Getenv(variable); variable != "" && path != "" {
		return path
	}
	return server.Program(t, name)
}
