package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/keydir"
	"github.com/sealmq/sealmq/mtls"
	"github.com/sealmq/sealmq/seal"
	"github.com/sealmq/sealmq/trust"
)

// directoryFlags are the flags of commands that use the key directory.
type directoryFlags struct {
	conn          *connectFlags
	pins          string
	name          string
	strict        bool
	allowUnproven bool
	notice        func(string)
}

// addDirectoryFlags adds --pins, --directory, --strict-pins and --allow-unproven.
func addDirectoryFlags(conn *connectFlags) *directoryFlags {
	f := addPinsFlags(conn)
	conn.cmd.Flags().BoolVar(&f.strict, "strict-pins", false, "refuse every key except the pinned one, even if its owner has replaced it")
	conn.cmd.Flags().BoolVar(&f.allowUnproven, "allow-unproven", false, "use a key without proof of its owner if there is none with proof")
	return f
}

// addPinsFlags adds --pins and --directory.
func addPinsFlags(conn *connectFlags) *directoryFlags {
	f := &directoryFlags{conn: conn, notice: func(text string) { notef(conn.cmd, "%s", text) }}
	conn.cmd.Flags().StringVar(&f.pins, "pins", os.Getenv("SEALMQ_PINS"), "`file` with the pinned keys (SEALMQ_PINS; default: pins.json of the identity, or in the user's configuration folder)")
	conn.cmd.Flags().StringVar(&f.name, "directory", "", "`name` of the key directory in the pins; use one name for all addresses of a broker (default: the address)")
	return f
}

// pinsFile is the file of pins: the one that is named, the identity's own, or the one in the
// user's configuration directory. It is empty if there is none.
func (f *directoryFlags) pinsFile() string {
	if f.pins != "" {
		return f.pins
	}
	if cfg, err := clientConfig(f.conn.cmd); err == nil && f.conn.cert == "" {
		if dir, ok := identityDir(cfg, f.conn.as); ok {
			return filepath.Join(dir, "pins.json")
		}
	}
	dir, err := os.UserConfigDir()
	if err != nil {
		return ""
	}
	return filepath.Join(dir, "sealmq", "pins.json")
}

// openPins opens the pins of the directory. It does not connect to the broker.
func (f *directoryFlags) openPins() (pins *keydir.Pins, verifier seal.Verifier, err error) {
	file := f.pinsFile()
	if file == "" {
		return nil, nil, usagef("there is no user configuration directory; name the file of pins with --pins")
	}
	files, err := f.conn.files()
	if err != nil {
		return nil, nil, err
	}
	roots, err := mtls.ReadAuthorities(files.CA)
	if err != nil {
		return nil, nil, fmt.Errorf("read authority: %w", err)
	}
	// Each broker of an authority has a directory of its own.
	name := f.name
	if name == "" {
		if name, err = f.conn.addr(); err != nil {
			return nil, nil, err
		}
	}
	pins, err = keydir.OpenPins(file, mtls.Issuer(roots[0])+" "+name)
	if err != nil && hintFor(err) == "" {
		err = withHint(err, "name another file with --pins; with a new file, the first key of each name is pinned again")
	}
	return pins, trust.FileVerifier{CA: files.CA}, err
}

// open opens the key directory of the broker that c is connected to. It prints notices for
// the person at the terminal.
func (f *directoryFlags) open(c *client.Client) (*keydir.Directory, error) {
	pins, verifier, err := f.openPins()
	if err != nil {
		return nil, err
	}
	return keydir.New(c, keydir.Config{
		Verifier: verifier, Pins: pins, StrictPins: f.strict, AllowUnproven: f.allowUnproven, Notice: f.notice})
}

// openIf opens the key directory if it is needed, or if a file of pins exists.
func (f *directoryFlags) openIf(c *client.Client, needed bool) (*keydir.Directory, error) {
	if !needed {
		file := f.pinsFile()
		if _, err := os.Stat(file); errors.Is(err, fs.ErrNotExist) || file == "" {
			return nil, nil
		}
	}
	return f.open(c)
}

// unpinned opens the key directory without pins.
func (f *directoryFlags) unpinned(c *client.Client) (*keydir.Directory, error) {
	files, err := f.conn.files()
	if err != nil {
		return nil, err
	}
	verifier, err := trust.ReadVerifier(files.CA)
	if err != nil {
		return nil, err
	}
	return keydir.New(c, keydir.Config{Verifier: verifier, StrictPins: f.strict, AllowUnproven: true, Notice: f.notice})
}

// quiet is the directory of a connection without pins and notices.
func quiet(conn *connectFlags) *directoryFlags { return &directoryFlags{conn: conn} }

// with connects for one request, and opens the key directory.
func (f *directoryFlags) with(a call, do func(a call, d *keydir.Directory) error) error {
	return f.conn.withClient(func(ctx context.Context, c *client.Client) error {
		open := f.open
		if f.notice == nil {
			open = f.unpinned
		}
		d, err := open(c)
		if err != nil {
			return err
		}
		ctx, cancel := context.WithTimeout(ctx, commandTimeout)
		defer cancel()
		a.ctx, a.client = ctx, c
		return do(a, d)
	})
}
