package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/internal/clock"
	"github.com/sealmq/sealmq/mtls"
)

// commandTimeout limits a command that makes a single request.
const commandTimeout = 30 * time.Second

// connectFlags are the flags of every command that connects to a broker.
type connectFlags struct {
	cmd                           *cobra.Command
	as, cert, key, ca, serverName string
}

// addConnectFlags adds --addr, --as, --cert, --cert-key, --ca and --server-name.
func addConnectFlags(cmd *cobra.Command) *connectFlags {
	configFlag(cmd.Flags(), "addr", "server.addr", "address of the broker, `host:port`")
	f := addIdentityFlags(cmd, "connect")
	addServerName(f)
	return f
}

func addServerName(f *connectFlags) {
	f.cmd.Flags().StringVar(&f.serverName, "server-name", os.Getenv("SEALMQ_SERVER_NAME"), "`name` expected in the broker's certificate (SEALMQ_SERVER_NAME; default: the host of --addr)")
}

// addIdentityFlags adds --as, --cert, --cert-key and --ca: the own identity, and the
// authority to trust. verb says what the command does with the identity.
func addIdentityFlags(cmd *cobra.Command, verb string) *connectFlags {
	f := &connectFlags{cmd: cmd}
	fl := cmd.Flags()
	fl.StringVar(&f.as, "as", cmp.Or(os.Getenv("SEALMQ_AS"), ca.AdminName), verb+" as this `name`: an identity, or a certificate in the data folder (SEALMQ_AS)")
	fl.StringVar(&f.cert, "cert", "", "certificate `file` to "+verb+" with, instead of --as")
	fl.StringVar(&f.key, "cert-key", "", "key `file` of --cert")
	fl.StringVar(&f.ca, "ca", os.Getenv("SEALMQ_CA"), caUsage)
	return f
}

const caUsage = "certificate `file` of the authority to trust (SEALMQ_CA; default: the one of the identity or in the data folder)"

// asGiven reports whether somebody was named to connect as.
func (f *connectFlags) asGiven() bool {
	flag := f.cmd.Flag("as")
	return flag == nil || flag.Changed || os.Getenv("SEALMQ_AS") != ""
}

// keyFile is the private key for sealed messages of the one to connect as.
func (f *connectFlags) keyFile() (string, error) {
	cfg, err := clientConfig(f.cmd)
	if err != nil {
		return "", err
	}
	path := filepath.Join(keyDirs(cfg, f.as)[0], f.as+".key")
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		return path, nil // reading it will say what is wrong
	}
	if !f.asGiven() {
		return "", usagef("say who you are with --as NAME, or name your key with --key-file")
	}
	if lost := lostKey(path); lost != nil {
		return "", lost
	}
	return "", withHint(fmt.Errorf("%s has no key for sealed messages: there is no file %s", f.as, path),
		`make it with "sealmq identity create %s", or name another with --key-file`, f.as)
}

// lostKey is the error of a private key whose public half is there, nil if that is not so.
func lostKey(path string) error {
	public := strings.TrimSuffix(path, ".key") + ".pub"
	if exists(path) || !exists(public) {
		return nil
	}
	return withHint(fmt.Errorf("the private key %s is missing, and %s is there", path, public),
		"put it back from a backup, because only it opens what was sealed for it; or move %s away and make a new one", public)
}

