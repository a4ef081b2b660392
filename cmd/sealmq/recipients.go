package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/internal/clock"
	"github.com/sealmq/sealmq/keydir"
	"github.com/sealmq/sealmq/mtls"
	"github.com/sealmq/sealmq/seal"
	"github.com/sealmq/sealmq/seal/ciphermq"
	"github.com/sealmq/sealmq/trust"
)

// recipients are the receivers of --to, and their keys from files.
type recipients struct {
	names []string
	keys  map[string]*seal.PublicKey
}

const toUsage = "receiver: a `name` in the key directory, or NAME=FILE with a key file; can be repeated"

// findRecipients reads the key files that --to names, and prints which keys it uses. The key
// directory provides the keys of names without a file, whatever files exist.
func findRecipients(cmd *cobra.Command, list []string) (*recipients, error) {
	r := &recipients{keys: make(map[string]*seal.PublicKey)}
	for _, to := range list {
		name, path, err := splitRecipient(cmd, to)
		if err != nil {
			return nil, err
		}
		r.names = append(r.names, name)
		if path == "" {
			continue
		}
		key, err := readPublicKey(path)
		if err != nil {
			return nil, err
		}
		r.keys[name] = key
		notef(cmd, "sealing for the key in %s, %s", path, key.Fingerprint())
	}
	return r, nil
}

