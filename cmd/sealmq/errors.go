package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/internal/durable"
	"github.com/sealmq/sealmq/keydir"
	"github.com/sealmq/sealmq/mtls"
	"github.com/sealmq/sealmq/seal"
)

// errSilent ends the process with status 1 if the command has already printed what is
// wrong.
var errSilent = errors.New("already reported")

// hintError is an error with what its reader can do about it.
type hintError struct {
	err  error
	hint string
}

func (e *hintError) Error() string { return e.err.Error() }
func (e *hintError) Unwrap() error { return e.err }
func (e *hintError) Hint() string  { return e.hint }

// withHint adds what to try next, which is printed on its own line.
func withHint(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return &hintError{err: err, hint: fmt.Sprintf(format, args...)}
}

// usageError says that the command line is wrong. The process ends with status 2.
type usageError struct{ hintError }

// usage makes a usageError of an error, which may be nil.
func usage(err error, hint string) error {
	if err == nil {
		return nil
	}
	return &usageError{hintError{err, hint}}
}

// usagef reports wrong usage that cobra cannot find, for example two flags that cannot be
// combined.
func usagef(format string, args ...any) error { return usage(fmt.Errorf(format, args...), "") }

// hintFor is the hint that err carries, or one for its cause.
func hintFor(err error) string {
	var h interface{ Hint() string }
	if errors.As(err, &h) && h.Hint() != "" {
		return h.Hint()
	}
	var op *net.OpError
	var file *mtls.FileError
	switch {
	case errors.As(err, &file) && isExpiredIntermediate(err, file.Path):
		key := strings.TrimSuffix(file.Path, ".crt") + ".key"
		return fmt.Sprintf(`move %s and %s away together, and run "sealmq init": it makes new ones with the root's key; what the old ones have issued must be issued again`, file.Path, key)
	case errors.As(err, &file):
		return wayOutOf(file.Path)
	case errors.As(err, &op) && op.Op == "listen" && errors.Is(err, fs.ErrPermission):
		return `ports below 1024 need root or the capability CAP_NET_BIND_SERVICE; choose another address in the configuration`
	case errors.As(err, &op) && op.Op == "listen" && (errors.Is(err, syscall.EADDRNOTAVAIL) || errors.As(err, new(*net.DNSError))):
		return "this machine has no such address; it has " + ownAddresses() + "; the host 0.0.0.0 stands for all of them"
	case errors.Is(err, durable.ErrLocked):
		return `another sealmq process uses this data folder; stop it, or choose another folder with --data`
	case errors.Is(err, syscall.EADDRINUSE):
		return `another program uses this address; stop it, choose another address in the configuration, or start only the roles that you need ("sealmq serve --help" lists them)`
	case errors.Is(err, fs.ErrPermission):
		choose := "folder with --data"
		var place *placeError
		var pins *keydir.FileError
		switch {
		case errors.As(err, &place):
			choose = place.choose
		case errors.As(err, &pins):
			choose = "file with --pins"
		}
		if path := (*fs.PathError)(nil); place == nil && errors.As(err, &path) && isIdentityFile(path.Path) {
			choose = "folder with SEALMQ_IDENTITIES"
		}
		return "run as the user that owns the file or folder, or choose another " + choose
	case errors.Is(err, syscall.ENOSPC):
		return "free some space on that file system, or use another one: the setting data or --data says where everything is kept, and --out, --ledger and --spool where a client writes; the broker leaves storage.min_free_bytes of its disk free"
	case errors.Is(err, syscall.EROFS):
		return "that file system can only be read: have it mounted for writing, or choose another folder with --data"
	case errors.Is(err, seal.ErrPublicKey):
		return `name the private key's file; "sealmq key generate NAME" has written it beside the public key, as NAME.key`
	case errors.Is(err, syscall.ECONNREFUSED):
		return `is the broker running there? start it with "sealmq serve", or name another address with --addr`
	}
	return ""
}

func isExpiredIntermediate(err error, path string) bool {
	invalid, ok := errors.AsType[x509.CertificateInvalidError](err)
	return ok && invalid.Reason == x509.Expired && filepath.Base(path) == filepath.Base(ca.In("").Intermediate)
}

// wayOutOf says what can be done about a file of a certificate or key that is damaged.
func wayOutOf(path string) string {
	back := fmt.Sprintf("put %s back from a backup", path)
	dir, name := filepath.Base(filepath.Dir(path)), strings.TrimSuffix(filepath.Base(path), filepath.Ext(path))
	switch {
	case dir == "ca":
		return back + "; nothing else stands for the authority that made the certificates of all clients"
	case dir == "certs" && (name == ca.ServerName || name == ca.AdminName || slices.Contains(roles, name)):
		return fmt.Sprintf("%s; or move %s.crt and %s.key away together: the next start makes new ones", back, name, name)
	}
	if isIdentityFile(path) {
		return fmt.Sprintf(`%s; or move it away and run "sealmq identity create %s", which asks for a new one`, back, name)
	}
	return fmt.Sprintf(`%s; or have a new certificate issued, as with "sealmq cert issue %s"`, back, name)
}

// isIdentityFile reports whether a file is where identities have theirs: NAME/NAME.crt, NAME/keys/NAME.key.
func isIdentityFile(path string) bool {
	dir := strings.TrimSuffix(filepath.Dir(path), string(filepath.Separator)+"keys")
	name, _, _ := strings.Cut(filepath.Base(path), ".")
	return filepath.Base(dir) == name || name == "pins" || filepath.Base(dir) == defaultConfig().Identities
}

