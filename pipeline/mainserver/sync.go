package mainserver

import (
	"cmp"
	"context"
	"crypto/x509/pkix"
	"errors"
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
	next, err := rowOf(authority, revoked, *c)
	switch {
	case err != nil || sameRow(&next, c):
		return false, err
	case next.Status == records.Revoked:
		return true, store.RevokeClient(ctx, c.Name, next.Reason)
	case c.Status == records.Revoked:
		return true, store.PutClient(ctx, next)
	}
	return true, store.PutClientCertificate(ctx, next)
}

// sameRow reports whether a row says already what the authority and the list say.
func sameRow(next, c *records.Client) bool {
	return (next.Status == records.Revoked) == (c.Status == records.Revoked) && next.RevokedAt.IsZero() == c.RevokedAt.IsZero() &&
		next.Fingerprint == c.Fingerprint && next.ExpiresAt.Equal(c.ExpiresAt)
}

// rowOf is a client's row as the authority and the list would have it.
func rowOf(authority *ca.Authority, revoked *trust.RevocationList, c records.Client) (records.Client, error) {
	if revoked.RevokesName(c.Name) {
		if c.Status != records.Revoked {
			e, _ := revoked.Find(trust.Certificate{Names: []string{c.Name}})
			c.Status, c.Reason, c.RevokedAt = records.Revoked, cmp.Or(e.Reason, unspecified), time.Time{}
		}
		return c, nil
	}
	if c.Status == records.Revoked {
		c.Status = records.Active
	}
	c.Reason, c.RevokedAt = "", time.Time{}
	history, err := authority.HistoryOf(c.Name)
	if err != nil {
		return c, err
	}
	// Clients with an API key, or of a reverse proxy, have no certificate of ours.
	var last *ca.Issued // of those that are not revoked, the one that ends last
	for i := range history {
		status, entry := authority.StatusOf(history[i], revoked)
		switch {
		case status != ca.Revoked:
			if last == nil || !history[i].NotAfter.Before(last.NotAfter) {
				last = &history[i]
			}
		case !entry.RevokedAt.Before(c.RevokedAt):
			c.RevokedAt, c.Reason = entry.RevokedAt, cmp.Or(entry.Reason, unspecified)
		}
	}
	switch {
	case last != nil:
		c.Fingerprint, c.IssuedAt, c.ExpiresAt = last.Fingerprint, last.NotBefore, last.NotAfter
		c.Reason, c.RevokedAt = "", time.Time{}
	case len(history) > 0 && c.RevokedAt.IsZero(): // by a list that does not say when
		c.RevokedAt = history[len(history)-1].NotBefore
	}
	return c, nil
}

// SyncCertificates adds the rows of certificates that the main server issued while the database
// was away, and marks those as revoked that are. It returns how many rows it has
// changed. It reads all of them: the caller calls it at the start, and when Service.RowsMissing
// says so.
func SyncCertificates(ctx context.Context, store *records.Store, authority *ca.Authority, revoked *trust.RevocationList) (changed int, err error) {
	status := make(map[string]string) // by fingerprint
	for before := int64(0); ; {
		list, err := store.Certificates(ctx, "", before, records.MaxLimit)
		if err != nil {
			return 0, err
		}
		for _, c := range list {
			status[c.Fingerprint], before = c.Status, c.RowID
		}
		if len(list) < records.MaxLimit {
			break
		}
	}
	history, err := authority.History()
	if err != nil {
		return 0, err
	}
	for _, c := range history {
		was, known := status[c.Fingerprint]
		now, entry := authority.StatusOf(c, revoked)
		add, revoke := !known && throughAPI(c.Source), now == ca.Revoked && was != string(ca.Revoked)
		if add {
			if err := addRows(ctx, store, authority, revoked, c); err != nil {
				return changed, err
			}
		}
		if revoke && (add || known) {
			if err := store.RevokeCertificate(ctx, c.Fingerprint, cmp.Or(entry.Reason, unspecified)); err != nil {
				return changed, err
			}
		}
		if add || revoke && known {
			changed++
		}
	}
	return changed, nil
}

// throughAPI reports whether the main server issued what has this source. Commands have no
// database.
func throughAPI(s ca.Source) bool {
	return s == ca.SourceAPI || s == ca.SourceToken || s == ca.SourceRenewal
}

// addRows adds the row of a certificate, and that of its client if there is none.
func addRows(ctx context.Context, store *records.Store, authority *ca.Authority, revoked *trust.RevocationList, c ca.Issued) error {
	_, err := store.Client(ctx, c.Name)
	if errors.Is(err, records.ErrNotFound) {
		var client records.Client
		client, err = rowOf(authority, revoked, records.Client{Name: c.Name, Domain: c.Domain, Status: records.Active, Fingerprint: c.Fingerprint, IssuedAt: c.NotBefore, ExpiresAt: c.NotAfter})
		if err == nil {
			err = store.PutClient(ctx, client)
		}
	}
	if err != nil {
		return err
	}
	subject := pkix.Name{CommonName: c.Name}
	if c.Domain != "" {
		subject.OrganizationalUnit = []string{c.Domain}
	}
	_, err = store.AddCertificate(ctx, records.Certificate{Client: c.Name, Serial: c.Serial, Fingerprint: c.Fingerprint, Subject: subject.String(),
		Role: string(c.Role), NotBefore: c.NotBefore, NotAfter: c.NotAfter, Source: string(ca.SourceAPI)})
	return err
}

// putClient stores a client's row as the authority and the list would have it.
func (h *handler) putClient(ctx context.Context, c records.Client) error {
	next, err := rowOf(h.cfg.Authority, h.cfg.Revocations, c)
	if err == nil {
		err = h.cfg.Store.PutClient(ctx, next)
	}
	if err == nil {
		err = h.checkRow(ctx, c.Name)
	}
	return err
}

// checkRow is called after a row was written. Another act may have come between the look at
// the list and the write, and its own write may have been the earlier one. Since each act
// looks again after its write, the last write agrees with the list.
func (h *handler) checkRow(ctx context.Context, name string) error {
	for {
		c, err := h.cfg.Store.Client(ctx, name)
		if err != nil {
			return err
		}
		if did, err := syncClient(ctx, h.cfg.Store, h.cfg.Authority, h.cfg.Revocations, &c); err != nil || !did {
			return err
		}
	}
}
