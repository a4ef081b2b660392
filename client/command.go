package client

import (
	"context"
	"strings"

	"github.com/sealmq/sealmq"
)

// verbFetch marks the one command whose reply looks like a push.
const verbFetch = "fetch"

// Command sends one line and returns the one line that answers it, without its line
// feed. If the reply reports an error, it is returned as well as an error, mostly a
// *sealmq.Error. ErrInterrupted says that the connection was lost before the reply came;
// a command that was not sent yet waits for the next connection.
//
// Commands that change how replies are read (consume, meta, prefetch, publish_batch, and
// fetch beside a subscription) are refused: they would put the client out of step.
func (c *Client) Command(ctx context.Context, line string) (reply string, err error) {
	wait := newCall()
	if err := c.send(ctx, line, wait); err != nil {
		return "", err
	}
	if err := wait.wait(ctx); err != nil {
		if ctx.Err() != nil {
			return "", err
		}
		return wait.reply, err
	}
	return wait.reply, nil
}

// send adds a command to what goes out.
func (c *Client) send(ctx context.Context, line string, wait *call) error {
	line = strings.TrimSpace(line)
	word, _, _ := strings.Cut(line, " ")
	bad := func(message string) error {
		return &sealmq.Error{Code: sealmq.BadArgument, Message: message}
	}
	switch {
	case line == "":
		return bad("the command is empty")
	case strings.ContainsAny(line, "\r\n"):
		return bad("the command is more than one line")
	case len(line) >= c.cfg.MaxLineBytes:
		return &sealmq.Error{Code: sealmq.TooLarge, Message: "the command is longer than the line limit"}
	case word == "consume", word == "meta", word == "prefetch", word == "publish_batch":
		return bad(word + " cannot be sent as a single command")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.out.commands >= MaxPendingCommands {
		if err := c.wait(ctx); err != nil {
			return err
		}
	}
	if c.err != nil {
		return c.err
	}
	e := entry{kind: kindCommand, call: wait}
	if word == verbFetch {
		if c.sub != nil {
			return bad("a client that consumes cannot fetch")
		}
		e.id = verbFetch
	}
	c.out.addLine(line+"\n", e)
	c.kick()
	return nil
}
