package main

import (
	"bytes"
	"context"
	"crypto/sha1" //nolint:gosec // Windows and macOS name certificates by it
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/mtls"
)

// A systemStore is where an operating system keeps the authorities that its programs trust.
type systemStore struct {
	name string
	// dir takes a file for each authority; empty if the commands take the certificate.
	dir string
	// trust and untrust are commands that are run after the file was written or removed. FILE
	// stands for the certificate's file and SHA1 for its digest.
	trust, untrust [][]string
}

// linuxStores are tried in this order: the first whose folder is there.
var linuxStores = []systemStore{
	{"Debian, Ubuntu, Alpine", "/usr/local/share/ca-certificates", [][]string{{"update-ca-certificates"}}, [][]string{{"update-ca-certificates", "--fresh"}}},
	{"Fedora, RHEL", "/etc/pki/ca-trust/source/anchors", [][]string{{"update-ca-trust"}}, [][]string{{"update-ca-trust"}}},
	{"openSUSE", "/etc/pki/trust/anchors", [][]string{{"update-ca-certificates"}}, [][]string{{"update-ca-certificates"}}},
	{"Arch", "/etc/ca-certificates/trust-source/anchors", [][]string{{"update-ca-trust"}}, [][]string{{"update-ca-trust"}}},
}

const macKeychain = "/Library/Keychains/System.keychain"

// storeOf is the store of a system.
func storeOf(goos string, isFolder func(string) bool) (systemStore, error) {
	switch goos {
	case "linux":
		for _, s := range linuxStores {
			if isFolder(s.dir) {
				return s, nil
			}
		}
	case "darwin":
		return systemStore{name: "macOS", trust: [][]string{{"security", "add-trusted-cert", "-d", "-r", "trustRoot", "-k", macKeychain, "FILE"}},
			untrust: [][]string{{"security", "remove-trusted-cert", "-d", "FILE"}, {"security", "delete-certificate", "-Z", "SHA1", macKeychain}}}, nil
	case "windows":
		return systemStore{name: "Windows", trust: [][]string{{"certutil", "-addstore", "-f", "Root", "FILE"}}, untrust: [][]string{{"certutil", "-delstore", "Root", "SHA1"}}}, nil
	}
	return systemStore{}, withHint(errors.New("this system's store of authorities is not known"), "install ca-certificates, or add the authority's ca.crt with the system's own tools")
}

// A trustChange is an authority's way into a store, or out of it.
type trustChange struct {
	store  systemStore
	cert   *x509.Certificate
	source string // the file that it was read from
	remove bool
}

// file is the certificate's own file in the store, or the one that it was read from.
func (c *trustChange) file() string {
	if c.store.dir == "" {
		return c.source
	}
	return filepath.Join(c.store.dir, "sealmq-"+mtls.Fingerprint(c.cert)[:16]+".crt")
}

func (c *trustChange) commands() (list [][]string) {
	sum := sha1.Sum(c.cert.Raw) //nolint:gosec // see the import
	from := c.store.trust
	if c.remove {
		from = c.store.untrust
	}
	for _, words := range from {
		command := make([]string, len(words))
		for i, w := range words {
			switch w {
			case "FILE":
				w = c.file()
			case "SHA1":
				w = strings.ToUpper(hex.EncodeToString(sum[:]))
			}
			command[i] = w
		}
		list = append(list, command)
	}
	return list
}

// steps say what apply does.
func (c *trustChange) steps() (lines []string) {
	switch {
	case c.store.dir == "":
	case c.remove:
		lines = append(lines, "remove "+shellWord(c.file()))
	default:
		lines = append(lines, "write "+shellWord(c.file()))
	}
	for _, command := range c.commands() {
		for i, w := range command {
			command[i] = shellWord(w)
		}
		lines = append(lines, "run "+strings.Join(command, " "))
	}
	return lines
}

// apply changes the store. It can be repeated.
func (c *trustChange) apply(ctx context.Context) error {
	if c.store.dir != "" {
		var err error
		if c.remove {
			err = os.Remove(c.file())
		} else {
			err = durable.WriteFile(durable.OS(), c.file(), mtls.EncodeCertificates(c.cert), 0o644)
		}
		if err != nil {
			return mayNot(err)
		}
	}
	for _, command := range c.commands() {
		out, err := exec.CommandContext(ctx, command[0], command[1:]...).CombinedOutput() //nolint:gosec // commands of the table above
		if err != nil {
			return mayNot(withHint(fmt.Errorf("%s: %w: %s", command[0], err, lastLine(out)), "repeat the command as root or administrator; --dry-run prints what it does"))
		}
	}
	return nil
}

