package client_test

import (
	"errors"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/internal/testing/fakebroker"
)

func TestCommand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, p := fakebroker.New(t).Open(client.Config{})
		go func() {
			p.Expect("get_public_key lab")
			p.Send("Public key: AAAA\n")
			p.Expect("declare_queue q")
			p.Send("Error no_queue: Queue 'q' not found\n")
			p.Expect("fetch q")
			p.Send("Message: a {}\n")
			p.Expect("fetch q")
			p.Send("No messages\n")
		}()
		for _, step := range []struct {
			line, reply string
			code        sealmq.Code
		}{
			{"get_public_key lab", "Public key: AAAA", ""},
			{" declare_queue q ", "Error no_queue: Queue 'q' not found", sealmq.NoQueue},
			{"fetch q", "Message: a {}", ""},
			{"fetch q", "No messages", ""},
			{"", "", sealmq.BadArgument},
			{"stats\npurge q", "", sealmq.BadArgument},
			{"consume q", "", sealmq.BadArgument},
			{"publish_batch x k []", "", sealmq.BadArgument},
			{strings.Repeat("x", client.DefaultMaxLineBytes), "", sealmq.TooLarge},
		} {
			reply, err := c.Command(t.Context(), step.line)
			if reply != step.reply || sealmq.CodeOf(err) != step.code || (err != nil) != (step.code != "") {
				t.Errorf("%.40s: %q, %v", step.line, reply, err)
			}
		}
		consume(t, c, p)
		if _, err := c.Command(t.Context(), "fetch q"); sealmq.CodeOf(err) != sealmq.BadArgument {
			t.Errorf("fetch beside a subscription: %v", err)
		}
	})
}

// A command that was sent may have been executed and is not repeated; one that waits for
// a connection is sent on the next.
func TestCommandsAndLostConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := fakebroker.New(t)
		c, p := f.Open(client.Config{})
		purged := make(chan error)
		go func() { _, err := c.Command(t.Context(), "purge q"); purged <- err }()
		p.Expect("purge q")
		p.Conn.Close()
		if err := <-purged; !errors.Is(err, client.ErrInterrupted) {
			t.Errorf("sent: %v", err)
		}
		synctest.Wait()
		go func() { _, err := c.Command(t.Context(), "purge r"); purged <- err }()
		p = f.Accept()
		p.Expect("purge r")
		p.Send("Queue purged 0\n")
		if err := <-purged; err != nil {
			t.Errorf("not sent: %v", err)
		}
	})
}
