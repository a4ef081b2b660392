package main

import (
	"path/filepath"
	"testing"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/pipeline"
	"github.com/sealmq/sealmq/trust"
)

// TestOwnQueueRefuses revokes a role and calls every method of its queue, behind which there is
// none: only a refusal returns.
func TestOwnQueueRefuses(t *testing.T) {
	revoked, err := trust.OpenRevocations(trust.ListConfig{FeedFile: filepath.Join(t.TempDir(), "revocations.json")})
	if err != nil {
		t.Fatal(err)
	}
	if err := revoked.Add(trust.Entry{Scope: trust.ScopeName, Name: string(sealmq.RoleServer)}); err != nil {
		t.Fatal(err)
	}
	n := &node{revoked: revoked}
	n.cfg.Data = t.TempDir()
	q := &ownQueue{own: n.own(sealmq.RoleServer)}
	_, counts := q.Counts(t.Context())
	_, consumer := q.Consumer("worker-1")
	_, _, waiting := q.Waiting(t.Context(), 0, 1)
	_, dead := q.Dead(t.Context(), 1)
	_, requeue := q.Requeue(t.Context(), []string{"a"})
	for what, err := range map[string]error{"counts": counts, "consumer": consumer, "waiting": waiting, "dead": dead, "requeue": requeue} {
		if sealmq.CodeOf(err) != sealmq.Denied {
			t.Errorf("%s: %v", what, err)
		}
	}
	results, err := q.Enqueue(t.Context(), make([]pipeline.Item, 2))
	if err != nil || len(results) != 2 || results[1].Outcome != pipeline.Refused {
		t.Errorf("enqueue: %+v, %v", results, err)
	}
}
