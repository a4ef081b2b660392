package client

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/sealmq/sealmq"
)

// ErrClosed says that the client was closed or has given up; what it wraps says why.
var ErrClosed = errors.New("client is closed")

// ErrInterrupted is sealmq.ErrInterrupted: the connection was lost before the reply came,
// and the command may have been executed or not.
var ErrInterrupted = sealmq.ErrInterrupted

// ErrResendTooOld says that the broker was away for longer than it surely remembers a
// message: it may have been stored or not, and to send it again might store it twice.
var ErrResendTooOld = errors.New("the broker was away too long to send an unconfirmed message again safely, and it is not known whether it was stored")

// Retryable reports whether the same publish may succeed later by itself: the broker's
// queue or disk is full, or it is stopping.
func Retryable(err error) bool {
	switch sealmq.CodeOf(err) {
	case sealmq.QueueFull, sealmq.NoStorage, sealmq.Unavailable:
		return true
	}
	return false
}

// permanent reports whether a subscription that was refused so is refused for good.
func permanent(err error) bool {
	return sealmq.CodeOf(err) != "" && !Retryable(err)
}

func (c *Client) closedError(err error) error {
	if c.err != nil {
		return c.err
	}
	if c.life.Err() != nil {
		return ErrClosed
	}
	return err
}

func isUnknownCommand(line []byte) bool { return string(line) == "Unknown command" }

// replyError returns nil for a reply that reports success, and the error that another
// one reports.
func replyError(line []byte) error {
	text := string(line)
	switch {
	case text == "Unknown command":
		return &sealmq.Error{Code: sealmq.Unsupported, Message: "the broker does not know this command"}
	case strings.HasPrefix(text, "Missing "),
		strings.HasPrefix(text, "Invalid message format"),
		strings.HasPrefix(text, "Invalid batch format"):
		return &sealmq.Error{Code: sealmq.BadArgument, Message: lowerFirst(text)}
	}
	for _, prefix := range []string{"Error: ", "Error registering key: ", "Error retrieving key: "} {
		if rest, ok := strings.CutPrefix(text, prefix); ok {
			return &sealmq.Error{Code: codeOfText(rest), Message: rest}
		}
	}
	return nil
}

func lowerFirst(s string) string { return strings.ToLower(s[:1]) + s[1:] }

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

// oneLine makes text fit to stand at the end of a command.
func oneLine(text string, max int) string {
	text = strings.ToValidUTF8(strings.Join(strings.Fields(text), " "), "?")
	if len(text) > max {
		text = strings.ToValidUTF8(text[:max], "")
	}
	return text
}

// codeOfText finds the code behind an error text of the broker. The protocol carries
// texts only; docs/protocol.md keeps these stable.
func codeOfText(text string) sealmq.Code {
	for _, t := range codeTexts {
		if strings.HasPrefix(text, t.prefix) && strings.Contains(text, t.contains) {
			return t.code
		}
	}
	return ""
}

var codeTexts = []struct {
	prefix, contains string
	code             sealmq.Code
}{
	{"internal error (", "", ""},
	{"not allowed", "", sealmq.Denied},
	{"your certificate has no common name", "", sealmq.Denied},
	{"Duplicate message ", " ignored", sealmq.Duplicate},
	{"Exchange '", "' not found", sealmq.NoExchange},
	{"no such exchange", "", sealmq.NoExchange},
	{"Queue '", "' not found", sealmq.NoQueue},
	{"no such queue", "", sealmq.NoQueue},
	{"no key ", "", sealmq.NoKey},
	{"no such key", "", sealmq.NoKey},
	{"No queues bound to exchange '", "", sealmq.Unroutable},
	{"no queue is bound", "", sealmq.Unroutable},
	{"queue '", "' is full", sealmq.QueueFull},
	{"queue '", "' takes sealed messages only", sealmq.NotSealed},
	{"the queue takes sealed messages only", "", sealmq.NotSealed},
	{"the queue is full", "", sealmq.QueueFull},
	{"the message is larger", "", sealmq.TooLarge},
	{"the message is too large", "", sealmq.TooLarge},
	{"the message needs a line", "", sealmq.TooLarge},
	{"line is longer", "", sealmq.TooLarge},
	{"the broker is full", "", sealmq.QueueFull},
	{"the broker's disk is full", "", sealmq.NoStorage},
	{"publishes are refused", "", sealmq.NoStorage},
	{"the broker is stopping", "", sealmq.Unavailable},
	{"the store has", "", sealmq.Unavailable},
	{"the storage engine cannot", "", sealmq.Unsupported},
	{"it exists with other options", "", sealmq.Mismatch},
	{"the key entry does not follow", "", sealmq.Mismatch},
	{"this broker keeps no proven key directory", "", sealmq.Unsupported},
	{"queue '", "' exists with", sealmq.Mismatch},
	{"exchange '", "' exists with", sealmq.Mismatch},
	{"it is still in use", "", sealmq.InUse},
	{"this connection does not hold", "", sealmq.NotHeld},
	{"the limit of ", " is reached", sealmq.LimitReached},
	{"a limit of the broker is reached", "", sealmq.LimitReached},
	{"too many ", "", sealmq.LimitReached},
	{"one connection can consume", "", sealmq.LimitReached},
	{"this connection holds", "", sealmq.LimitReached},
	// What is left is about a name or an argument.
	{"", "", sealmq.BadArgument},
}