// splitRecipient returns the receiver's name, and the file if one is named. It only looks at
// the argument. If it used a file that is called like the receiver, somebody who can create
// that file could choose the key.
func splitRecipient(cmd *cobra.Command, to string) (name, path string, err error) {
	if name, file, ok := strings.Cut(to, "="); ok && name != "" && !strings.ContainsAny(name, `/\`) {
		if file == "" {
			return "", "", usagef("--to %s names no file after the =; for the key in the directory write --to %s", to, name)
		}
		return name, file, findPublicFile(cmd, file)
	}
	if strings.ContainsAny(to, `/\`) || looksLikeKeyFile(to) {
		return ownerOf(to), to, findPublicFile(cmd, to)
	}
	return to, "", sealmq.CheckName("receiver", to)
}

// findPublicFile suggests another file if there is no such file.
func findPublicFile(cmd *cobra.Command, path string) error {
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return nil // reading it will say what is wrong
	}
	err := fmt.Errorf("there is no key file %s", path)
	if strings.Contains(path, ",") {
		return withHint(err, oneEach)
	}
	cfg, derr := clientConfig(cmd)
	if derr != nil {
		return derr
	}
	name := strings.TrimSuffix(path, ".pub")
	for _, dir := range keyDirs(cfg, name) {
		near := filepath.Join(dir, name+".pub")
		if _, serr := os.Stat(near); serr == nil {
			return withHint(err, "did you mean %s?", near)
		}
	}
	return withHint(err, `for a name in the key directory, leave out the ending; to make a key pair, use "sealmq key generate --out PATH"`)
}

// looksLikeKeyFile reports whether an argument ends like a key file.
func looksLikeKeyFile(to string) bool {
	return strings.HasSuffix(to, ".pub") || strings.HasSuffix(to, ".key") || strings.HasSuffix(to, ".pem")
}

// ownerOf is the owner of a key file according to the file's name.
func ownerOf(path string) string {
	base := filepath.Base(path)
	return cmp.Or(strings.TrimSuffix(base, filepath.Ext(base)), base)
}

// unknown reports whether the directory must provide a key.
func (r *recipients) unknown() bool { return len(r.keys) < len(r.names) }

// oneEach is for those who write several receivers behind one --to.
const oneEach = "a receiver is named by its own --to: --to a --to b"

const noKeyHint = `the receiver publishes it with "sealmq key publish NAME --as NAME"; or name a key file with --to NAME=FILE`

// explainKey adds a hint to an error of the key directory.
func explainKey(err error) error {
	switch {
	case err == nil:
		return nil
	case sealmq.CodeOf(err) == sealmq.NoKey:
		return withHint(err, noKeyHint)
	}
	var refused *keydir.Error
	if (errors.Is(err, keydir.ErrUnproven) || errors.Is(err, keydir.ErrPinned) || errors.Is(err, keydir.ErrShown)) && errors.As(err, &refused) {
		return withHint(err, "%s; \"sealmq key verify NAME\" shows the keys to compare", refused.Hint())
	}
	return explain(err)
}

// explain is explainKey, and knows what was written behind --to.
func (r *recipients) explain(err error) error {
	comma := func(name string) bool { return strings.Contains(name, ",") }
	if sealmq.CodeOf(err) == sealmq.NoKey && slices.ContainsFunc(r.names, comma) {
		return withHint(err, oneEach)
	}
	return explainKey(err)
}

// checkFiles compares the keys from files with the pinned keys and with those that the
// directory shows. It does not create a file of pins.
func (f *directoryFlags) checkFiles(ctx context.Context, c *client.Client, d *keydir.Directory, to *recipients) (err error) {
	if d == nil && len(to.keys) > 0 {
		if d, err = f.unpinned(c); err != nil {
			return err
		}
	}
	for _, name := range to.names {
		if key := to.keys[name]; key != nil {
			if err := retryInterrupted(func() error { return d.CheckKey(ctx, name, key) }); err != nil {
				return explainKey(err)
			}
		}
	}
	return nil
}

// proves reports whether messages to these recipients can only be sealed by somebody with
// a certificate.
func (r *recipients) proves() bool {
	for _, k := range r.keys {
		if !k.Suite().Proves() {
			return false
		}
	}
	return true
}

// parseSuites checks names of suites.
func parseSuites(names []string) (list []seal.Suite, err error) {
	for _, name := range names {
		if !slices.Contains(seal.Suites(ciphermq.Suites{}), seal.Suite(name)) {
			return nil, usagef("no suite is named %q; there is %s", name, suiteNames())
		}
		list = append(list, seal.Suite(name))
	}
	return list, nil
}

// oneSuite is parseSuites for at most one.
func oneSuite(name string) (seal.Suite, error) {
	if name == "" {
		return "", nil
	}
	_, err := parseSuites([]string{name})
	return seal.Suite(name), err
}

// parseExpect parses --expect.
func parseExpect(text string) (exchange, key string, err error) {
	exchange, key, ok := strings.Cut(text, "/")
	if text != "" && (!ok || exchange == "" && key == "") {
		return "", "", usagef("--expect: %q is not EXCHANGE/KEY; either may be empty for any", text)
	}
	return exchange, key, nil
}

// ownName is the name in the certificate to connect with. The broker is not asked: it could
// have a client open the messages of others.
func (f *connectFlags) ownName() (string, error) {
	files, err := f.files()
	if err != nil {
		return "", err
	}
	return nameIn(files.Cert)
}

// nameIn is the name in a certificate file.
func nameIn(path string) (string, error) {
	certs, err := mtls.ReadCertificates(path)
	if err != nil {
		return "", err
	}
	name, err := mtls.NameOf(certs[0])
	if err != nil {
		return "", fmt.Errorf("%s: %w", path, err)
	}
	return name, nil
}

// signers returns the own name, and a function that signs with it. The function reads the
// files every time, so that a renewed certificate is used.
func (f *connectFlags) signers() (name string, sign func() (*seal.Signer, error), err error) {
	files, err := f.files()
	if err != nil {
		return "", nil, err
	}
	name, err = nameIn(files.Cert)
	return name, func() (*seal.Signer, error) { return trust.ReadSigner(files, name) }, err
}

// lookForRenewal is how often a command that seals looks whether its certificate was renewed.
const lookForRenewal = time.Second

// followRenewal calls rotate whenever another certificate signs than before, until ctx ends.
// Files that do not belong together, because one is being replaced, are looked at again later.
func followRenewal(ctx context.Context, c clock.Clock, sign func() (*seal.Signer, error), rotate func()) {
	var known [32]byte
	for err := error(nil); err == nil; err = clock.Sleep(ctx, c, lookForRenewal) {
		signer, err := sign()
		if err != nil {
			continue
		}
		if _, sum := signer.Chain(); sum != known {
			if known != [32]byte{} {
				rotate()
			}
			known = sum
		}
	}
}

// noteSigner says whose signature receivers will see, if nobody has been named.
func (f *connectFlags) noteSigner(name string) {
	if f.cert == "" && !f.asGiven() {
		notef(f.cmd, "signing as %s; to use another certificate, add --as NAME", name)
	}
}

// offlineSigner signs as the owner of the certificate, with the name that every broker of
// its authority gives it.
func (f *connectFlags) offlineSigner() (*seal.Signer, error) {
	files, err := f.files()
	if err != nil {
		return nil, err
	}
	if err := f.checkDates(files.Cert); err != nil {
		return nil, err
	}
	certs, err := mtls.ReadCertificates(files.Cert)
	if err != nil {
		return nil, err
	}
	v, err := trust.ReadVerifier(files.CA)
	if err != nil {
		return nil, err
	}
	owner, err := v.Verify(certs, time.Now())
	if err != nil {
		return nil, fmt.Errorf("%s: %w", files.Cert, err)
	}
	f.noteSigner(owner.ID)
	return trust.ReadSigner(files, owner.ID)
}
