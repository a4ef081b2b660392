package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/keydir"
	"github.com/sealmq/sealmq/mtls"
	"github.com/sealmq/sealmq/seal"
	"github.com/sealmq/sealmq/trust"
)

// directoryFlags are the flags of commands that use the key directory.
type directoryFlags struct {
	pins          string
	name          string
	strict        bool
	allowUnproven bool
}

// addDirectoryFlags adds --pins, --strict-pins and --allow-unproven.
func addDirectoryFlags(cmd *cobra.Command) *directoryFlags {
	f := &directoryFlags{}
	f.addPins(cmd)
	cmd.Flags().BoolVar(&f.strict, "strict-pins", false, "refuse every key except the pinned one, even if its owner has replaced it")
	cmd.Flags().BoolVar(&f.allowUnproven, "allow-unproven", false, "use a key without proof of its owner if there is none with proof")
	return f
}

func (f *directoryFlags) addPins(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.pins, "pins", defaultPins(), "`file` with the pinned keys")
	cmd.Flags().StringVar(&f.name, "directory", "", "`name` of the key directory in the pins; use one name for all addresses of a broker (default: the address)")
}

// defaultPins is in the user's configuration directory, or empty if there is none.
func defaultPins() string {
	dir, err := os.UserConfigDir()
	if err != nil {
		return ""
	}
	return filepath.Join(dir, "sealmq", "pins.json")
}

// openPins opens the pins of the directory. It does not connect to the broker.
func (f *directoryFlags) openPins(cmd *cobra.Command, conn *connectFlags) (pins *keydir.Pins, verifier seal.Verifier, err error) {
	if f.pins == "" {
		return nil, nil, usagef("there is no user configuration directory; name the file of pins with --pins")
	}
	files, err := conn.files(cmd)
	if err != nil {
		return nil, nil, err
	}
	roots, err := mtls.ReadAuthorities(files.CA)
	if err != nil {
		return nil, nil, fmt.Errorf("read authority: %w", err)
	}
	verifier = trust.NewVerifier(roots...)
	scope, err := f.scope(cmd, mtls.Issuer(roots[0]))
	if err != nil {
		return nil, nil, err
	}
	pins, err = keydir.OpenPins(f.pins, scope)
	if err != nil && hintFor(err) == "" {
		err = withHint(err, "name another file with --pins; with a new file, the first key of each name is pinned again")
	}
	return pins, verifier, err
}

// open opens the key directory of the broker that c is connected to. It prints notices for
// the person at the terminal.
func (f *directoryFlags) open(cmd *cobra.Command, conn *connectFlags, c *client.Client) (*keydir.Directory, error) {
	pins, verifier, err := f.openPins(cmd, conn)
	if err != nil {
		return nil, err
	}
	return keydir.New(c, keydir.Config{
		Verifier: verifier, Pins: pins, StrictPins: f.strict, AllowUnproven: f.allowUnproven, Notice: notice(cmd)})
}

// notice prints the notices of a directory.
func notice(cmd *cobra.Command) func(string) {
	return func(text string) { fmt.Fprintf(cmd.ErrOrStderr(), "sealmq: %s\n", oneLine(text)) }
}

// unpinned opens the key directory without pins.
func (f *directoryFlags) unpinned(cmd *cobra.Command, conn *connectFlags, c *client.Client, notice func(string)) (*keydir.Directory, error) {
	files, err := conn.files(cmd)
	if err != nil {
		return nil, err
	}
	verifier, err := trust.ReadVerifier(files.CA)
	if err != nil {
		return nil, err
	}
	return keydir.New(c, keydir.Config{Verifier: verifier, StrictPins: f.strict, AllowUnproven: true, Notice: notice})
}

// scope is the name of a directory in the pins. Each broker of an authority has its own.
func (f *directoryFlags) scope(cmd *cobra.Command, issuer string) (string, error) {
	if f.name != "" {
		return issuer + " " + f.name, nil
	}
	cfg, err := clientConfig(cmd)
	if err != nil {
		return "", err
	}
	addr, err := dialAddr(cfg.Server.Addr)
	return issuer + " " + addr, err
}
