package main

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sealmq/sealmq/internal/durable"
)

// reloadTime is how long "sealmq reload" waits for nodes that look once in lookAge.
const reloadTime = 5 * time.Second

// maxAnswer bounds the answer of a node.
const maxAnswer = 64 << 10

// nodeAnswer is the answer of a node with its name.
type nodeAnswer struct {
	Node string `json:"node"`
	reloadAnswer
}

func newReloadCmd() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "reload",
		Short: "Have the running nodes of this data folder read their configuration again",
		Long: `Have the running nodes of this data folder read their configuration again, and say what each of them did. A node
reads the file that it was started with. The level of the log, rates of the proxy and limits of connections are in effect
at once; what needs a restart is named. If anything is wrong, a node goes on with what it has, and the exit status is 1.

A node does the same on SIGHUP, and when its file changes. It follows certificates and lists of revoked certificates by
itself.`,
	}
	return configured(cmd, func(a call, cfg Config) error {
		list, err := askNodes(a, cfg.Data)
		failed := slices.ContainsFunc(list, func(n nodeAnswer) bool { return len(n.Errors) > 0 })
		err = printList(a, err, list, "", []string{"NODE", "ROLES", "RESULT"}, func(n nodeAnswer) []any {
			return []any{n.Node, strings.Join(n.Roles, ", "), n.sentence()}
		})
		if err == nil && failed {
			err = errors.New("a node cannot use its configuration, so it goes on as before")
		}
		return err
	})
}

// sentence says what a node did.
func (a reloadAnswer) sentence() string {
	var parts []string
	for _, e := range a.Errors {
		parts = append(parts, "error: "+e)
	}
	if len(a.Changed) > 0 {
		parts = append(parts, "changed "+strings.Join(a.Changed, ", "))
	}
	for _, key := range a.Restart {
		parts = append(parts, key+" needs a restart")
	}
	if len(parts) == 0 {
		return "nothing has changed"
	}
	return strings.Join(parts, "; ")
}

// askNodes asks the nodes of a data folder to read their configuration again, and waits for
// their answers.
func askNodes(a call, data string) (list []nodeAnswer, err error) {
	waiting := make(map[string]string) // the files of nodes by name
	files, err := filepath.Glob(filepath.Join(nodesFolder(data), "*.json"))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		waiting[strings.TrimSuffix(filepath.Base(file), ".json")] = file
	}
	if len(waiting) == 0 {
		return nil, withHint(fmt.Errorf("no node runs with the data folder %s", data), "name the folder of a node with --data")
	}
	request := rand.Text()
	// Nothing in it is secret, and the node may be another user.
	if err := durable.WriteFile(durable.OS(), requestFile(data), []byte(request), 0o644); err != nil {
		return nil, err
	}
	tick := time.NewTicker(lookAge / 10)
	defer tick.Stop()
	end := time.After(reloadTime)
	for len(waiting) > 0 {
		select {
		case <-a.ctx.Done():
			return nil, a.ctx.Err()
		case <-end:
			for _, name := range slices.Sorted(maps.Keys(waiting)) {
				a.note("%s does not answer: it was killed, or hangs; it is asked no more until it starts again", name)
				_ = os.Remove(waiting[name])
			}
			clear(waiting)
		case <-tick.C:
			for name, file := range waiting {
				answer := nodeAnswer{Node: name}
				b, err := durable.ReadFile(durable.OS(), file, maxAnswer)
				if err == nil && json.Unmarshal(b, &answer.reloadAnswer) == nil && answer.Request == request {
					list = append(list, answer)
				} else if !durable.IsNotExist(err) {
					continue
				}
				delete(waiting, name)
			}
		}
	}
	if len(list) == 0 {
		return nil, errors.New("no node answers")
	}
	slices.SortFunc(list, func(x, y nodeAnswer) int { return strings.Compare(x.Node, y.Node) })
	return list, nil
}
