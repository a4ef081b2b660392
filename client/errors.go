package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"github.com/sealmq/sealmq"
)

// The errors of a connection, by their names in package sealmq. ErrClosed is returned as well
// when the client has given up.
var (
	ErrClosed      = sealmq.ErrClosed
	ErrInterrupted = sealmq.ErrInterrupted
)

// ErrResendTooOld says that the broker was away for longer than it surely remembers a
// message: it may have been stored or not, and to send it again might store it twice.
var ErrResendTooOld = errors.New("the broker was away too long to send an unconfirmed message again safely, and it is not known whether it was stored")

// Retryable reports whether the same command may succeed later, for example because the
// broker's queue or disk is full, or the broker is stopping.
func Retryable(err error) bool { return sealmq.CodeOf(err).Info().Retry }

// Unreachable reports whether Dial failed because nobody answered in time, or the broker had no
// room: it may be there later. Every other error of Dial says that the address, a certificate
// or the broker is not the right one.
func Unreachable(err error) bool {
	var op *net.OpError
	var address *net.AddrError
	var lookup *net.DNSError
	switch {
	case errors.As(err, &address):
		return false
	case errors.As(err, &lookup):
		return !strings.Contains(lookup.Name, "/") // which is the name of a port
	case errors.As(err, &op):
		return op.Op != "remote error" // an alert of TLS
	}
	return errors.Is(err, errDialTimeout) || errors.Is(err, context.DeadlineExceeded) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || Retryable(err)
}

// orExpired says that the client's certificate has expired, if it has: of that a broker tells no
// more than that it closes the connection.
func (c *Client) orExpired(err error) error {
	if c.cfg.TLS == nil || c.cfg.TLS.GetClientCertificate == nil {
		return err
	}
	own, ownErr := c.cfg.TLS.GetClientCertificate(&tls.CertificateRequestInfo{Version: tls.VersionTLS13})
	if ownErr != nil || own.Leaf == nil || c.cfg.Now().Before(own.Leaf.NotAfter) {
		return err
	}
	return fmt.Errorf("the client's certificate expired on %s, renew it: %w", own.Leaf.NotAfter.UTC().Format(time.DateTime+"Z"), err)
}

// permanent reports whether a subscription that was refused so is refused for good.
func permanent(err error) bool {
	return sealmq.CodeOf(err) != "" && !Retryable(err)
}

// replyError returns nil for a reply that reports success, and the error that another
// one reports. After `codes on` that is "Error <code>: <sentence>".
func replyError(line []byte) error {
	rest, ok := bytes.CutPrefix(line, []byte("Error"))
	if !ok {
		return nil
	}
	code, sentence, ok := strings.Cut(string(rest), ": ")
	switch code = strings.TrimPrefix(code, " "); {
	case !ok:
		return fmt.Errorf("the broker answered %.100q", line)
	case code == codeInternal:
		code = ""
	}
	return &sealmq.Error{Code: sealmq.Code(code), Message: sentence}
}

// codeInternal is the code on the wire of an error without a code: a bug in the broker.
const codeInternal = "internal"

// refusedError explains an answer to `codes on` that does not confirm it.
func refusedError(line []byte) error {
	switch text := string(line); {
	case text == "Unknown command":
		return &sealmq.Error{Code: sealmq.Unsupported, Message: "the broker is older than this client and sends no error codes; upgrade it"}
	case strings.HasPrefix(text, "Error: "):
		// All that a broker says before it reads is that the identity has too many connections.
		return &sealmq.Error{Code: sealmq.LimitReached, Message: strings.TrimPrefix(text, "Error: ")}
	case strings.HasPrefix(text, "HTTP/"):
		return errors.New("an HTTPS server answers at this address, not a broker; check the address")
	}
	return fmt.Errorf("the broker answered a greeting with %q", firstWord(line))
}

// publishError explains a reply to a publish that is not the confirm of this id.
func publishError(line []byte, id string) error {
	if err := replyError(line); err != nil {
		return err
	}
	if other, ok := bytes.CutPrefix(line, prefixAck); ok {
		return &sealmq.Error{Code: sealmq.BadArgument, Message: fmt.Sprintf("the broker confirmed message id %q instead of %q; the body names another one", other, id)}
	}
	return fmt.Errorf("the broker answered a publish with %q", firstWord(line))
}

// settleError explains a reply to an ack, nack, release or extend that does not confirm it.
func settleError(line []byte, e *entry) error {
	word := settleWords[e.kind].reply
	if len(line) == len(word)+len(e.id) && string(line[:len(word)]) == word && string(line[len(word):]) == e.id {
		return nil
	}
	if err := replyError(line); err != nil {
		return err
	}
	return fmt.Errorf("the broker answered an acknowledgement with %q", firstWord(line))
}