// placeError is an error of a file or folder that is not the data folder.
type placeError struct {
	error
	choose string // what to choose another one of
}

func (e *placeError) Unwrap() error { return e.error }

// inPlace says which flag names the file or folder of an error, which may be nil.
func inPlace(err error, choose string) error {
	if err == nil {
		return nil
	}
	return &placeError{err, choose}
}

// flatten splits joined errors, so that each is printed on its own line.
func flatten(err error) []error {
	switch e := err.(type) {
	case *hintError:
		return flatten(e.err)
	case *usageError:
		return flatten(e.err)
	case interface{ Unwrap() []error }:
		if err.Error() != errors.Join(e.Unwrap()...).Error() {
			return []error{err} // one sentence with several causes
		}
		var all []error
		for _, part := range e.Unwrap() {
			all = append(all, flatten(part)...)
		}
		return all
	}
	return []error{err}
}

// asUsage turns an error of cobra into a usage error of the command in args.
func asUsage(root *cobra.Command, args []string, err error) error {
	if _, ok := errors.AsType[*usageError](err); ok {
		return err
	}
	cmd, _, findErr := root.Find(args)
	if findErr != nil || cmd == nil {
		cmd = root
	}
	text := err.Error()
	// Cobra appends its suggestions to the text; ours are in the hint.
	text, _, _ = strings.Cut(text, "\n")
	hint := fmt.Sprintf("see \"%s --help\"", cmd.CommandPath())
	if strings.Contains(text, " arg(s), ") {
		// Cobra's text only has the numbers; the usage line names the arguments.
		text = fmt.Sprintf("wrong number of arguments (%s)", text[strings.LastIndexByte(text, ' ')+1:])
		hint = fmt.Sprintf("usage: \"%s\"; %s", strings.TrimSuffix(cmd.UseLine(), " [flags]"), hint)
	}
	if rest, ok := strings.CutPrefix(text, "unknown command "); ok && !cmd.HasSubCommands() {
		argument, _, _ := strings.Cut(rest, " for ")
		text, hint = "unexpected argument "+argument, "a text with spaces needs quotes; "+hint
		if cmd.Flag("message") != nil {
			hint = "a text to send follows --message; " + hint
		}
	}
	if near := flagLike(cmd, text); near != "" {
		hint = fmt.Sprintf("did you mean %s? %s", near, hint)
	}
	if flag, why, ok := strings.Cut(text, ": strconv."); ok {
		text = flag
		if !strings.HasPrefix(why, "ParseBool") {
			text += ": it is not a whole number, or it is too large"
		}
		if strings.HasPrefix(why, "ParseFloat") {
			text = flag + ": it is not a number"
		}
	}
	if flag, _, ok := strings.Cut(text, ": time: "); ok {
		text = flag + ": it is not a duration such as 500ms, 90s, 15m or 24h"
	}
	return usage(errors.New(text), hint)
}

// flagLike is the flag of cmd that is most like the unknown one of cobra's text, or "". A long flag
// behind one hyphen is that flag.
func flagLike(cmd *cobra.Command, text string) (best string) {
	word, ok := strings.CutPrefix(text, "unknown flag: --")
	if _, rest, short := strings.Cut(text, " in -"); short && strings.HasPrefix(text, "unknown shorthand flag: ") {
		word, ok = rest, true
	}
	if !ok {
		return ""
	}
	least := max(1, len(word)/3)
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if d := distance(word, f.Name); !f.Hidden && (d < least || d == least && best == "") {
			best, least = "--"+f.Name, d
		}
	})
	return best
}

// commandLike is the command below cmd whose name is most like word, and how far it is from it. It
// is nil if none is like it.
func commandLike(cmd *cobra.Command, word string) (best *cobra.Command, least int) {
	least = max(1, len(word)/3)
	for _, sub := range cmd.Commands() {
		d := distance(word, sub.Name())
		if strings.HasPrefix(sub.Name(), word) || len(sub.Name()) > 3 && strings.HasPrefix(word, sub.Name()) {
			d = 0
		}
		if sub.IsAvailableCommand() && (d < least || d == least && best == nil) {
			best, least = sub, d
		}
	}
	return best, least
}

// unknownCommand says that word is no command of cmd. The hint names the command that is most like
// it, or the commands one level below that may be meant, as "queue list" for "list".
func unknownCommand(cmd *cobra.Command, word string) error {
	var near []string
	if like, _ := commandLike(cmd, word); like != nil {
		near = append(near, strconv.Quote(like.CommandPath()))
	} else {
		nearest := len(word)
		for _, sub := range cmd.Commands() {
			like, d := commandLike(sub, word)
			if like == nil || !sub.IsAvailableCommand() || d > nearest {
				continue
			}
			if d < nearest {
				near, nearest = nil, d
			}
			near = append(near, strconv.Quote(like.CommandPath()))
		}
	}
	hint := fmt.Sprintf("see \"%s --help\"", cmd.CommandPath())
	switch {
	case len(near) == 1:
		hint = fmt.Sprintf("did you mean %s?", near[0])
	case len(near) > 1:
		hint = fmt.Sprintf("did you mean one of these: %s?", strings.Join(near, ", "))
	}
	return usage(fmt.Errorf("unknown command %q for %q", word, cmd.CommandPath()), hint)
}