// files are the certificate files to connect with.
func (f *connectFlags) files() (mtls.Files, error) {
	if (f.cert == "") != (f.key == "") {
		return mtls.Files{}, usagef("--cert and --cert-key must be used together")
	}
	if as := f.cmd.Flag("as"); f.cert != "" && as.Changed {
		return mtls.Files{}, usagef("--as and --cert cannot be combined")
	}
	if strings.ContainsAny(f.as, `/\`) {
		return mtls.Files{}, withHint(usagef("--as: %q is a path, not a name", f.as),
			"write --as %s; SEALMQ_IDENTITIES is the folder with the identities, and --cert and --cert-key name files", shellWord(nameInPath(f.as)))
	}
	cfg, err := clientConfig(f.cmd)
	if err != nil {
		return mtls.Files{}, err
	}
	files := mtls.FindFiles(cfg.Data, f.as)
	if dir, ok := identityDir(cfg, f.as); ok {
		files = mtls.FilesIn(dir, f.as)
	}
	if f.cert != "" {
		files.Cert, files.Key = f.cert, f.key
	}
	if f.ca != "" {
		files.CA = f.ca
	}
	return files, nil
}

// addr is the address to dial.
func (f *connectFlags) addr() (string, error) {
	cfg, err := clientConfig(f.cmd)
	if err != nil {
		return "", err
	}
	setting := "server.addr"
	if f.cmd.Flag("addr").Changed {
		setting = "--addr"
	}
	return dialAddr(setting, cfg.Server.Addr)
}

// config is the client's configuration for these flags.
func (f *connectFlags) config() (client.Config, error) {
	files, err := f.files()
	if err != nil {
		return client.Config{}, err
	}
	addr, err := f.addr()
	if err != nil {
		return client.Config{}, err
	}
	conf, err := mtls.ClientConfig(files, mtls.ClientOptions{ServerName: f.serverName})
	if errors.Is(err, fs.ErrNotExist) {
		const name = "name the broker's data folder with --data, or the files with --cert, --cert-key and --ca"
		switch {
		case f.cert != "":
			return client.Config{}, err
		case f.as != ca.AdminName:
			return client.Config{}, withHint(err, `make the certificate with "sealmq identity create %s", or %s`, f.as, name)
		}
		if cfg, cerr := clientConfig(f.cmd); cerr == nil && cfg.TLS.CA != "" {
			return client.Config{}, withHint(err, "the configuration names other authorities, in tls.ca: name the broker's with --ca, and a certificate that it accepts with --cert and --cert-key")
		}
		return client.Config{}, withHint(err, `run "sealmq serve" or "sealmq init" to make it, or %s`, name)
	}
	if err != nil {
		return client.Config{}, err
	}
	if err := f.checkDates(files.Cert); err != nil {
		return client.Config{}, err
	}
	name, err := nameIn(files.Cert)
	if err != nil {
		return client.Config{}, err
	}
	return client.Config{Addr: addr, TLS: conf, Name: name, Log: slog.New(newNoteHandler(f.cmd))}, nil
}

// checkDates refuses a certificate that is not valid now, and says how to renew it.
func (f *connectFlags) checkDates(path string) error {
	err := checkOwnCertificate(path, time.Now())
	if err != nil && f.cert != "" {
		return withHint(err, "ask its issuer to renew it; check this machine's clock too")
	}
	return withHint(err, `renew it with "sealmq cert issue %s --replace"; check this machine's clock too`, f.as)
}

// checkOwnCertificate checks the dates of a client's certificate. The broker's answer
// would only be that it does not accept the certificate.
func checkOwnCertificate(path string, now time.Time) error {
	certs, err := mtls.ReadCertificates(path)
	if err != nil {
		return err
	}
	switch leaf := certs[0]; {
	case now.After(leaf.NotAfter):
		return fmt.Errorf("certificate %s expired on %s", path, day(leaf.NotAfter))
	case now.Before(leaf.NotBefore):
		return fmt.Errorf("certificate %s is not valid before %s", path, stampText(leaf.NotBefore))
	}
	return nil
}

// dial connects. Its errors carry hints.
func (f *connectFlags) dial(ctx context.Context, change func(*client.Config)) (*client.Client, error) {
	cfg, err := f.config()
	if err != nil {
		return nil, err
	}
	if change != nil {
		change(&cfg)
	}
	c, err := dialUntil(ctx, cfg)
	if err != nil {
		return nil, explain(err)
	}
	return c, nil
}

// giveUpUsage is the help for --give-up, which dialUntil and the client use.
func giveUpUsage(or string) string {
	return "give up when the broker has been unreachable" + or + " for this long, also at the start (default: try once at the start, then never give up)"
}

// dialPause is the time between two attempts to connect.
const dialPause = 250 * time.Millisecond

// dialUntil connects. While the broker is unreachable it tries again, until GiveUpAfter
// has passed.
func dialUntil(ctx context.Context, cfg client.Config) (*client.Client, error) {
	began := time.Now()
	for {
		c, err := client.Dial(ctx, cfg)
		if err == nil || !client.Unreachable(err) || ctx.Err() != nil || time.Since(began)+dialPause > cfg.GiveUpAfter {
			return c, err
		}
		if err := clock.Sleep(ctx, clock.System, dialPause); err != nil {
			return nil, err
		}
	}
}

// retryInterrupted repeats a request if the connection was lost before the reply; the client
// reconnects meanwhile. It is only for idempotent requests.
func retryInterrupted(do func() error) error {
	for {
		if err := do(); !errors.Is(err, client.ErrInterrupted) {
			return err
		}
	}
}

// withoutClosed is an error without the text that the client is closed, which is obvious
// when the command ends.
type withoutClosed struct{ error }

func (e withoutClosed) Error() string {
	return strings.Replace(e.error.Error(), client.ErrClosed.Error()+": ", "", 1)
}

func (e withoutClosed) Unwrap() error { return e.error }

// withClient connects for a few requests.
func (f *connectFlags) withClient(do func(context.Context, *client.Client) error) error {
	dial, cancel := context.WithTimeout(f.cmd.Context(), commandTimeout)
	defer cancel()
	c, err := f.dial(dial, func(cfg *client.Config) {
		cfg.MaxLineBytes = 64 << 20 // a list of all queues may be long
		cfg.Log = nil
	})
	if err != nil {
		return err
	}
	defer c.Close()
	return explain(do(f.cmd.Context(), c))
}

// dialForDeliveries connects for a command that prints deliveries of any length.
func (f *connectFlags) dialForDeliveries(ctx context.Context) (*client.Client, error) {
	return f.dial(ctx, func(cfg *client.Config) { cfg.Meta, cfg.MaxLineBytes = true, 2*sealmq.MaxLineBytes })
}

// explain adds a hint to an error of the client.
func explain(err error) error {
	var (
		other     x509.UnknownAuthorityError
		name      x509.HostnameError
		remote    *net.OpError
		dates     x509.CertificateInvalidError
		hinted    interface{ Hint() string }
		notTLS    tls.RecordHeaderError
		dnsFailed *net.DNSError
	)
	if errors.Is(err, client.ErrClosed) {
		err = withoutClosed{err}
	}
	switch {
	case err == nil:
		return nil
	case errors.As(err, &hinted) && hinted.Hint() != "":
		return err
	case errors.As(err, &dates) && dates.Reason == x509.Expired:
		return withHint(err, "this is the broker's certificate; \"sealmq serve\" renews that of its own authority when it starts, and another authority's comes from its issuer; check this machine's clock too")
	case errors.As(err, &other):
		return withHint(err, "another authority issued the broker's certificate; name that authority's certificate with --ca, or the broker's data folder with --data")
	case errors.As(err, &name):
		return withHint(err, "connect to a name that is in the broker's certificate, or give the name to expect with --server-name; on the broker's machine \"sealmq init --host NAME\" adds a name to its certificate")
	case errors.As(err, &remote) && remote.Op == "remote error": // a TLS alert
		return withHint(err, "the broker does not accept this certificate; use one that its authority issued, with --as or --cert")
	case errors.As(err, &notTLS):
		return withHint(err, "the server at that address does not use TLS; check --addr")
	case errors.As(err, &dnsFailed):
		return withHint(err, "check --addr")
	}
	if remedy := sealmq.CodeOf(err).Info().Remedy; remedy != "" {
		return withHint(err, "%s", remedy)
	}
	return err
}

// noteHandler prints log records as notes for the person at the terminal.
type noteHandler struct {
	mu    sync.Mutex
	w     io.Writer
	least slog.Level
}

func newNoteHandler(cmd *cobra.Command) *noteHandler {
	h := &noteHandler{w: cmd.ErrOrStderr()}
	if isQuiet(cmd) {
		h.least = slog.LevelWarn
	}
	return h
}

// Enabled drops debug records, and with --quiet all but warnings and errors.
func (h *noteHandler) Enabled(_ context.Context, level slog.Level) bool { return level >= h.least }

// Handle prints one line.
func (h *noteHandler) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	b.WriteString(r.Message)
	r.Attrs(func(a slog.Attr) bool {
		fmt.Fprintf(&b, ", %s %v", a.Key, a.Value)
		return true
	})
	h.mu.Lock()
	defer h.mu.Unlock()
	_, err := fmt.Fprintf(h.w, "sealmq: %s\n", oneLine(b.String()))
	return err
}

// WithAttrs is not needed: no logger is derived from this one.
func (h *noteHandler) WithAttrs([]slog.Attr) slog.Handler { return h }

// WithGroup is not needed either.
func (h *noteHandler) WithGroup(string) slog.Handler { return h }
