package text_test

import (
	"testing"
	"testing/synctest"
	"time"
)

// TestResendsAreBounded: each may cost a search of all queues, which others pay for.
func TestResendsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		n.bound(t)
		c, other := n.client(t, "a"), n.client(t, "a")
		c.do(publish("1"), "ACK 1")
		for range 3 {
			for range 10 {
				c.do("resend 1", "Resend requested")
			}
			for range 5 {
				c.do("resend 1", "Error retrieving message metadata")
			}
			other.do("resend 1", "Resend requested")
			c.do("resend", "Missing message ID")
			time.Sleep(time.Second)
		}
	})
}