func lastLine(out []byte) string {
	out = bytes.TrimSpace(out)
	return string(out[bytes.LastIndexByte(out, '\n')+1:])
}

// mayNot says what to do if the system refuses the change.
func mayNot(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return withHint(fmt.Errorf("the system's store can be changed by its administrator only: %w", err), "run the command with sudo, on Windows as administrator; --dry-run prints what it does")
	}
	return err
}

// checkRoot returns an error unless a certificate is a root of SealMQ: the store is for nothing else.
func checkRoot(certs []*x509.Certificate, own *x509.Certificate, now time.Time) error {
	const hint = "name the ca.crt of a data folder, or of an identity"
	c := certs[0]
	switch {
	case len(certs) != 1:
		return withHint(fmt.Errorf("the file has %d certificates", len(certs)), hint)
	case !c.BasicConstraintsValid || !c.IsCA || c.CheckSignatureFrom(c) != nil:
		return withHint(fmt.Errorf("%s is no certificate of an authority that signed itself", c.Subject), hint)
	case (own == nil || !own.Equal(c)) && !strings.HasPrefix(c.Subject.CommonName, ca.RootName+" "):
		return withHint(fmt.Errorf("%s is not an authority of SealMQ", c.Subject), hint)
	case now.After(c.NotAfter):
		return fmt.Errorf("%s expired on %s", c.Subject, c.NotAfter.UTC().Format(time.DateOnly))
	}
	return nil
}

func newCACmd() *cobra.Command {
	return group("ca", "Have the programs of this system trust the authority", newCATrustCmd(false), newCATrustCmd(true))
}

// newCATrustCmd is "ca trust" and "ca untrust".
func newCATrustCmd(remove bool) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "trust [FILE]",
		Short: "Add the authority to the system's store, so that its programs trust its servers",
		Long: `Add the authority's root to the store of the operating system, so that curl and others on this machine trust
the certificates that it issued. FILE is its ca.crt; without it the root of the data folder is taken. All users
trust every certificate of this authority then, so only trust one of your own. It needs root or an
administrator. Browsers may have stores of their own.`,
		Example: `  sudo sealmq ca trust
  sealmq ca trust ca.crt --dry-run`,
	}
	done := "%s is trusted by the programs of this system: %s"
	if remove {
		cmd.Use, cmd.Short, cmd.Long = "untrust [FILE]", "Take the authority out of the system's store again", "Take the root out of the system's store that \"sealmq ca trust\" with the same FILE has added."
		cmd.Example = "  sudo sealmq ca untrust"
		done = "%s is out of the store: %s"
	}
	dry := cmd.Flags().Bool("dry-run", false, "print what would be done, and do nothing")
	return configured(cmd, func(a call, cfg Config) error {
		own := ca.In(cfg.Data).Root
		file := own
		if len(a.args) > 0 {
			file = a.args[0]
		}
		certs, err := mtls.ReadCertificates(file)
		if errors.Is(err, fs.ErrNotExist) && len(a.args) == 0 {
			return withHint(fmt.Errorf("there is no authority in %s", cfg.Data), "name its ca.crt")
		}
		if err != nil {
			return err
		}
		var ours *x509.Certificate
		if list, err := mtls.ReadCertificates(own); err == nil {
			ours = list[0]
		}
		when := time.Now()
		if remove {
			when = certs[0].NotBefore // an expired one must go too
		}
		if err := checkRoot(certs, ours, when); err != nil {
			return err
		}
		if file, err = filepath.Abs(file); err != nil {
			return err
		}
		store, err := storeOf(runtime.GOOS, func(dir string) bool { info, err := os.Stat(dir); return err == nil && info.IsDir() })
		if err != nil {
			return err
		}
		c := trustChange{store: store, cert: certs[0], source: file, remove: remove}
		answer := result{"system": store.name, "file": c.file(), "fingerprint": mtls.Fingerprint(c.cert), "steps": c.steps(), "done": !*dry}
		if *dry {
			return a.report(nil, answer, "%s", strings.Join(c.steps(), "\n"))
		}
		if _, err := os.Stat(c.file()); remove && store.dir != "" && errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("%s is not in the store: there is no %s", c.cert.Subject.CommonName, c.file())
		}
		if err := c.apply(a.ctx); err != nil {
			return err
		}
		return a.report(nil, answer, done, c.cert.Subject.CommonName, c.file())
	})
}
