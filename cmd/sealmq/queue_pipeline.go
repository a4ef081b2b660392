package main

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq/api/mainapi"
)

// This file has the commands for the pipeline's queue. They ask the main server, which knows
// the queue's kind and changes the messages' rows with their items.

func newQueueStateCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "state", Short: "Show how much is in the pipeline's queue"}
	return mainCommand(cmd, func(a call, c *mainapi.ClientWithResponses) error {
		r, err := c.GetQueueWithResponse(a.ctx)
		if err != nil {
			return err
		}
		q := r.JSON200
		oldest := "none"
		if q.OldestAgeSeconds > 0 {
			oldest = (time.Duration(q.OldestAgeSeconds) * time.Second).String()
		}
		return a.facts(nil, q, "ready", q.Ready, "processing", q.Processing, "retry", q.Retry, "dead", q.Dead, "oldest waits for", oldest)
	})
}

func newQueueDeadCmd() *cobra.Command {
	cmd := &cobra.Command{Use: "dead", Short: "List the pipeline's dead letters, the oldest first"}
	addWatchFlag(cmd)
	limit := cmd.Flags().Int("limit", 20, fmt.Sprintf("show at most this `number`, up to %d", maxPage))
	checked(cmd, func() error { return between("limit", *limit, 1, maxPage) })
	return mainCommand(cmd, func(a call, c *mainapi.ClientWithResponses) error {
		r, err := c.ListDeadWithResponse(a.ctx, &mainapi.ListDeadParams{Limit: *limit})
		if err != nil {
			return err
		}
		head := []string{"MESSAGE", "CLIENT", "QUEUED", ">ATTEMPTS", "REASON"}
		return printList(a, nil, r.JSON200.Items, "there are no dead letters", head, func(d mainapi.DeadItem) []any {
			return []any{d.MessageID, d.ClientID, localTime(d.QueuedAt), d.AttemptCount, d.Reason}
		})
	})
}

// maxPage is the largest page of the API.
const maxPage = 500

func newQueueRequeueCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "requeue [MESSAGE...]",
		Short: "Queue dead letters of the pipeline again",
		Long:  "Queue dead letters of the pipeline again, with their attempts counted from zero: those with these ids, or all.",
	}
	all := cmd.Flags().Bool("all", false, "queue all of them")
	client := cmd.Flags().String("client", "", "the `client` whose messages they are; needed if two clients have the same id")
	return mainCommand(cmd, func(a call, c *mainapi.ClientWithResponses) error {
		if *all == (len(a.args) > 0) {
			return usagef("name messages, or give --all")
		}
		body := mainapi.RequeueDeadJSONRequestBody{All: *all}
		for _, id := range a.args {
			body.Items = append(body.Items, struct {
				ClientID  string `json:"client_id,omitempty,omitzero"`
				MessageID string `json:"message_id"`
			}{*client, id})
		}
		r, err := c.RequeueDeadWithResponse(a.ctx, body)
		if err != nil {
			return err
		}
		return a.report(nil, result{"requeued": r.JSON200.Requeued}, "queued %s again", plural(r.JSON200.Requeued, "message"))
	})
}
