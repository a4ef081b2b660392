package text_test

import (
	"strings"
	"testing"

	"github.com/sealmq/sealmq"
)

func TestPublishWithADigest(t *testing.T) {
	n := newNode(t)
	n.bound(t)
	c := n.client(t, "a")
	anew := `{"message_id":"1","sealed":"anew"}`
	c.send("publish_digest x k 0aFF "+message("1"), "publish_digest x k 0aff "+anew, publish("2"), publish("2"),
		"publish_digest x k 0a "+message("1"), "publish_digest x none 0aff "+message("3"))
	c.want("ACK 1", "ACK 1 repeated", "ACK 2", "ACK 2", "Error: Duplicate message 1 ignored",
		"Error: No queues bound to exchange 'x' with routing key 'none'")
	c.do(publish("1"), "Error: Duplicate message 1 ignored")
	for _, line := range [][2]string{
		{"publish_digest x k 0a", "Missing parameters"},
		{"publish_digest x k 0g " + message("4"), "Error: the digest is not hexadecimal"},
		{"publish_digest x k 0 " + message("4"), "Error: the digest is not hexadecimal"},
		{"publish_digest x k " + strings.Repeat("00", sealmq.MaxDigestBytes+1) + " " + message("4"), "Error: the digest is longer than 64 bytes"},
		{"publish_digest x k 0a {}", "Invalid message format: missing field message_id at byte 0"},
		{"codes on", "Codes on"},
		{"publish_digest x k 0b " + message("1"), "Error duplicate: Duplicate message 1 ignored"},
		{"publish_digest x k 0aff " + message("1"), "ACK 1 repeated"},
	} {
		c.do(line[0], line[1])
	}
	c.do("consume q", "Subscribed to queue")
	c.want(push("1"), push("2"))
}
