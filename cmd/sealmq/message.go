package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq/api/mainapi"
	"github.com/sealmq/sealmq/pipeline"
)

func newMessageCmd() *cobra.Command {
	return group("message", "Look at the messages of the pipeline", newMessageListCmd(), newMessageShowCmd())
}

// mainCommand completes a command that asks the main server as an administrator.
func mainCommand(cmd *cobra.Command, run func(a call, c *mainapi.ClientWithResponses) error) *cobra.Command {
	f := addIdentityFlags(cmd, "ask")
	mainURL := cmd.Flags().String("main-url", "", "`address` of the main server, https://host:port (default: main.addr of the configuration)")
	return standalone(cmd, func(a call) error {
		c, err := f.mainClient(*mainURL)
		if err != nil {
			return err
		}
		return run(a, c)
	})
}

// mainClient returns a client of the main server at an address, by default the one that the
// configuration names.
func (f *connectFlags) mainClient(address string) (*mainapi.ClientWithResponses, error) {
	files, err := f.files()
	if err != nil {
		return nil, err
	}
	if address, err = f.apiURL("main", address); err != nil {
		return nil, err
	}
	c, err := newAPICaller(files, "main")
	if err != nil {
		return nil, err
	}
	return mainapi.NewClientWithResponses(address, mainapi.WithRequestEditorFn(mainapi.OmitEmpty), mainapi.WithHTTPClient(c))
}

func newMessageListCmd() *cobra.Command {
	var s mainapi.MessageSearch
	cmd := &cobra.Command{Use: "list", Short: "List messages, the newest first", Example: "  sealmq message list --sender +4915200000000"}
	fl := cmd.Flags()
	fl.StringVar(&s.SenderNumber, "sender", "", "only those of this phone `number`")
	fl.StringVar(&s.ClientID, "client", "", "only those of this `client`")
	fl.StringVar((*string)(&s.Status), "status", "", "only those in this `state`: queued, processing, delivered or failed")
	fl.StringVar(&s.Domain, "domain", "", "only those of this `domain`")
	fl.StringVar(&s.MessageID, "id", "", "only those whose id begins with this `text`")
	fl.IntVar(&s.Limit, "limit", 20, fmt.Sprintf("show at most this `number`, up to %d", maxPage))
	checked(cmd, func() error {
		if s.Status != "" {
			if err := oneOf("status", s.Status, pipeline.Queued, pipeline.Processing, pipeline.Delivered, pipeline.Failed); err != nil {
				return err
			}
		}
		return between("limit", s.Limit, 1, maxPage)
	})
	return mainCommand(cmd, func(a call, c *mainapi.ClientWithResponses) error {
		r, err := c.SearchMessagesWithResponse(a.ctx, s)
		if err != nil {
			return err
		}
		head := []string{"MESSAGE", "CLIENT", "SENDER", "STATE", ">ATTEMPTS", "QUEUED", "DELIVERED"}
		return printList(a, nil, r.JSON200.Items, "there are no such messages", head, func(m mainapi.Message) []any {
			return []any{m.MessageID, m.ClientID, m.SenderNumberMasked, string(m.Status), m.AttemptCount, localTime(m.QueuedAt), localTime(m.DeliveredAt)}
		})
	})
}

func newMessageShowCmd() *cobra.Command {
	var clientID string
	cmd := &cobra.Command{Use: "show MESSAGE", Short: "Show a message with its text; the audit log records it"}
	cmd.Flags().StringVar(&clientID, "client", "", "the `client` whose message it is")
	_ = cmd.MarkFlagRequired("client")
	return mainCommand(cmd, func(a call, c *mainapi.ClientWithResponses) error {
		r, err := c.GetMessageContentWithResponse(a.ctx, clientID, a.args[0])
		if err != nil {
			return err
		}
		m := r.JSON200
		return a.facts(nil, m, "message", m.MessageID, "client", m.ClientID, "own key", m.ClientKey, "sender", m.SenderNumberMasked, "state", string(m.Status),
			"attempts", m.AttemptCount, "error", m.ErrorMessage, "queued", localTime(m.QueuedAt), "delivered", localTime(m.DeliveredAt), "text", m.MessageBody)
	})
}

// localTime is a time for a person, or nothing for none.
func localTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return stampText(t)
}
