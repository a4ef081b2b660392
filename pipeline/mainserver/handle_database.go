package mainserver

import (
	"context"
	"net/http"
	"time"

	"github.com/sealmq/sealmq/api/mainapi"
	"github.com/sealmq/sealmq/internal/httpkit"
)

// GetDatabase implements mainapi.StrictServerInterface.
func (h *handler) GetDatabase(ctx context.Context, _ mainapi.GetDatabaseRequestObject) (mainapi.GetDatabaseResponseObject, error) {
	d, err := h.database(ctx)
	return mainapi.GetDatabase200JSONResponse(d), err
}

func (h *handler) database(ctx context.Context) (d mainapi.Database, err error) {
	began := time.Now()
	if err := h.cfg.Store.Ping(ctx); err != nil {
		return d, err
	}
	d.AnswerSeconds = time.Since(began).Seconds()
	st, err := h.cfg.Store.DatabaseStatus(ctx)
	if err != nil {
		return d, err
	}
	a := h.cfg.Store.Address()
	d.Kind, d.Name, d.Version, d.Bytes = mainapi.DatabaseKind(st.Dialect), st.Name, st.Version, st.Bytes
	d.Host, d.Port, d.User, d.Path = a.Host, a.Port, a.User, a.Path
	d.Rows = st.Rows
	d.Connections.Limit, d.Connections.Open = st.Pool.MaxOpenConnections, st.Pool.OpenConnections
	d.Connections.InUse, d.Connections.Idle, d.Connections.WaitedSeconds = st.Pool.InUse, st.Pool.Idle, st.Pool.WaitDuration.Seconds()
	return d, nil
}

// The aliases of the design documents about the database, the certificate in use and the proxies.

func (a *aliases) addDatabase() {
	a.handle(administrators, 0, a.databaseStatus, "GET /admin/db/status")
	a.handle(administrators, 0, a.databaseConfig, "GET /admin/db/config")
	a.handle(administrators, 0, a.tlsStatus, "GET /admin/tls/status")
	a.handle(administrators, 0, a.proxiesStatus, "GET /admin/proxies/status")
}

// proxyStatus is a proxy in the design documents' form. Proxies report to the main server, which
// does not know their addresses: the name of the process stands for one.
type proxyStatus struct {
	URL       string       `json:"url"`
	Status    string       `json:"status"`
	CheckedAt httpkit.Time `json:"checked_at"`
}

func (a *aliases) proxiesStatus(*http.Request) (any, error) {
	list := []proxyStatus{}
	for _, c := range a.h.cfg.Service.presence.all(a.h.now()) {
		if c.Role != mainapi.ComponentRoleProxy {
			continue
		}
		p := proxyStatus{URL: c.Name, Status: "online", CheckedAt: httpkit.Time{Time: c.LastSeen}}
		if c.State != mainapi.ComponentStateOnline {
			p.Status = "offline"
		}
		list = append(list, p)
	}
	return map[string]any{"proxies": list}, nil
}

func (a *aliases) databaseStatus(r *http.Request) (any, error) {
	d, err := a.h.database(r.Context())
	c := d.Connections
	return map[string]any{"database_name": d.Name, "size_mb": float64(d.Bytes) / (1 << 20), "table_counts": d.Rows,
		"connection_pool": map[string]any{"pool_size": c.Limit, "checked_in": c.Idle, "checked_out": c.InUse, "overflow": 0, "status": "healthy"}}, err
}

func (a *aliases) databaseConfig(r *http.Request) (any, error) {
	d, err := a.h.database(r.Context())
	return map[string]any{"host": d.Host, "port": d.Port, "user": d.User, "database": d.Name, "pool_size": d.Connections.Limit, "max_overflow": 0}, err
}

func (a *aliases) tlsStatus(*http.Request) (any, error) {
	chain := a.h.cfg.Certificate()
	if len(chain) == 0 {
		return nil, httpkit.Errorf(httpkit.CodeUnavailable, "The server's certificate cannot be read")
	}
	leaf, now := chain[0], a.h.now()
	left := leaf.NotAfter.Sub(now)
	return map[string]any{"is_valid": left > 0 && now.After(leaf.NotBefore), "issuer": leaf.Issuer.String(), "expires_at": httpkit.Time{Time: leaf.NotAfter},
		"days_left": int(left.Hours() / 24)}, nil
}
