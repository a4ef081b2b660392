package main

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/mtls"
	"github.com/sealmq/sealmq/pipeline"
	"github.com/sealmq/sealmq/pipeline/enroll"
)

// enrolFiles is where the certificate of a name is kept: an identity's folder, or for a role of
// this node the data folder.
func enrolFiles(cfg Config, name string, role sealmq.Role, out string) (enroll.Files, error) {
	if err := checkFileName(name); err != nil {
		return enroll.Files{}, err
	}
	switch {
	case out != "":
		return enroll.Files{Files: mtls.FilesIn(out, name)}, nil
	case role == sealmq.RoleProxy || role == sealmq.RoleWorker || role == sealmq.RoleServer:
		p := ca.In(cfg.Data)
		return enroll.Files{Files: mtls.FilesIn(p.Certs(), string(role)), Root: p.Root, Intermediate: p.Intermediate}, nil
	}
	return enroll.Files{Files: mtls.FilesIn(filepath.Join(cfg.Identities, name), name)}, nil
}

func newCertEnrollCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "enroll",
		Short: "Get a certificate for this machine with an enrolment token",
		Long: `Make a key, have the main server's authority sign its certificate, and write both where the other commands look
for them: in the folder of an identity, or in the data folder if the token is for a role of "sealmq serve".
The token says whom to ask and which authority to trust, so nothing is trusted before; the key does not
leave this machine. An interrupted enrolment can be repeated with the same token.

The token is the content of --token-file, or what comes on standard input; in --token others on this machine
can see it for a moment.`,
		Example: `  sealmq cert enroll --token-file token.txt
  ssh mq.example.org sealmq cert token acme-01 | sealmq cert enroll`,
	}
	f := cmd.Flags()
	token := f.String("token", "", "the `token`")
	file := f.String("token-file", "", "`file` with the token")
	server := f.String("server", "", "`address` of the main server, https://host:port (default: the token's)")
	out := f.String("out", "", "`folder` for the files")
	replace := f.Bool("replace", false, "replace a certificate that is there, and its key")
	return standalone(cmd, func(a call) error {
		text, err := readToken(a, *token, *file)
		if err != nil {
			return err
		}
		t, err := pipeline.ParseEnrolmentToken(text)
		if err != nil {
			return usage(err, "\"sealmq cert token NAME\" makes one where the main server is")
		}
		if *server != "" {
			if err := pipeline.CheckMainAddress(*server); err != nil {
				return usage(fmt.Errorf("--server: %w", err), "")
			}
		}
		cfg, err := clientConfig(cmd)
		if err != nil {
			return err
		}
		files, err := enrolFiles(cfg, t.Name, t.Role, *out)
		if err != nil {
			return err
		}
		r, err := enroll.Enroll(a.ctx, enroll.Request{Token: t, Server: *server, Files: files, Replace: *replace})
		if err != nil {
			return err
		}
		if r.Skew.Abs() > time.Minute {
			a.note("the clock of this machine differs from the main server's by %v; set it, or connections may be refused", r.Skew.Abs())
		}
		if err := a.facts(nil, issuedInfo{Certificate: files.Cert, Key: files.Key, certInfo: describe(r.Leaf)},
			"certificate", fmt.Sprintf("%s  (%s, role %s, until %s, serial %s)", files.Cert, t.Name, t.Role, stampText(r.Leaf.NotAfter), mtls.Serial(r.Leaf)), "key", files.Key, "authority", files.CA); err != nil {
			return err
		}
		a.notes(afterEnrolment(t, files, *out))
		return nil
	})
}

func readToken(a call, token, file string) (string, error) {
	switch {
	case token != "" && file != "":
		return "", usagef("--token and --token-file cannot be combined")
	case token != "":
		return token, nil
	case file != "":
		data, err := durable.ReadFile(durable.OS(), file, pipeline.MaxEnrolmentToken)
		if err != nil {
			return "", fmt.Errorf("read the token: %w", err)
		}
		return string(data), nil
	case terminalOf(a.cmd) != nil:
		a.note("paste the enrolment token, then Enter and the end of input (Ctrl-D)")
	}
	data, err := io.ReadAll(io.LimitReader(a.cmd.InOrStdin(), pipeline.MaxEnrolmentToken+1))
	if err == nil && len(data) == 0 {
		err = withHint(errors.New("there is no token"), "name a file with --token-file, or write the token to standard input")
	}
	return string(data), err
}

// afterEnrolment says what to do next.
func afterEnrolment(t pipeline.EnrolmentToken, files enroll.Files, out string) []string {
	renews := fmt.Sprintf("\"sealmq cert renew %s --watch\" renews it before it expires; run it as a service", t.Name)
	switch {
	case out != "":
		return []string{"use it with --cert " + shellWord(files.Cert) + " --cert-key " + shellWord(files.Key) + " --ca " + shellWord(files.CA), renews + ", with --out " + shellWord(out)}
	case t.Role == sealmq.RoleProxy || t.Role == sealmq.RoleWorker:
		return []string{fmt.Sprintf("set pipeline.main to %s and pipeline.broker to the broker's address, then run \"sealmq serve %s\", which also renews the certificate", t.Server, t.Role)}
	}
	return []string{"use it with --as " + t.Name, renews}
}
