package text_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

const notHeld = "Error: this connection does not hold the message"

// TestReleaseDoesNotCount: whoever gives a message back uses up none of its deliveries.
func TestReleaseDoesNotCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		c := n.client(t, "a")
		c.do(`declare_queue q {"delivery_limit":1}`, "Queue declared")
		c.do("bind q x k", "Queue bound")
		c.do(publish("1"), "ACK 1")
		for range 5 {
			c.do("fetch q", push("1"))
			c.do("release 1", "RELEASE_CONFIRMED 1")
		}
		c.do("fetch q", push("1"))
		c.do("release 1 delay 1h", "RELEASE_CONFIRMED 1")
		c.do("fetch q", "No messages")
		time.Sleep(61 * time.Minute)
		c.do("meta on", "Meta on")
		c.send("consume q")
		c.want("Subscribed to queue")
		if got := c.next(); !strings.HasSuffix(got, `,"attempt":1,"redelivered":true}`) {
			t.Errorf("received %q", got)
		}
		c.want(push("1"))
		c.do("nack 1", "NACK_CONFIRMED 1")
		if info, _ := n.engine.Queue("q.dead"); info.Ready != 1 {
			t.Error("the last delivery did not count")
		}
	})
}

// TestExtendIsForWhatIsHeld: a confirmation that meant nothing would have a consumer go
// on with what somebody else has by now.
func TestExtendIsForWhatIsHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		c, other := n.client(t, "a"), n.client(t, "b")
		c.do(`declare_queue q {"ack_timeout":"10s"}`, "Queue declared")
		c.do("bind q x k", "Queue bound")
		c.send(publish("1"), publish("2"))
		c.want("ACK 1", "ACK 2")
		c.do("fetch q", push("1"))
		c.do("fetch q", push("2"))
		for range 5 {
			time.Sleep(8 * time.Second)
			c.send("extend 1", "ping", "extend 1", "extend 3")
			c.want("EXTEND_CONFIRMED 1", "Pong", "EXTEND_CONFIRMED 1", notHeld)
			other.do("extend 1", notHeld)
		}
		if info, _ := n.engine.Queue("q"); info.Unacked != 1 || info.Ready != 1 {
			t.Errorf("%+v", info)
		}
		c.do("extend 2", notHeld) // it was taken back
		other.do("fetch q", push("2"))
		c.do("extend 2", notHeld)
		other.do("extend 2", "EXTEND_CONFIRMED 2")
		c.send("extend 1", "ack 1", "extend 1")
		c.want("EXTEND_CONFIRMED 1", "ACK_CONFIRMED 1", notHeld)
		if info, _ := n.engine.Queue("q"); info.Unacked != 1 || info.Ready != 0 || info.Acked != 1 {
			t.Errorf("%+v", info)
		}
	})
}
