package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/seal"
	"github.com/sealmq/sealmq/seal/ciphermq"
)

// peekedRow is a waiting message with the readable part of its envelope.
type peekedRow struct {
	sealmq.PeekedMessage
	Sealed *sealedRow `json:"sealed,omitempty"` // only if the body is shown and is sealed
}

// sealedRow is what an envelope says about itself, unverified.
type sealedRow struct {
	Suites    []seal.Suite `json:"suites"` // several if CipherMQ's formats look alike
	Sender    string       `json:"sender,omitempty"`
	Receivers []string     `json:"receivers,omitempty"`
	Keys      []string     `json:"keys,omitempty"` // the beginnings of their fingerprints
}

func newPeekedRow(m sealmq.PeekedMessage) peekedRow {
	r := peekedRow{PeekedMessage: m}
	body := m.BodyBytes
	if len(m.Body) > 0 {
		body = m.Body
	}
	if info, err := seal.Inspect(body, ciphermq.Suites{}); err == nil {
		r.Sealed = &sealedRow{info.Suites, info.Sender, info.Receivers, info.Keys}
	}
	return r
}

// keyDigits is how much of a fingerprint is shown: enough to find it in "sealmq key list".
const keyDigits = len("sha256:") + 16

// cells are the suite, the sender and the receivers.
func (r *peekedRow) cells() (suite, sender, to string) {
	switch {
	case len(r.Body)+len(r.BodyBytes) == 0: // the broker does not show large bodies
		return "-", "-", "-"
	case r.Sealed == nil:
		return "not sealed", "-", "-"
	}
	var suites, receivers []string
	for _, s := range r.Sealed.Suites {
		suites = append(suites, string(s))
	}
	for i, name := range r.Sealed.Receivers {
		if i < len(r.Sealed.Keys) {
			name += " " + r.Sealed.Keys[i][:keyDigits]
		}
		receivers = append(receivers, name)
	}
	return strings.Join(suites, " or "), orDash(r.Sealed.Sender), orDash(strings.Join(receivers, ", "))
}

func newQueuePeekCmd() *cobra.Command {
	var from uint64
	cmd := connected(&cobra.Command{
		Use:   "peek QUEUE",
		Short: "Show the first waiting messages without taking them",
		Long: `Show the first waiting messages without taking them. SEQ is a message's place in the queue; to
see what waits behind the last one, use --from with its SEQ plus 1.

Of a sealed message the suite, the sender, the receivers and the beginnings of their keys' fingerprints are
shown. They come from the readable part of its envelope and are not verified. Compare the fingerprints with
"sealmq key list" to see whether a message still waits for a key that you want to retire. A dash means that
the message is too large for the broker to show its body.`,
	}, func(a call) error {
		n, err := a.count("count")
		if err != nil {
			return err
		}
		list, err := a.client.Peek(a.ctx, a.args[0], from, n)
		rows := make([]peekedRow, len(list))
		for i, m := range list {
			rows[i] = newPeekedRow(m)
		}
		head := []string{">SEQ", "MESSAGE", ">SIZE", "PUBLISHER", "EXCHANGE", "KEY", "PUBLISHED", ">ATTEMPTS", "SUITE", "SENDER", "SEALED FOR", "DIED OF"}
		return printList(a, err, rows, "no messages wait", head, func(r peekedRow) []any {
			suite, sender, to := r.cells()
			return []any{r.Seq, r.ID, bytesText(r.Size), orDash(r.Publisher), r.Exchange, r.Key, stampText(r.Time), r.Attempts, suite, sender, to, orDash(r.DeathReason)}
		})
	})
	cmd.Flags().IntP("count", "n", sealmq.DefaultPeek, fmt.Sprintf("maximum number of messages to show, up to %d", sealmq.MaxPeek))
	cmd.Flags().Uint64Var(&from, "from", 0, "begin at the message with this `SEQ`, or the next one (default: the front)")
	return cmd
}
