package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/seal"
	"github.com/sealmq/sealmq/seal/ciphermq"
)

// maxKeyBytes limits a key file.
const maxKeyBytes = 1 << 20

func newKeyCmd() *cobra.Command {
	return group("key", "Make, publish and check the keys that messages are sealed with",
		newKeyAcceptRestoreCmd(), newKeyAttestRestoreCmd(), newKeyDirectoryCmd(), newKeyGenerateCmd(), newKeyListCmd(), newKeyPublishCmd(), newKeyResetCmd(),
		newKeyRetireCmd(), newKeyRotateCmd(), newKeyRotateRecordsCmd(), newKeyShowCmd(), newKeyVerifyCmd())
}

// keyInfo describes a key or a pair of key files.
type keyInfo struct {
	Suite       string `json:"suite"`
	Bits        int    `json:"bits"`
	Kind        string `json:"kind"` // private or public
	Fingerprint string `json:"fingerprint"`
	Digits      string `json:"digits"`
	Private     string `json:"private_file,omitempty"`
	Public      string `json:"public_file,omitempty"`
	PublicPEM   string `json:"public_pem,omitempty"`
	Unchecked   string `json:"unchecked_file,omitempty"` // where the public key is from, if the private key was not opened
}

func newKeyGenerateCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "generate [NAME]",
		Short: "Make a receiver's key pair",
		Long: `Make a receiver's key pair in the folder keys of the data folder, or of the identity if there is one called
NAME; "sealmq identity create" makes it together with a certificate. The private key NAME.key stays with the receiver, and only its owner can read it. The public key NAME.pub is for the senders.

"sealmq key publish NAME --as NAME" puts the public key into the key directory, where "sealmq send --to
NAME" finds it. To use no directory, give NAME.pub to the senders, who name it with --to NAME=FILE.
With --passphrase the private key is encrypted, and "sealmq receive" asks for the passphrase.`,
		Example: `  sealmq key generate lab
  sealmq key generate lab --suite hpke-x25519-aes256gcm --passphrase
  sealmq key generate --out ./receiver --suite ciphermq-rsa --bits 4096`,
	}
	protect, fl := addProtectFlags(cmd), cmd.Flags()
	suite := fl.String("suite", string(seal.DefaultSuite), "`suite` of the key: "+suiteNames())
	bits := fl.Int("bits", 0, "size of the key in bits, if the suite has a choice (default: the recommended size)")
	out := fl.String("out", "", "`path` of the files without their ending, instead of NAME")
	return standalone(cmd, func(a call) error {
		base, err := keyBase(cmd, a.args, *out)
		if err != nil {
			return err
		}
		key, err := seal.Generate(seal.Suite(*suite), *bits, ciphermq.Suites{})
		if err != nil {
			return usage(err, "")
		}
		info := describeKey(key.Public(), "private")
		info.Private, info.Public = base+".key", base+".pub"
		private, err := protect.encrypt(key.PEM())
		if err != nil {
			return err
		}
		return a.facts(writeKeyPair(private, key.Public().PEM(), info.Private, info.Public), info,
			"private key", info.Private+"  (stays with the receiver)",
			"public key", info.Public+"  (goes to the senders)",
			"fingerprint", info.Fingerprint)
	})
}

func suiteNames() string {
	var names []string
	for _, s := range seal.Suites(ciphermq.Suites{}) {
		names = append(names, string(s))
	}
	return strings.Join(names, ", ")
}

// keyBase is the path of a key pair without its endings.
func keyBase(cmd *cobra.Command, args []string, out string) (string, error) {
	switch {
	case out != "" && len(args) > 0:
		return "", usagef("NAME and --out cannot be combined")
	case out != "":
		return strings.TrimSuffix(out, ".key"), nil
	}
	name := "receiver"
	if len(args) > 0 {
		name = args[0]
	}
	if err := sealmq.CheckName("key name", name); err != nil {
		return "", usage(err, "")
	}
	if checkFileName(name) != nil {
		return "", usagef("key name %q is not a file name; choose the path with --out", name)
	}
	cfg, err := clientConfig(cmd)
	if err != nil {
		return "", err
	}
	return filepath.Join(keyDirs(cfg, name)[0], name), nil
}

func keysDir(data string) string { return filepath.Join(data, "keys") }

