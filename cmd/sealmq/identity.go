package main

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/keydir"
	"github.com/sealmq/sealmq/mtls"
	"github.com/sealmq/sealmq/seal"
	"github.com/sealmq/sealmq/seal/ciphermq"
)

// An identity is a person's folder: NAME.key and NAME.crt for connections, ca.crt, keys/NAME.key
// and keys/NAME.pub for sealed messages, and pins.json. It is laid out like what "sealmq cert
// issue --out" and "sealmq key generate" write.

// identityDir is the folder of an identity, and whether it is there. A name that is no file
// name has none.
func identityDir(cfg Config, name string) (dir string, ok bool) {
	if cfg.Identities == "" || checkFileName(name) != nil {
		return "", false
	}
	dir = filepath.Join(cfg.Identities, name)
	info, err := os.Stat(dir)
	return dir, err == nil && info.IsDir()
}

// certDir is the folder of the certificate of a name, for commands that replace it: out, or the
// identity's, since that is the one that --as uses. Empty stands for the data folder's.
func certDir(cfg Config, name, out string) string {
	if dir, ok := identityDir(cfg, name); ok && out == "" && exists(filepath.Join(dir, name+".crt")) {
		return dir
	}
	return out
}

func checkFileName(name string) error {
	if err := sealmq.CheckName("name", name); err != nil {
		return usage(err, "")
	}
	if strings.ContainsAny(name, `/\`) || strings.HasPrefix(name, ".") {
		return withHint(usagef("%q is not a file name", name), "a name is one word, for example %s; SEALMQ_IDENTITIES is the folder with the identities", shellWord(nameInPath(name)))
	}
	return nil
}

// nameInPath is the name that somebody meant who gave a path.
func nameInPath(path string) string {
	words := strings.FieldsFunc(path, func(r rune) bool { return r == '/' || r == '\\' })
	if len(words) == 0 {
		return "alice"
	}
	return cmp.Or(strings.Trim(strings.TrimSuffix(words[len(words)-1], ".crt"), "."), "alice")
}

// keyDirs are the folders in which the sealing key of a name may be: the identity's, then the
// data folder's.
func keyDirs(cfg Config, name string) []string {
	dirs := []string{keysDir(cfg.Data)}
	if dir, ok := identityDir(cfg, name); ok {
		dirs = append([]string{keysDir(dir)}, dirs...)
	}
	return dirs
}

func newIdentityCmd() *cobra.Command {
	return group("identity", "Make and list the folders of people, with their certificates and keys", newIdentityCreateCmd(), newIdentityListCmd())
}

// identityInfo describes an identity.
type identityInfo struct {
	Name        string `json:"name"`
	Folder      string `json:"folder"`
	Certificate string `json:"certificate,omitempty"`
	Until       string `json:"until,omitempty"`
	Problem     string `json:"problem,omitempty"` // with the certificate or the key
	Request     string `json:"request,omitempty"` // if there is no certificate yet
	SealingKey  string `json:"sealing_key,omitempty"`
	Fingerprint string `json:"fingerprint,omitempty"`
	Published   *bool  `json:"published,omitempty"` // nil if nobody asked the broker
}

func newIdentityCreateCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "create NAME...",
		Short: "Make a person's keys and certificate, and publish the sealing key",
		Long: `Make what is missing in the folder of each NAME, below sealmq-identities (SEALMQ_IDENTITIES names another folder):

  NAME.key, NAME.crt, ca.crt   for connections
  keys/NAME.key, keys/NAME.pub for sealed messages

Then publish the sealing key in the broker's key directory. "--as NAME" uses the folder. With --passphrase
keys/NAME.key is encrypted, and "sealmq receive" asks for the passphrase.

The certificate comes from the authority in the data folder, if it is here. Otherwise send NAME.csr to its
operator, who runs "sealmq cert sign NAME NAME.csr --out FOLDER" and sends NAME.crt and ca.crt back. Put both
into the folder, and run this command again. So no private key leaves the machine on which it was made.`,
		Example: `  sealmq identity create alice bob`,
		Args:    cobra.MinimumNArgs(1),
	}
	conn, protect := &connectFlags{cmd: cmd}, addProtectFlags(cmd)
	configFlag(cmd.Flags(), "addr", "server.addr", "address of the broker, `host:port`")
	addServerName(conn)
	return configured(cmd, func(a call, cfg Config) error {
		for _, name := range a.args {
			if err := checkFileName(name); err != nil {
				return err
			}
			if err := checkPerson(cfg, name); err != nil {
				return err
			}
		}
		for _, name := range a.args {
			if err := createIdentity(a, cfg, conn, protect, name); err != nil {
				return err
			}
		}
		return nil
	})
}

// checkPerson refuses a name for which the authority here would not sign. A folder without a
// certificate would hide the certificate that the name has in the data folder.
func checkPerson(cfg Config, name string) error {
	role := mtls.ReservedRole(name)
	if role == sealmq.RoleClient || !exists(ca.In(cfg.Data).Root) || exists(filepath.Join(cfg.Identities, name, name+".crt")) {
		return nil
	}
	return withHint(usagef("the name %q means the role %q by convention, so it is no person's", name, string(role)),
		"choose another name; \"sealmq cert issue %s --role %s\" makes a certificate of that role", name, role)
}

// completeCertificate restores what a certificate needs beside it. A new key would not belong to
// it, so a lost one is an error.
func completeCertificate(cfg Config, dir, name string) error {
	file := func(ext string) string { return filepath.Join(dir, name+ext) }
	if !exists(file(".key")) {
		return withHint(fmt.Errorf("there is %s, but not its key %s", file(".crt"), file(".key")),
			"put the key back; if it is lost, \"sealmq cert issue %s --replace\" makes a new one where the authority is, and elsewhere remove %s and run this again", name, file(".crt"))
	}
	authority := filepath.Join(dir, "ca.crt")
	if exists(authority) {
		return nil
	}
	root, err := os.ReadFile(ca.In(cfg.Data).CA)
	if err != nil {
		return withHint(fmt.Errorf("there is no %s", authority), "put the authority's ca.crt there; its operator has it in the folder certs of the data folder")
	}
	return durable.WriteFile(durable.OS(), authority, root, 0o644)
}

func createIdentity(a call, cfg Config, conn *connectFlags, protect *protectFlags, name string) error {
	dir := filepath.Join(cfg.Identities, name)
	published := false
	info := identityInfo{Name: name, Folder: dir, Published: &published}
	if exists(filepath.Join(dir, name+".crt")) {
		if err := completeCertificate(cfg, dir, name); err != nil {
			return err
		}
	}
	key, err := keyOrNew(name, filepath.Join(dir, name+".key"), ca.ECDSA)
	if err != nil {
		return err
	}
	base := filepath.Join(keysDir(dir), name)
	info.SealingKey = base + ".key"
	if _, err := os.Stat(info.SealingKey); errors.Is(err, fs.ErrNotExist) {
		sealing, err := seal.Generate(seal.DefaultSuite, 0, ciphermq.Suites{})
		if err != nil {
			return err
		}
		if err := lostKey(info.SealingKey); err != nil {
			return err
		}
		private, err := protect.encrypt(sealing.PEM())
		if err != nil {
			return err
		}
		if err := writeKeyPair(private, sealing.Public().PEM(), info.SealingKey, base+".pub"); err != nil {
			return err
		}
	}
	public, err := readPublicKey(base + ".pub")
	if err != nil {
		return err
	}
	info.Fingerprint = public.Fingerprint()
	info.Certificate = filepath.Join(dir, name+".crt")
	if _, err := os.Stat(info.Certificate); errors.Is(err, fs.ErrNotExist) {
		csr, err := ca.NewCSR(name, key)
		if err != nil {
			return err
		}
		signed, err := signHere(a, cfg, name, dir, csr)
		if err != nil {
			return err
		}
		if !signed {
			info.Certificate, info.Request = "", filepath.Join(dir, name+".csr")
			if err := durable.WriteFile(durable.OS(), info.Request, csr, 0o644); err != nil {
				return fmt.Errorf("write the request: %w", err)
			}
			a.note("the authority is not in %s; send %s to its operator, who runs \"sealmq cert sign %s %s.csr --out FOLDER\"; put %s.crt and ca.crt into %s, and run this again",
				cfg.Data, info.Request, name, name, name, dir)
			return a.facts(nil, info, "identity", name, "folder", dir, "request", info.Request, "sealing key", info.Fingerprint)
		}
	}
	conn.as = name
	published, err = publishIdentity(a, conn, public)
	if err != nil {
		return err
	}
	state := "published"
	if !published {
		state = "not published"
	}
	return a.facts(nil, info, "identity", name, "folder", dir, "sealing key", info.Fingerprint+"  ("+state+")")
}

// signHere has the authority in the data folder sign a request. It returns false if there is
// none that can.
func signHere(a call, cfg Config, name, dir string, csr []byte) (bool, error) {
	if !exists(ca.In(cfg.Data).Root) {
		return false, nil
	}
	authority, _, err := openAuthority(a, nil)
	if errors.Is(err, fs.ErrNotExist) { // its key is elsewhere
		return false, nil
	}
	if err != nil {
		return false, err
	}
	_, err = authority.IssueFiles(ca.Request{Name: name, Days: ca.DefaultDays, By: userName(), Source: ca.SourceCSR, CSR: csr}, dir, false)
	return err == nil, err
}

// publishIdentity publishes a key, unless the broker cannot be reached.
func publishIdentity(a call, conn *connectFlags, key *seal.PublicKey) (bool, error) {
	dir := &directoryFlags{conn: conn, notice: func(text string) { a.note("%s", text) }}
	err := dir.with(a, func(a call, d *keydir.Directory) error {
		_, sign, err := conn.signers()
		if err != nil {
			return err
		}
		signer, err := sign()
		if err != nil {
			return err
		}
		_, err = d.Publish(a.ctx, signer, key)
		return err
	})
	if client.Unreachable(err) {
		a.note("the broker is not reachable, so the sealing key is not published; start it and run this again, or \"sealmq key publish --as %s\"", conn.as)
		return false, nil
	}
	return err == nil, err
}

func newIdentityListCmd() *cobra.Command {
	return configured(&cobra.Command{Use: "list", Short: "List the identities on this machine"}, func(a call, cfg Config) error {
		entries, err := os.ReadDir(cfg.Identities)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		list := []identityInfo{}
		for _, e := range entries {
			if dir, ok := identityDir(cfg, e.Name()); ok {
				list = append(list, describeIdentity(dir, e.Name()))
			}
		}
		return printList(a, nil, list, "there are no identities", []string{"NAME", "CERTIFICATE", "SEALING KEY", "FOLDER"}, func(i identityInfo) []any {
			state := "requested"
			switch {
			case i.Problem != "" && i.Until == "":
				state = "cannot be used"
			case i.Until != "":
				state = "until " + i.Until
			}
			if i.Problem != "" {
				a.note("%s: %s", i.Name, i.Problem)
			}
			return []any{i.Name, state, orDash(i.Fingerprint), i.Folder}
		})
	})
}

func describeIdentity(dir, name string) identityInfo {
	info := identityInfo{Name: name, Folder: dir}
	file := filepath.Join(dir, name+".crt")
	switch cert, err := firstCertificate(file); {
	case err == nil:
		info.Certificate, info.Until = file, day(cert.NotAfter)
	case !errors.Is(err, fs.ErrNotExist):
		info.Problem = fmt.Sprintf("%v; %s", err, hintFor(err))
	}
	base := filepath.Join(keysDir(dir), name)
	if err := lostKey(base + ".key"); err != nil && info.Problem == "" {
		info.Problem = fmt.Sprintf("%v; %s", err, hintFor(err))
	}
	if key, err := readPublicKey(base + ".pub"); err == nil {
		info.SealingKey, info.Fingerprint = base+".key", key.Fingerprint()
	}
	return info
}
