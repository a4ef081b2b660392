package client_test

import (
	"context"
	"io"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/internal/testing/fakebroker"
)

// late is a context that ends just after something has happened: before a call that waits for
// both can see either.
type late struct {
	context.Context
	before func()
}

// lateAfter ends after what before does, and after all that follows from it.
func lateAfter(t *testing.T, before func()) context.Context {
	ctx, cancel := context.WithCancel(t.Context())
	return late{ctx, sync.OnceFunc(func() {
		synctest.Wait() // what the caller sends is sent
		before()
		synctest.Wait()
		cancel()
	})}
}

func (l late) Done() <-chan struct{} {
	l.before()
	return l.Context.Done()
}

// lateTries are enough for a select that finds both to take the wrong one.
const lateTries = 50

// TestAnswerThatArrivesBeforeTheEnd: it counts, also if its caller gets to look only after its
// context has ended.
func TestAnswerThatArrivesBeforeTheEnd(t *testing.T) {
	const subscribed = "Meta ends\nPrefetch 2\nSubscribed to queue\n"
	for name, call := range map[string]func(c *client.Client, after func(reply string) context.Context) error{
		"publish": func(c *client.Client, after func(string) context.Context) error {
			return c.Publish(after("ACK a\n"), message("a"))
		},
		"command": func(c *client.Client, after func(string) context.Context) error {
			reply, err := c.Command(after("Pong\n"), "ping")
			if err == nil && reply != "Pong" {
				t.Errorf("the reply is %q", reply)
			}
			return err
		},
		"flush": func(c *client.Client, after func(string) context.Context) error {
			if err := c.PublishAsync(context.Background(), message("a"), nil); err != nil {
				return err
			}
			return c.Flush(after("ACK a\n"))
		},
		"consume": func(c *client.Client, after func(string) context.Context) error {
			_, err := c.Consume(after(subscribed), "q", 2)
			return err
		},
		"ack": func(c *client.Client, after func(string) context.Context) error {
			s, err := c.Consume(after(subscribed), "q", 2)
			if err != nil {
				return nil // which is another case
			}
			return s.AckWait(after("ACK_CONFIRMED a\n"), of("a")...)
		},
	} {
		t.Run(name, func(t *testing.T) {
			for range lateTries {
				synctest.Test(t, func(t *testing.T) {
					c, p := fakebroker.New(t).Open(client.Config{})
					go io.Copy(io.Discard, p.Conn) // what the client sends is not looked at
					if err := call(c, func(reply string) context.Context { return lateAfter(t, func() { p.Send(reply) }) }); err != nil {
						t.Error(err)
					}
				})
				if t.Failed() {
					break
				}
			}
		})
	}
}
