package mainserver

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/api/mainapi"
	"github.com/sealmq/sealmq/ca"
	"github.com/sealmq/sealmq/internal/httpkit"
	"github.com/sealmq/sealmq/mtls"
)

// LiveConnection is an open connection of a peer that has shown a certificate.
type LiveConnection struct {
	// Component is what it is open to: broker, proxy or main.
	Component      string
	Client, Issuer string // of the identity
	Serial         string // of the certificate
}

// PreviewCertificateRevocation implements mainapi.StrictServerInterface.
func (h *handler) PreviewCertificateRevocation(ctx context.Context, r mainapi.PreviewCertificateRevocationRequestObject) (mainapi.PreviewCertificateRevocationResponseObject, error) {
	c, err := h.find(ctx, r.Fingerprint)
	if err != nil {
		return nil, err
	}
	p, err := h.preview(ctx, c.Name, c.Serial)
	return mainapi.PreviewCertificateRevocation200JSONResponse(p), err
}

// PreviewClientRevocation implements mainapi.StrictServerInterface.
func (h *handler) PreviewClientRevocation(ctx context.Context, r mainapi.PreviewClientRevocationRequestObject) (mainapi.PreviewClientRevocationResponseObject, error) {
	if err := h.knowClient(ctx, r.ClientID); err != nil {
		return nil, err
	}
	p, err := h.preview(ctx, r.ClientID, "")
	return mainapi.PreviewClientRevocation200JSONResponse(p), err
}

// preview says what revoking one certificate of a name, or all of them, would cut off now.
func (h *handler) preview(ctx context.Context, name, serial string) (p mainapi.RevocationPreview, err error) {
	history, err := h.cfg.Authority.HistoryOf(name)
	if err != nil {
		return p, err
	}
	p = mainapi.RevocationPreview{ClientID: name, Listeners: []mainapi.RevocationPreviewListener{}, Roles: []mainapi.RevocationPreviewRole{}}
	var live []LiveConnection
	if h.cfg.Live != nil {
		live, p.Complete = h.cfg.Live(ctx, name)
	}
	p.Complete = p.Complete && !h.followers.any(h.now())
	root := mtls.Issuer(h.cfg.Authority.Root())
	hit := func(c LiveConnection) bool {
		return c.Client == name && (serial == "" || c.Serial == serial && c.Issuer == root)
	}
	listeners, connected := make(map[string]int), make(map[string]bool)
	for _, c := range live {
		if hit(c) {
			p.Connections++
			listeners[c.Component]++
			connected[c.Serial] = true
		}
	}
	for _, component := range slices.Sorted(maps.Keys(listeners)) {
		p.Listeners = append(p.Listeners, mainapi.RevocationPreviewListener{Component: mainapi.RevocationPreviewListenerComponent(component), Connections: listeners[component]})
	}
	own := ""
	if chain := h.cfg.Certificate(); len(chain) > 0 {
		own = mtls.Fingerprint(chain[0])
	}
	for i := range history {
		c := &history[i]
		if h.certificate(c).Status != certActive {
			continue
		}
		if serial != "" && c.Serial != serial {
			p.Remaining++
			continue
		}
		p.Certificates++
		p.Own = p.Own || c.Fingerprint == own
		at := slices.IndexFunc(p.Roles, func(r mainapi.RevocationPreviewRole) bool { return r.Role == c.Role })
		if at < 0 {
			at = len(p.Roles)
			p.Roles = append(p.Roles, mainapi.RevocationPreviewRole{Role: c.Role})
		}
		p.Roles[at].Certificates++
		if connected[c.Serial] {
			p.Roles[at].Connected++
		}
	}
	return p, nil
}

// GetRevocationState implements mainapi.StrictServerInterface.
func (h *handler) GetRevocationState(context.Context, mainapi.GetRevocationStateRequestObject) (mainapi.GetRevocationStateResponseObject, error) {
	list, now := h.cfg.Revocations, h.now()
	version := list.Version()
	s := mainapi.RevocationState{Version: int64(version), Entries: list.Len(), Problems: append([]string{}, list.Problems()...), //nolint:gosec // it counts changes
		Followers: h.followers.states(version, now)}
	crl, err := h.crl.get(version, h.cfg.Authority.CRL)
	switch {
	case errors.Is(err, ca.ErrNoKey):
		s.Problems = append(s.Problems, "The authority's key is not on this server, so the CRL is not refreshed here")
	case err != nil:
		return nil, err
	default:
		s.Crl = mainapi.RevocationListState{Number: crl.List.Number.String(), Entries: len(crl.List.RevokedCertificateEntries), IssuedAt: crl.List.ThisUpdate.UTC(),
			NextUpdate: crl.List.NextUpdate.UTC(), Stale: now.After(crl.List.NextUpdate)}
	}
	return mainapi.GetRevocationState200JSONResponse(s), nil
}

// A follower is a component elsewhere that asks for revocations.
type follower struct {
	name    string
	role    sealmq.Role
	version uint64 // what it has
	asked   time.Time
}

// followerTable has those that have asked within forgetFollower.
type followerTable struct {
	mu   sync.Mutex
	list map[string]follower
}

const (
	// silentAfter is longer than a question may wait for a change.
	silentAfter    = 45 * time.Second
	forgetFollower = 24 * time.Hour
	maxFollowers   = 1000
)

// note takes down that somebody has asked. Several processes that share a certificate are one.
func (f *followerTable) note(c httpkit.Caller, version uint64, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.list == nil {
		f.list = make(map[string]follower)
	}
	f.forget(now)
	if _, known := f.list[c.ID]; known || len(f.list) < maxFollowers {
		f.list[c.ID] = follower{c.ID, c.Role, version, now}
	}
}

// forget removes those that are gone. The lock is held.
func (f *followerTable) forget(now time.Time) {
	maps.DeleteFunc(f.list, func(_ string, x follower) bool { return now.Sub(x.asked) > forgetFollower })
}

// any reports whether anybody follows now.
func (f *followerTable) any(now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, x := range f.list {
		if now.Sub(x.asked) <= silentAfter {
			return true
		}
	}
	return false
}

// states are the followers by name.
func (f *followerTable) states(version uint64, now time.Time) []mainapi.RevocationFollower {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.forget(now)
	list := []mainapi.RevocationFollower{}
	for _, x := range f.list {
		s := mainapi.RevocationFollower{ClientID: x.name, Role: x.role, Version: int64(x.version), AskedAt: x.asked.UTC(), Status: mainapi.RevocationFollowerStatusCurrent} //nolint:gosec // it counts changes
		if x.version < version {
			s.Behind, s.Status = int64(version-x.version), mainapi.RevocationFollowerStatusBehind //nolint:gosec // it counts changes
		}
		if now.Sub(x.asked) > silentAfter {
			s.Status = mainapi.RevocationFollowerStatusSilent
		}
		list = append(list, s)
	}
	slices.SortFunc(list, func(a, b mainapi.RevocationFollower) int { return cmp.Compare(a.ClientID, b.ClientID) })
	return list
}
