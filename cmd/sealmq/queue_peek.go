package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq/broker"
	"github.com/sealmq/sealmq/client"
	"github.com/sealmq/sealmq/seal"
)

// peekedRow is a waiting message, and what its envelope says in clear.
type peekedRow struct {
	client.PeekedMessage
	Sealed *sealedRow `json:"sealed,omitempty"` // of a message whose body is shown, and is sealed
}

// sealedRow is what an envelope says of itself. Nobody has checked it.
type sealedRow struct {
	Suites    []seal.Suite `json:"suites"` // several where CipherMQ's formats look alike
	Sender    string       `json:"sender,omitempty"`
	Receivers []string     `json:"receivers,omitempty"`
	Keys      []string     `json:"keys,omitempty"` // the beginnings of their fingerprints
}

func newPeekedRow(m client.PeekedMessage) peekedRow {
	r := peekedRow{PeekedMessage: m}
	body := m.BodyBytes
	if len(m.Body) > 0 {
		body = m.Body
	}
	if info, err := seal.Inspect(body); err == nil {
		r.Sealed = &sealedRow{info.Suites, info.Sender, info.Receivers, info.Keys}
	}
	return r
}

// keyDigits are enough of a fingerprint to find it in "sealmq key list".
const keyDigits = len("sha256:") + 16

// cells are the suite, the sender and whom a message is sealed for.
func (r *peekedRow) cells() (suite, sender, to string) {
	switch {
	case len(r.Body)+len(r.BodyBytes) == 0: // the broker has kept a large one to itself
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
	cmd := newAskCmd("peek QUEUE", "Look at the first waiting messages without taking them", cobra.ExactArgs(1), func(a asking) error {
		n, err := a.count("count")
		if err != nil {
			return err
		}
		list, err := a.client.Peek(a.ctx, a.args[0], n)
		if err != nil {
			return err
		}
		rows := make([]peekedRow, len(list))
		t := table{head: []string{"MESSAGE", ">SIZE", "PUBLISHER", "EXCHANGE", "KEY", "PUBLISHED", ">ATTEMPTS", "SUITE", "SENDER", "SEALED FOR", "DIED OF"}}
		for i, m := range list {
			rows[i] = newPeekedRow(m)
			suite, sender, to := rows[i].cells()
			t.add(m.ID, bytesText(m.Size), orDash(m.Publisher), m.Exchange, m.Key, stampText(m.Time), m.Attempts, suite, sender, to, orDash(m.DeathReason))
		}
		if a.asJSON {
			return printJSON(a.out, rows)
		}
		return t.print(a.out, "no messages wait")
	})
	cmd.Long = `Look at the first waiting messages without taking them. Of sealed ones the suite, the sender and the receivers
are shown as their envelopes say in clear, which nobody has checked, and the beginnings of the fingerprints
of the keys that they were sealed for: "sealmq key list" shows the same, so it is seen which of them still wait
for a key that is to be retired. What the broker does not show because it is too large is marked with a dash.`
	cmd.Flags().IntP("count", "n", 10, fmt.Sprintf("how many, up to %d", broker.MaxPeek))
	return cmd
}
