package mainserver

import (
	"context"
	"slices"
	"time"

	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/pipeline/records"
	"github.com/sealmq/sealmq/trust"
)

// SyncClients brings the statuses of the clients in the database to what the authority says:
// names that were revoked, or let in again, by commands or files while the main server did
// not see it. It returns how many rows it has changed. The caller calls it at the start and
// after each change of the list (trust.RevocationList.OnChange, in a goroutine of its own).
func SyncClients(ctx context.Context, store *records.Store, authority *ca.Authority, revoked *trust.RevocationList) (changed int, err error) {
	f := records.ClientFilter{Limit: records.MaxLimit}
	for {
		list, err := store.Clients(ctx, f)
		if err != nil {
			return changed, err
		}
		for i := range list {
			did, err := syncClient(ctx, store, authority, revoked, &list[i])
			if err != nil {
				return changed, err
			}
			if did {
				changed++
			}
			f.After = list[i].Name
		}
		if len(list) < f.Limit {
			return changed, nil
		}
	}
}

func syncClient(ctx context.Context, store *records.Store, authority *ca.Authority, revoked *trust.RevocationList, c *records.Client) (bool, error) {
	whole := revoked.RevokesName(c.Name)
	if whole == (c.Status == records.Revoked) {
		return false, nil
	}
	if whole {
		return true, store.RevokeClient(ctx, c.Name, unspecified)
	}
	history, err := authority.HistoryOf(c.Name)
	if err != nil {
		return false, err
	}
	// Clients with an API key, or of a reverse proxy, have no certificate of ours.
	next := *c
	next.Status, next.Reason, next.RevokedAt = records.Active, "", time.Time{}
	for _, issued := range slices.Backward(history) {
		if status, _ := authority.StatusOf(issued, revoked); status != ca.Revoked {
			next.Fingerprint, next.IssuedAt, next.ExpiresAt = issued.Fingerprint, issued.NotBefore, issued.NotAfter
			break
		}
	}
	return true, store.PutClient(ctx, next)
}
