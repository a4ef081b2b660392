package mainserver

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/sealmq/sealmq"
	"github.com/sealmq/sealmq/internal/httpkit"
	"github.com/sealmq/sealmq/pipeline/accounts"
	"github.com/sealmq/sealmq/pipeline/records"
)

// The aliases for those who look after accounts.

func (a *aliases) addUsers() {
	managers := []sealmq.Role{sealmq.RoleAdmin, accounts.UserManager}
	a.handle(managers, 0, a.listUsers, "GET /admin/users")
	a.handle(managers, 0, a.createUser, "POST /admin/users")
	a.handle(administrators, 0, a.changeRole, "PUT /admin/users/{id}/role")
	a.handle(managers, 0, a.changeStatus, "PUT /admin/users/{id}/status")
	a.handle(managers, 0, a.setPassword, "PUT /admin/users/{id}/password")
	a.handle(administrators, 0, a.changeClient, "PUT /admin/users/{id}/client")
	a.add(httpkit.Options{Roles: administrators, Success: http.StatusNoContent}, func(r *http.Request) (any, error) {
		id, err := userID(r)
		if err == nil {
			err = a.h.deleteUser(r.Context(), id)
		}
		return nil, err
	}, "DELETE /admin/users/{id}")
}

func userID(r *http.Request) (int64, error) {
	id, err := strconv.ParseInt(r.PathValue("id"), 10, 64)
	if err != nil || id < 1 {
		return 0, httpkit.Invalid(httpkit.Field{Type: "int_parsing", Loc: []any{"path", "id"}, Msg: "The value must be a whole number above 0"})
	}
	return id, nil
}

// roleNamed is a role in any case of letters.
func roleNamed(name string) (sealmq.Role, bool) {
	role := sealmq.Role(strings.ToLower(name))
	return role, slices.Contains(accounts.Roles, role)
}

const badRole = "The value must be one of user, user_manager, operator and admin"

// maxUsers bounds how far pages by number reach. The API's cursors reach everything.
const maxUsers = 10_000

// allUsers are the accounts of a role up to maxUsers; an empty role is all.
func (a *aliases) allUsers(ctx context.Context, role sealmq.Role) ([]userAnswer, error) {
	list := []userAnswer{}
	for f := (accounts.UserFilter{Role: role, Limit: records.MaxLimit}); len(list) < maxUsers; {
		part, err := a.h.cfg.Store.Users(ctx, f)
		if err != nil {
			return nil, err
		}
		for _, u := range part {
			list = append(list, userOf(u))
			f.After = u.ID
		}
		if len(part) < f.Limit {
			break
		}
	}
	return list, nil
}

func (a *aliases) listUsers(r *http.Request) (any, error) {
	q := r.URL.Query()
	role, ok := roleNamed(q.Get("role"))
	if !ok && q.Get("role") != "" {
		return nil, httpkit.Invalid(httpkit.Field{Type: "enum", Loc: []any{"query", "role"}, Msg: badRole})
	}
	p, err := pageOf(r)
	if err != nil {
		return nil, err
	}
	skip, err := queryInt(r, "skip", 0, maxUsers, 0)
	if err != nil {
		return nil, err
	}
	limit, err := queryInt(r, "limit", 1, records.MaxLimit, 100)
	if err != nil {
		return nil, err
	}
	list, err := a.allUsers(r.Context(), role)
	if err != nil {
		return nil, err
	}
	paged := q.Has("page") || q.Has("per_page") || role != ""
	if paged {
		skip, limit = min((p.Page-1)*p.PerPage, maxUsers), p.PerPage
	}
	from := min(skip, len(list))
	part := list[from:min(from+limit, len(list))]
	if !paged {
		return part, nil
	}
	p.Total, p.Pages = len(list), (len(list)+p.PerPage-1)/p.PerPage
	return map[string]any{"users": part, "pagination": p}, nil
}

func (a *aliases) createUser(r *http.Request) (any, error) {
	f := bodyOf(r)
	n := accounts.NewUser{Email: f.text("email", maxSecret, true), Password: f.text("password", maxSecret, true), Name: f.text("name", maxSecret, false), ClientID: f.text("client_id", maxSecret, false),
		MustChange: actor(r.Context()).Role != accounts.Admin}
	if name := f.text("role", maxSecret, false); name != "" {
		var ok bool
		if n.Role, ok = roleNamed(name); !ok {
			f.wrong("enum", "role", badRole)
		}
	}
	if err := f.err(); err != nil {
		return nil, err
	}
	u, err := a.h.createUser(r.Context(), n)
	if errors.Is(err, accounts.ErrEmailTaken) {
		err = httpkit.Errorf(httpkit.CodeConflict, "Email already registered")
	}
	return userOf(u), err
}

// change changes an account by what read finds in the body.
func (a *aliases) change(r *http.Request, read func(*fields, *accounts.Changes)) (any, error) {
	id, err := userID(r)
	if err != nil {
		return nil, err
	}
	f := bodyOf(r)
	var c accounts.Changes
	read(f, &c)
	if err := f.err(); err != nil {
		return nil, err
	}
	u, err := a.h.updateUser(r.Context(), id, c)
	return userOf(u), err
}

func (a *aliases) changeRole(r *http.Request) (any, error) {
	return a.change(r, func(f *fields, c *accounts.Changes) {
		role, ok := roleNamed(f.text("role", maxSecret, true))
		if !ok && len(f.bad) == 0 {
			f.wrong("enum", "role", badRole)
		}
		c.Role = &role
	})
}

func (a *aliases) changeStatus(r *http.Request) (any, error) {
	v, err := a.change(r, func(f *fields, c *accounts.Changes) {
		active, ok := f.o["is_active"].(bool)
		if !ok {
			f.wrong("bool_type", "is_active", "The value must be true or false")
		}
		c.Active = &active
	})
	if errors.Is(err, accounts.ErrOwnAccount) {
		err = &httpkit.Error{Code: httpkit.CodeConflict, Message: "Cannot change your own active status", Status: http.StatusBadRequest}
	}
	return v, err
}

func (a *aliases) changeClient(r *http.Request) (any, error) {
	return a.change(r, func(f *fields, c *accounts.Changes) {
		client := f.text("client_id", maxSecret, false)
		if _, ok := f.o["client_id"]; !ok {
			f.wrong("missing", "client_id", "Field required")
		}
		c.ClientID = &client
	})
}

func (a *aliases) setPassword(r *http.Request) (any, error) {
	id, err := userID(r)
	if err != nil {
		return nil, err
	}
	f := bodyOf(r)
	password := f.text("new_password", maxSecret, true)
	if err := f.err(); err != nil {
		return nil, err
	}
	u, err := a.h.setUserPassword(r.Context(), id, password, actor(r.Context()).Role != accounts.Admin)
	return map[string]string{"status": "success", "message": "Password updated for " + u.Email}, err
}
