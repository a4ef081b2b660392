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
)

// maxKeyBytes bounds a key file.
const maxKeyBytes = 1 << 20

func newKeyCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "key",
		Short: "Make, publish and check the keys that messages are sealed with",
	}
	cmd.AddCommand(newKeyDirectoryCmd(), newKeyGenerateCmd(), newKeyPublishCmd(), newKeyShowCmd(), newKeyVerifyCmd())
	return cmd
}

// keyInfo describes a key or a pair of key files.
type keyInfo struct {
	Suite       string `json:"suite"`
	Bits        int    `json:"bits"`
	Kind        string `json:"kind"` // private or public
	Fingerprint string `json:"fingerprint"`
	Private     string `json:"private_file,omitempty"`
	Public      string `json:"public_file,omitempty"`
	PublicPEM   string `json:"public_pem,omitempty"`
}

func newKeyGenerateCmd() *cobra.Command {
	var suite, out string
	var bits int
	cmd := &cobra.Command{
		Use:   "generate [NAME]",
		Short: "Make a receiver's key pair",
		Long: `Make the two files of a receiver: NAME.key, which stays with the receiver and is readable
by its owner only, and NAME.pub, which goes to everyone who sends to it. They are put into the folder
keys in the data folder, where "sealmq send --to NAME" and "sealmq receive --key-file NAME" find them.`,
		Example: `  sealmq key generate lab
  sealmq key generate --out ./receiver --bits 4096`,
		Args: cobra.MaximumNArgs(1),
	}
	asJSON := addJSONFlag(cmd)
	cmd.Flags().StringVar(&suite, "suite", string(seal.CipherMQRSA), "suite: "+suiteNames())
	cmd.Flags().IntVar(&bits, "bits", 0, "size of the key (default: what the suite recommends)")
	cmd.Flags().StringVar(&out, "out", "", "`path` of the files without their ending, in place of NAME")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		base, err := keyBase(cmd, args, out)
		if err != nil {
			return err
		}
		key, err := seal.Generate(seal.Suite(suite), bits)
		if err != nil {
			return &usageError{err: err}
		}
		info := describeKey(key.Public(), "private")
		info.Private, info.Public = base+".key", base+".pub"
		if err := writeKeyPair(key, info.Private, info.Public); err != nil {
			return err
		}
		w := cmd.OutOrStdout()
		if *asJSON {
			return printJSON(w, info)
		}
		fmt.Fprintf(w, "private key  %s  (stays with the receiver)\n", info.Private)
		fmt.Fprintf(w, "public key   %s  (goes to the senders)\n", info.Public)
		fmt.Fprintf(w, "fingerprint  %s\n", info.Fingerprint)
		return nil
	}
	return cmd
}

func suiteNames() string {
	var names []string
	for _, s := range seal.Suites() {
		names = append(names, string(s))
	}
	return strings.Join(names, ", ")
}

