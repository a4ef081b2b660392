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

// directoryFlags are the flags of every command that looks keys up.
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
	cmd.Flags().BoolVar(&f.strict, "strict-pins", false, "refuse every key but the pinned one, even if its owner has replaced it")
	cmd.Flags().BoolVar(&f.allowUnproven, "allow-unproven", false, "take keys of which nothing proves whose they are, if there is none that is proven")
	return f
}

func (f *directoryFlags) addPins(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.pins, "pins", defaultPins(), "`file` that remembers the keys that were seen")
	cmd.Flags().StringVar(&f.name, "directory", "", "`name` under which they are remembered, the same one for all addresses of a broker (default: its address)")
}

// defaultPins is in the user's folder for configurations, or empty if there is none.
func defaultPins() string {
	dir, err := os.UserConfigDir()
	if err != nil {
		return ""
	}
	return filepath.Join(dir, "sealmq", "pins.json")
}

// remembered opens the pins of the directory. It asks nobody.
func (f *directoryFlags) remembered(cmd *cobra.Command, conn *connectFlags) (pins *keydir.Pins, verifier seal.Verifier, err error) {
	if f.pins == "" {
		return nil, nil, usagef("there is no folder for configurations of yours; name the file for pins with --pins")
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
		err = withHint(err, "name another file with --pins; in one that is new every key is taken on trust once more")
	}
	return pins, verifier, err
}

// open makes the directory of the broker that c is connected to. Notices are printed for the
// person at the terminal.
func (f *directoryFlags) open(cmd *cobra.Command, conn *connectFlags, c *client.Client) (*keydir.Directory, error) {
	pins, verifier, err := f.remembered(cmd, conn)
	if err != nil {
		return nil, err
	}
	return keydir.New(c, keydir.Config{
		Verifier: verifier, Pins: pins, StrictPins: f.strict, AllowUnproven: f.allowUnproven, Notice: notice(cmd)})
}

// notice prints what a directory has to say.
func notice(cmd *cobra.Command) func(string) {
	return func(text string) { fmt.Fprintf(cmd.ErrOrStderr(), "sealmq: %s\n", oneLine(text)) }
}

// unpinned makes a directory that knows no pins and keeps none.
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

// scope tells directories apart: brokers below one authority have one each.
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