// writeKeyPair writes both files. It never replaces one, because messages that were sealed
// for a lost key can never be opened.
func writeKeyPair(privatePEM, publicPEM []byte, private, public string) error {
	for _, path := range []string{private, public} {
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			if err != nil {
				return err
			}
			if data, rerr := durable.ReadFile(durable.OS(), path, maxKeyBytes); rerr == nil && certificateOf(path, data) != "" {
				return withHint(fmt.Errorf("%s already exists and is the key of a certificate", path), "a receiver needs a key of its own; choose another name or folder for it")
			}
			return withHint(fmt.Errorf("%s already exists", path), "choose another name, or move the old files away; keep them, because only they open what was sealed for them")
		}
	}
	if err := durable.MkdirAll(durable.OS(), filepath.Dir(private), 0o700); err != nil {
		return fmt.Errorf("make the folder for the key: %w", err)
	}
	if err := durable.WriteFile(durable.OS(), private, privatePEM, 0o600); err != nil {
		return fmt.Errorf("write the private key: %w", err)
	}
	if err := durable.WriteFile(durable.OS(), public, publicPEM, 0o644); err != nil {
		return fmt.Errorf("write the public key: %w", err)
	}
	return nil
}

func describeKey(k *seal.PublicKey, kind string) keyInfo {
	return keyInfo{Suite: string(k.Suite()), Bits: k.Bits(), Kind: kind, Fingerprint: k.Fingerprint(), Digits: k.Digits()}
}

// findKeyFile resolves a path, or the name of a key of an identity or in the data folder.
func findKeyFile(cmd *cobra.Command, name string, endings ...string) (string, error) {
	_, err := os.Stat(name)
	if err == nil || !errors.Is(err, fs.ErrNotExist) || strings.ContainsAny(name, `/\`) {
		return name, nil // reading it will say what is wrong
	}
	cfg, derr := clientConfig(cmd)
	if derr != nil {
		return "", derr
	}
	for _, dir := range keyDirs(cfg, name) {
		for _, ending := range endings {
			path := filepath.Join(dir, name+ending)
			if _, err := os.Stat(path); err == nil {
				return path, nil
			}
		}
	}
	for _, ending := range []string{".pub", ".key"} {
		short, cut := strings.CutSuffix(name, ending)
		for _, dir := range keyDirs(cfg, short) {
			if _, err := os.Stat(filepath.Join(dir, name)); cut && err == nil {
				return "", withHint(fmt.Errorf("there is no key file %s", name), "did you mean %s, the key in %s?", short, dir)
			}
		}
	}
	return "", withHint(fmt.Errorf("there is no key file %s, and no key of that name in %s", name, keysDir(cfg.Data)),
		`make one with "sealmq key generate %s"`, strings.TrimSuffix(filepath.Base(name), filepath.Ext(name)))
}

func readPublicKey(path string) (*seal.PublicKey, error) {
	data, err := durable.ReadFile(durable.OS(), path, maxKeyBytes)
	if err != nil {
		return nil, fmt.Errorf("read public key: %w", err)
	}
	key, err := seal.ParsePublicKey(data, ciphermq.Suites{})
	if errors.Is(err, seal.ErrPrivateKey) {
		return nil, withHint(fmt.Errorf("%s: %w", path, err), `"sealmq key show --public %s" prints the public half`, path)
	}
	if err != nil && hasCertificate(data) {
		return nil, withHint(fmt.Errorf("%s is a certificate, not a key that messages are sealed for", path), `the receiver makes a key pair with "sealmq key generate" and passes on the public key`)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if key.Suite() == ciphermq.RSA {
		if cert := certificateWith(path, key.Bytes()); cert != "" {
			return nil, errCertificateKey(path, cert)
		}
	}
	return key, nil
}

// readAnyKey reads a private or public key file and returns the public half of the key that
// senders should use.
//
// If the private key has a passphrase and pass is nil, the public key file beside it is
// read instead, and beside names it. Somebody who can change that file can choose the key,
// so the result is only for display.
func readAnyKey(path string, pass *passphraseFlag) (key *seal.PublicKey, kind, beside string, err error) {
	data, err := durable.ReadFile(durable.OS(), path, maxKeyBytes)
	if err != nil {
		return nil, "", "", fmt.Errorf("read key: %w", err)
	}
	_, err = seal.ParsePublicKey(data, ciphermq.Suites{})
	if err == nil || hasCertificate(data) && !errors.Is(err, seal.ErrPrivateKey) {
		key, err = readPublicKey(path)
		return key, "public", "", err
	}
	encrypted := seal.IsEncryptedKeyFile(data)
	if encrypted && pass == nil {
		beside = strings.TrimSuffix(path, ".key") + ".pub"
		if key, err = readPublicKey(beside); err != nil {
			return nil, "", "", fmt.Errorf("%s: %w", path, seal.ErrEncryptedKey)
		}
		return key, "private", beside, nil
	}
	if !encrypted && !errors.Is(err, seal.ErrPrivateKey) {
		return nil, "", "", fmt.Errorf("%s: %w", path, err)
	}
	file, err := readKeyring(path, pass)
	if err != nil {
		return nil, "", "", err
	}
	if file.ring.Newest() == nil {
		return nil, "", "", fmt.Errorf("%s: all its keys are retired", path)
	}
	return file.ring.Newest().Public(), "private", "", nil
}