// keyBase is the path of a key pair without its endings.
func keyBase(cmd *cobra.Command, args []string, out string) (string, error) {
	switch {
	case out != "" && len(args) > 0:
		return "", usagef("a name and --out exclude each other")
	case out != "":
		return strings.TrimSuffix(out, ".key"), nil
	}
	name := "receiver"
	if len(args) > 0 {
		name = args[0]
	}
	if err := sealmq.CheckName("key name", name); err != nil {
		return "", &usageError{err: err}
	}
	if strings.ContainsAny(name, `/\`) || strings.HasPrefix(name, ".") {
		return "", usagef("key name %q is no file name; choose the place with --out", name)
	}
	data, err := dataDir(cmd)
	if err != nil {
		return "", err
	}
	return filepath.Join(keysDir(data), name), nil
}

func keysDir(data string) string { return filepath.Join(data, "keys") }

// writeKeyPair writes both files and never replaces one: what was sealed for a lost key
// cannot be opened again.
func writeKeyPair(key *seal.PrivateKey, private, public string) error {
	for _, path := range []string{private, public} {
		if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
			if err == nil {
				err = withHint(fmt.Errorf("%s is there already", path), "choose another name, or move the old files away: without them nobody can open what was sealed for them")
			}
			return err
		}
	}
	if err := os.MkdirAll(filepath.Dir(private), 0o700); err != nil {
		return fmt.Errorf("make the folder for the key: %w", err)
	}
	if err := durable.WriteFile(durable.OS(), private, key.PEM(), 0o600); err != nil {
		return fmt.Errorf("write the private key: %w", err)
	}
	if err := durable.WriteFile(durable.OS(), public, key.Public().PEM(), 0o644); err != nil {
		return fmt.Errorf("write the public key: %w", err)
	}
	return nil
}

func newKeyShowCmd() *cobra.Command {
	var public bool
	cmd := &cobra.Command{
		Use:   "show FILE",
		Short: "Show the suite, size and fingerprint of a key",
		Long: `Show what a key file holds. FILE is a path, or the name of a key in the data folder. Sender and receiver
compare the fingerprint to be sure that they have the same key.`,
		Args: cobra.ExactArgs(1),
	}
	asJSON := addJSONFlag(cmd)
	cmd.Flags().BoolVar(&public, "public", false, "print the public key in PEM, to pass on")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		path, err := findKeyFile(cmd, args[0], ".key", ".pub")
		if err != nil {
			return err
		}
		key, kind, err := readAnyKey(path)
		if err != nil {
			return err
		}
		w := cmd.OutOrStdout()
		info := describeKey(key, kind)
		switch {
		case *asJSON:
			info.PublicPEM = string(key.PEM())
			return printJSON(w, info)
		case public:
			_, err := w.Write(key.PEM())
			return err
		}
		fmt.Fprintf(w, "file         %s\n", path)
		fmt.Fprintf(w, "kind         %s key\n", info.Kind)
		fmt.Fprintf(w, "suite        %s, %d bits\n", info.Suite, info.Bits)
		fmt.Fprintf(w, "fingerprint  %s\n", info.Fingerprint)
		if info.Bits < seal.MinRSABits {
			fmt.Fprintf(w, "note         %d bits are too few to rely on; make a new key with \"sealmq key generate\"\n", info.Bits)
		}
		return nil
	}
	return cmd
}

func describeKey(k *seal.PublicKey, kind string) keyInfo {
	return keyInfo{Suite: string(k.Suite()), Bits: k.Bits(), Kind: kind, Fingerprint: k.Fingerprint()}
}

// findKeyFile takes a path, or the name of a key in the data folder.
func findKeyFile(cmd *cobra.Command, name string, endings ...string) (string, error) {
	_, err := os.Stat(name)
	if err == nil || !errors.Is(err, fs.ErrNotExist) || strings.ContainsAny(name, `/\`) {
		return name, nil // what is wrong with it will be said when it is read
	}
	data, derr := dataDir(cmd)
	if derr != nil {
		return "", derr
	}
	for _, ending := range endings {
		path := filepath.Join(keysDir(data), name+ending)
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	for _, ending := range []string{".pub", ".key"} {
		short, cut := strings.CutSuffix(name, ending)
		if _, err := os.Stat(filepath.Join(keysDir(data), name)); cut && err == nil {
			return "", withHint(fmt.Errorf("there is no key file %s", name), "did you mean %s, the key in %s?", short, keysDir(data))
		}
	}
	return "", withHint(fmt.Errorf("there is no key file %s, and no key of that name in %s", name, keysDir(data)),
		`make one with "sealmq key generate %s"`, strings.TrimSuffix(filepath.Base(name), filepath.Ext(name)))
}

func readPublicKey(path string) (*seal.PublicKey, error) {
	data, err := durable.ReadFile(durable.OS(), path, maxKeyBytes)
	if err != nil {
		return nil, fmt.Errorf("read public key: %w", err)
	}
	key, err := seal.ParsePublicKey(data)
	if errors.Is(err, seal.ErrPrivateKey) {
		return nil, withHint(fmt.Errorf("%s: %w", path, err), `"sealmq key show --public %s" prints the public half`, path)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return key, nil
}

func readPrivateKey(path string) (*seal.PrivateKey, error) {
	data, err := durable.ReadPrivate(durable.OS(), path, maxKeyBytes)
	var open *durable.PrivateError
	if errors.As(err, &open) {
		if _, perr := readPublicKey(path); perr == nil {
			return nil, fmt.Errorf("%s: %w", path, seal.ErrPublicKey)
		}
	}
	if err != nil {
		return nil, err
	}
	key, err := seal.ParsePrivateKey(data)
	if errors.Is(err, seal.ErrEncryptedKey) {
		return nil, withHint(fmt.Errorf("%s: %w", path, err), `take the passphrase off with "openssl rsa", and protect the file by its mode`)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return key, nil
}

// readAnyKey reads a key file of either kind and returns the public half.
func readAnyKey(path string) (*seal.PublicKey, string, error) {
	data, err := durable.ReadFile(durable.OS(), path, maxKeyBytes)
	if err != nil {
		return nil, "", fmt.Errorf("read key: %w", err)
	}
	public, err := seal.ParsePublicKey(data)
	if err == nil {
		return public, "public", nil
	}
	if !errors.Is(err, seal.ErrPrivateKey) {
		return nil, "", fmt.Errorf("%s: %w", path, err)
	}
	private, err := readPrivateKey(path)
	if err != nil {
		return nil, "", err
	}
	return private.Public(), "private", nil
}
